package servertest

// Subscribers: real HTTP requests on real sockets, read by net/http's own response reader, so that
// the framing is judged by somebody else. A goroutine for each stream reads; everything else is
// called from the test's goroutine.

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/encode"
)

// An Event is an event as a subscriber got it.
type Event struct {
	Type  string
	Data  string
	ID    uint64 // the last event id after it
	HasID bool   // it came with an id of its own
}

// A Gap is a gap event, with its ids as numbers.
type Gap struct {
	encode.Gap
	After uint64 // 0 where it is no number (a bad Last-Event-ID): see Gap.Gap.After
}

// A Subscriber is a subscription that may be cut and resumed; its events go on in one list.
type Subscriber struct {
	srv    *Server
	topics []string
	header http.Header
	asks   asks

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	stream  *stream       // the present one, nil before the first and after Cut
	events  []Event       // all, gaps among them
	taken   int           // how many of them Next has given
	lastID  string
	address string // of the present or the last stream's socket, as the server sees it
	ends    []error
}

// A stream is one connection.
type stream struct {
	conn   *meter
	begun  bool // the first block is here
	done   chan struct{}
	status int
}

// Subscribe asks for a stream of one topic and waits for its first block: what is published from
// now on is delivered.
func (s *Server) Subscribe(t testing.TB, topic string, ask ...Ask) *Subscriber {
	t.Helper()
	return s.SubscribeAll(t, []string{topic}, ask...)
}

// SubscribeAll is Subscribe for several topics in one stream.
func (s *Server) SubscribeAll(t testing.TB, topics []string, ask ...Ask) *Subscriber {
	t.Helper()
	who := &Subscriber{srv: s, topics: topics, header: http.Header{}, changed: make(chan struct{})}
	for _, a := range ask {
		a(who)
	}
	who.Resume(t)
	t.Cleanup(who.Cut)
	return who
}

// Resume asks for the stream (again), after the last id that was seen, and waits for its first
// block.
func (s *Subscriber) Resume(t testing.TB) {
	t.Helper()
	if err := s.connect(); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	s.wait(t, "the stream's first block", func() bool {
		if s.stream == nil {
			return len(s.ends) > 0
		}
		return s.stream.begun
	})
}

// TryResume is Resume for goroutines that are not the test's; it does not wait for the first block.
func (s *Subscriber) TryResume() error { return s.connect() }

func (s *Subscriber) connect() error {
	s.Cut()
	plain, err := net.Dial("tcp", s.srv.Addr().String())
	if err != nil {
		return err
	}
	conn := &meter{Conn: plain, budget: -1}
	conn.resumed = sync.NewCond(&conn.mu)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(plain, s.request()); err != nil {
		plain.Close()
		return err
	}
	st := &stream{conn: conn, done: make(chan struct{})}
	s.stream, s.address = st, plain.LocalAddr().String()
	go s.read(st)
	return nil
}

// read reads a stream to its end. The stream's goroutine.
func (s *Subscriber) read(st *stream) {
	defer close(st.done)
	err := s.readBody(st)
	st.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, err)
	if s.stream == st {
		s.stream = nil
	}
	s.tell()
}

// readBody returns nil for a clean end: the last chunk was there, and the trailer of a compressed
// stream is right.
func (s *Subscriber) readBody(st *stream) error {
	resp, err := http.ReadResponse(bufio.NewReader(st.conn), nil)
	if err != nil {
		return fmt.Errorf("no response: %w", err)
	}
	if st.status = resp.StatusCode; st.status == http.StatusNoContent {
		return ErrNoContent
	} else if st.status != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		return fmt.Errorf("Content-Type is %q", kind)
	}
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	var decoder encode.Decoder
	buf := make([]byte, 16<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			s.mu.Lock()
			bad := decoder.Decode(buf[:n], func(d *encode.Decoded) { s.take(st, d) })
			s.tell()
			s.mu.Unlock()
			if bad != nil {
				return bad
			}
		}
		if errors.Is(err, io.EOF) {
			if decoder.Open() {
				return errors.New("the stream ended within a frame")
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take takes in a block. With the subscriber's lock.
func (s *Subscriber) take(st *stream, d *encode.Decoded) {
	st.begun = true
	if d.HasID {
		s.lastID = string(d.ID)
	}
	if d.HasData {
		id, _ := strconv.ParseUint(s.lastID, 10, 64)
		s.events = append(s.events, Event{Type: string(d.Type), Data: string(d.Data), ID: id, HasID: d.HasID})
	}
}

// tell wakes whoever waits. With the subscriber's lock.
func (s *Subscriber) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until the condition, which is asked with the subscriber's lock, holds.
func (s *Subscriber) wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		holds, changed := condition(), s.changed
		s.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("%s: waited %s for %s; so far:\n%s", s, patience, what, s.soFar())
		}
	}
}

// soFar is the stream as a failing test shows it: the newest events, and how it ended.
func (s *Subscriber) soFar() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	const shown = 20
	var b strings.Builder
	if n := len(s.events) - shown; n > 0 {
		fmt.Fprintf(&b, "  ... %d events before\n", n)
	}
	for _, e := range s.events[max(0, len(s.events)-shown):] {
		data := e.Data
		if len(data) > 100 {
			data = data[:100] + "..."
		}
		fmt.Fprintf(&b, "  id %d %s %q\n", e.ID, e.Type, data)
	}
	fmt.Fprintf(&b, "  last id %q", s.lastID)
	for _, err := range s.ends {
		if err == nil {
			err = errors.New("clean")
		}
		fmt.Fprintf(&b, "\n  a stream ended: %v", err)
	}
	return b.String()
}

// String names the subscriber in a failing test.
func (s *Subscriber) String() string {
	return fmt.Sprintf("subscriber of %s at %s", strings.Join(s.topics, ","), s.address)
}

// Next waits for the next event that Next and NextGap have not given yet, gaps included.
func (s *Subscriber) Next(t testing.TB) (e Event) {
	t.Helper()
	s.wait(t, "the next event", func() bool {
		if s.taken == len(s.events) {
			return false
		}
		e = s.events[s.taken]
		s.taken++
		return true
	})
	return e
}

// NextGap waits for the next gap and skips the events before it.
func (s *Subscriber) NextGap(t testing.TB) (g Gap) {
	t.Helper()
	for {
		e := s.Next(t)
		if e.Type != "gap" {
			continue
		}
		g, err := ParseGap(e.Data)
		if err != nil {
			t.Fatalf("%s: gap with data %q: %v", s, e.Data, err)
		}
		return g
	}
}

// ParseGap reads the data of a gap event.
func ParseGap(data string) (g Gap, err error) {
	err = json.Unmarshal([]byte(data), &g.Gap)
	g.After, _ = strconv.ParseUint(g.Gap.After, 10, 64)
	return g, err
}

// WaitID waits until the subscriber has an event, or a stream's start, with this id or a later one.
func (s *Subscriber) WaitID(t testing.TB, id uint64) {
	t.Helper()
	s.wait(t, fmt.Sprintf("id %d", id), func() bool {
		last, _ := strconv.ParseUint(s.lastID, 10, 64)
		return last >= id
	})
}

// WaitEnd waits for the end of the present stream and returns nil for a clean one, with its last
// chunk.
func (s *Subscriber) WaitEnd(t testing.TB) (err error) {
	t.Helper()
	s.wait(t, "the stream's end", func() bool {
		if s.stream != nil || len(s.ends) == 0 {
			return false
		}
		err = s.ends[len(s.ends)-1]
		return true
	})
	return err
}

// LastID returns the last id seen, as it came; "" for none.
func (s *Subscriber) LastID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastID
}

// Events returns all events so far, of all its streams, gaps included.
func (s *Subscriber) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Cut closes the connection, wherever in a frame the stream is, and waits until what was read of
// it is in the list. It may be called when there is none.
func (s *Subscriber) Cut() {
	s.mu.Lock()
	st := s.stream
	s.mu.Unlock()
	if st != nil {
		st.conn.Close()
		st.conn.pause(false)
		<-st.done
	}
}

// CutAfter closes the connection as soon as n more bytes of it have been read, the response's
// head included, and returns a channel that is closed then. Any goroutine.
func (s *Subscriber) CutAfter(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	s.stream.conn.setBudget(n)
	return s.stream.done
}

// StopReading leaves what comes in the socket, until Read.
func (s *Subscriber) StopReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.conn.pause(true)
	}
}

// Read goes on reading after StopReading.
func (s *Subscriber) Read() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.conn.pause(false)
	}
}

// A meter is a connection whose reading can be paused, and that ends after a budget of bytes.
type meter struct {
	net.Conn
	mu      sync.Mutex
	resumed *sync.Cond
	paused  bool
	budget  int // bytes that may still be read; negative: no bound
}

var errCut = errors.New("cut by the test")

// Read waits while the meter is paused.
func (m *meter) Read(p []byte) (int, error) {
	for {
		m.mu.Lock()
		for m.paused {
			m.resumed.Wait()
		}
		if m.budget == 0 {
			m.mu.Unlock()
			return 0, errCut
		}
		if m.budget > 0 {
			p = p[:min(len(p), m.budget)]
		}
		m.mu.Unlock()
		n, err := m.Conn.Read(p)
		m.mu.Lock()
		if m.budget > 0 {
			n = min(n, m.budget) // the budget may have come while Read waited
			m.budget -= n
		}
		m.mu.Unlock()
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // paused
		}
		return n, err
	}
}

func (m *meter) pause(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = on
	if on {
		_ = m.SetReadDeadline(time.Unix(1, 0)) // ends the Read that waits now
	} else {
		_ = m.SetReadDeadline(time.Time{})
		m.resumed.Broadcast()
	}
}

func (m *meter) setBudget(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget = n
	if n == 0 {
		_ = m.Conn.Close()
	}
}

// Ended tells whether the present stream has ended, and none has begun since.
func (s *Subscriber) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream == nil && len(s.ends) > 0
}
