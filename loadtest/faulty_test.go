package loadtest

// A server that does wrong on purpose: the judge of the load test's own error.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A faultyServer sends each event to each subscriber as deliver says. It has Penstock's paths.
type faultyServer struct {
	*httptest.Server
	// deliver answers the blocks to send a subscriber for event n (from 1) of a topic; frame is the right one.
	deliver func(subscriber, n int, frame string) []string
	// greet answers what a stream begins with; nil: nothing.
	greet func(lastID string) string
	// resume answers what a stream that comes back gets of what it missed; nil: all.
	resume func(missed []string) []string
	// coding compresses a stream for whoever asks for that; nil: none is.
	coding func(http.ResponseWriter) io.WriteCloser

	mu     sync.Mutex
	topics map[string]*faultyTopic
}

type faultyTopic struct {
	events    []string // frames, all of them
	listeners []*listener
}

// endStream among the blocks of resume ends the stream there.
const endStream = "end"

type listener struct {
	number  int
	blocks  chan string
	waiting chan string // what later sends
	end     chan struct{}
}

func newFaultyServer(t testing.TB) *faultyServer {
	s := &faultyServer{topics: map[string]*faultyTopic{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// told counts runs, and is looked at by each request, so that what a test has told a server before
// its run has happened before: a run's sockets are raw ones, of which the race detector knows nothing.
var told atomic.Int64

func (s *faultyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	told.Load()
	if name, ok := strings.CutPrefix(r.URL.Path, "/publish/"); ok {
		data, _ := io.ReadAll(r.Body)
		s.publish(name, string(data))
		fmt.Fprint(w, `{"id":"1"}`)
		return
	}
	list, ok := strings.CutPrefix(r.URL.Path, "/events/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	names := strings.Split(list, ",")
	w.Header().Set("Content-Type", "text/event-stream")
	l := &listener{blocks: make(chan string, 100_000), waiting: make(chan string, 100_000), end: make(chan struct{})}
	s.mu.Lock()
	topic := s.topic(names[0])
	l.number = len(topic.listeners)
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	first := ": welcome\n\n"
	if s.greet != nil {
		first = s.greet(r.Header.Get("Last-Event-ID"))
	}
	if r.Header.Get("Last-Event-ID") != "" { // of one topic: ids are its numbers
		missed := topic.events[last:]
		if s.resume != nil {
			missed = s.resume(missed)
		}
		for _, b := range missed {
			l.blocks <- b
		}
	} else if s.greet == nil {
		first = fmt.Sprintf("id: %d\n\n", len(topic.events))
	}
	for _, name := range names {
		t := s.topic(name)
		t.listeners = append(t.listeners, l)
	}
	s.mu.Unlock()
	var out io.Writer = w
	if s.coding != nil && r.Header.Get("Accept-Encoding") == "gzip" {
		w.Header().Set("Content-Encoding", "gzip")
		z := s.coding(w)
		defer z.Close()
		out = z
	}
	say := func(b string) {
		io.WriteString(out, b)
		if z, ok := out.(interface{ Flush() error }); ok {
			z.Flush()
		}
		w.(http.Flusher).Flush()
	}
	say(first)
	for {
		select {
		case b := <-l.blocks:
			if b == endStream {
				return
			}
			say(b)
		case <-l.end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *faultyServer) topic(name string) *faultyTopic {
	t := s.topics[name]
	if t == nil {
		t = &faultyTopic{}
		s.topics[name] = t
	}
	return t
}

func (s *faultyServer) publish(name, data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topic(name)
	n := len(t.events) + 1
	frame := fmt.Sprintf("data: %s\nid: %d\n\n", data, n)
	t.events = append(t.events, frame)
	for _, l := range t.listeners {
		blocks := []string{frame}
		if s.deliver != nil {
			blocks = s.deliver(l.number, n, frame)
		}
		for _, b := range blocks {
			l.blocks <- b
		}
	}
}

// forget begins anew.
func (s *faultyServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.topics)
}

// quick is a run short enough for a test: it ends by what was published, on a busy machine too.
func quick(url string) Config {
	c, _ := Scenario("broadcast")
	c.URL, c.Subscribers, c.Rate, c.Events, c.Duration, c.Grace, c.Threads = url, 10, 1000, 200, 20*time.Second, 5*time.Second, 1
	return c
}

func mustRun(t testing.TB, c Config) *Report {
	t.Helper()
	told.Add(1)
	r, err := Run(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// later sends a block to a subscriber of the only topic after a while, in the order of the calls:
// timers that are due together fire in any. The lock is held.
func (s *faultyServer) later(d time.Duration, subscriber int, block string) {
	for _, t := range s.topics {
		l := t.listeners[subscriber]
		l.waiting <- block
		time.AfterFunc(d, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			l.blocks <- <-l.waiting
		})
	}
}
