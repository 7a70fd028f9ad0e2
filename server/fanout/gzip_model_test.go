package fanout

// The model of compressed streams: whatever happens to a stream, and whenever it
// steps over to the shared blocks, it reads what its identity twin reads.

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"penstock/encode"
)

// A twin is one of two subscribers of the same; the other one's coding is not
// compressed.
type twin struct {
	socket  *socket
	sub     Subscription
	chunked encode.Dechunker
	header  bool
	seen    int    // of the socket's wire
	body    []byte // without its framing
	cut     bool   // its client hung up
	frames  []byte // what came that was published, in the order it came
	gaps    int
}

// A model is a house, its twins, and what was published.
type model struct {
	t      *testing.T
	house  *house
	rand   *rand.Rand
	twins  [][2]*twin
	frames map[uint64]string // by id
	topic  map[uint64]string
	order  []uint64
}

func TestWhoeverStepsOverReadsTheIdentityStream(t *testing.T) {
	seeds := 60
	if testing.Short() || poolsForget {
		seeds = 15
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			o := houseOptions{ringSize: 4 << 20, share: 1 + seed%4, heartbeat: time.Second, flushMax: 2 << 10, lagMemory: 8 << 20}
			if seed%5 == 4 {
				o.ringSize, o.maxEvent = 64<<10, 4<<10 // gaps
			}
			m := &model{t: t, house: newHouse(t, o), rand: rand.New(rand.NewPCG(uint64(seed), 6)), frames: map[uint64]string{}, topic: map[uint64]string{}}
			for range 400 {
				m.step()
			}
			m.end(o.ringSize > 64<<10)
		})
	}
}

// step does something.
func (m *model) step() {
	h, r := m.house, m.rand
	switch n := r.IntN(100); {
	case n < 12 && len(m.twins) < 12:
		m.subscribe()
	case n < 45:
		for range 1 + r.IntN(4)*r.IntN(4) {
			m.publish([]string{"a", "a", "a", "b", "other"}[r.IntN(5)])
		}
	case n < 60:
		if p := m.pick(); p != nil {
			h.ground.take(p.socket, r.IntN(3)*r.IntN(80))
		}
	case n < 75:
		if p := m.pick(); p != nil {
			h.ground.take(p.socket, -1)
		}
	case n < 76:
		if p := m.pick(); p != nil {
			p.cut = true
			h.ground.hangUp(p.socket)
		}
	case n < 82:
		for range r.IntN(14) {
			h.ground.time = h.ground.time.Add(tickTime)
			h.pass(m.t)
		}
	default:
		h.pass(m.t)
		if r.IntN(4) == 0 {
			m.read()
		}
	}
}

func (m *model) pick() *twin {
	if len(m.twins) == 0 {
		return nil
	}
	p := m.twins[m.rand.IntN(len(m.twins))][m.rand.IntN(2)]
	if p.socket.closed {
		return nil
	}
	return p
}

func (m *model) publish(name string) {
	r := m.rand
	data := fmt.Sprintf(`{"symbol":"%s","price":%d.%02d,"note":"%s"}`, name, r.IntN(300), r.IntN(100), strings.Repeat("up and down ", r.IntN(1+r.IntN(60))))
	id := m.house.publish(m.t, name, data)
	frame, _ := encode.AppendFrame(nil, &encode.Event{Data: []byte(data)})
	m.frames[id], m.topic[id] = string(encode.AppendID(frame, id)), name
	m.order = append(m.order, id)
}

// subscribe makes a pair of twins.
func (m *model) subscribe() {
	r := m.rand
	topics := [][]string{{"a"}, {"a"}, {"a"}, {"a", "b"}}[r.IntN(4)]
	sub := Subscription{HTTP10: r.IntN(4) == 0, HeartbeatEvent: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		sub.Interval = 50 * time.Millisecond
	}
	switch n := len(m.order); {
	case n > 0 && r.IntN(3) == 0:
		sub.Resume, sub.LastID = true, m.order[r.IntN(n)]
	case r.IntN(4) == 0 && len(topics) == 1: // of several it begins with holes
		sub.Rewind.Count = 1 + r.IntN(20)
	case r.IntN(4) == 0:
		sub.Snapshot = true
	}
	var pair [2]*twin
	for i, coding := range []encode.Coding{encode.Gzip, encode.Identity} {
		s := sub
		s.Coding, s.Topics = coding, append([]string(nil), topics...)
		pair[i] = &twin{sub: s}
		pair[i].socket = m.house.subscribe(&s)
		pair[i].sub.Topics = topics
	}
	m.twins = append(m.twins, pair)
	if r.IntN(2) == 0 {
		m.house.ground.take(pair[r.IntN(2)].socket, r.IntN(400))
	}
}

// read reads what every stream shows until now.
func (m *model) read() {
	for i, pair := range m.twins {
		for _, p := range pair {
			if err := p.read(false); err != nil {
				m.t.Fatalf("pair %d, %s: %v", i, p.sub.Coding, err)
			}
		}
	}
}

// end ends all streams in order, and compares the twins.
func (m *model) end(whole bool) {
	h := m.house
	for _, pair := range m.twins {
		for _, p := range pair {
			h.ground.take(p.socket, -1)
		}
	}
	h.settle(m.t)
	for range 5 { // what an interval holds back
		h.ground.time = h.ground.time.Add(tickTime)
		h.settle(m.t)
	}
	m.read()
	if n := m.rand.IntN(3); n > 0 {
		for range 5 * n { // some have got a heartbeat, some have not
			h.ground.time = h.ground.time.Add(tickTime)
			h.pass(m.t)
		}
	}
	h.sh.inbox.command(command{kind: commandDrain})
	h.settle(m.t)
	for i, pair := range m.twins {
		for _, p := range pair {
			if err := p.read(!p.cut); err != nil {
				m.t.Fatalf("pair %d, %s: %v", i, p.sub.Coding, err)
			}
			if whole && p.gaps > 0 {
				m.t.Errorf("pair %d, %s: %d gaps", i, p.sub.Coding, p.gaps)
			}
			m.judge(p, fmt.Sprintf("pair %d, %s", i, p.sub.Coding))
		}
		if a, b := pair[0], pair[1]; whole && !a.cut && !b.cut && !bytes.Equal(a.frames, b.frames) {
			m.t.Errorf("pair %d: the compressed stream has %d bytes of frames, its twin %d", i, len(a.frames), len(b.frames))
		}
	}
}

// judge holds what came against what was published.
func (m *model) judge(p *twin, who string) {
	var d encode.Decoder
	last := uint64(0)
	err := d.Decode(p.frames, func(e *encode.Decoded) {
		if !e.HasID {
			return // of a snapshot
		}
		id, err := encode.ParseID(e.ID)
		if err != nil || id <= last {
			m.t.Errorf("%s: id %s after %d", who, e.ID, last)
		}
		if want := m.frames[id]; !strings.Contains(want, "data: "+string(e.Data)+"\n") {
			m.t.Errorf("%s: event %d has %q, published was %q", who, id, e.Data, want)
		}
		if last != 0 && p.gaps == 0 {
			for between := last + 1; between < id; between++ {
				if name := m.topic[between]; name == p.sub.Topics[0] || name == p.sub.Topics[len(p.sub.Topics)-1] {
					m.t.Errorf("%s: event %d of %s is missing", who, between, name)
				}
			}
		}
		last = id
	})
	if err != nil {
		m.t.Errorf("%s: %v", who, err)
	}
}

// read reads what the stream shows, from its beginning; whole tells whether it
// has been ended.
func (p *twin) read(whole bool) error {
	wire := p.socket.wire[p.seen:]
	if !p.header {
		i := bytes.Index(wire, []byte("\r\n\r\n"))
		if i < 0 {
			return nil
		}
		p.header = true
		p.seen += i + 4
		wire = wire[i+4:]
	}
	p.seen += len(wire)
	for len(wire) > 0 {
		payload, rest := wire, []byte(nil)
		if !p.sub.HTTP10 {
			var err error
			if payload, rest, err = p.chunked.Next(wire); err != nil {
				return err
			}
		}
		p.body = append(p.body, payload...)
		wire = rest
	}
	whole = whole && p.socket.finished
	if whole && !p.sub.HTTP10 && !p.chunked.Done() {
		return fmt.Errorf("no last chunk")
	}
	plain, err := inflated(p.sub.Coding, bytes.NewReader(p.body), whole)
	if err != nil {
		return err
	}
	if whole {
		again, err := inflated(p.sub.Coding, iotest.OneByteReader(bytes.NewReader(p.body)), true)
		if err != nil || !bytes.Equal(again, plain) {
			return fmt.Errorf("byte by byte: %d bytes of %d, %v", len(again), len(plain), err)
		}
	}
	return p.take(plain)
}

// inflated is what a body shows.
func inflated(coding encode.Coding, body io.Reader, whole bool) ([]byte, error) {
	if coding == encode.Identity {
		return io.ReadAll(body)
	}
	r, err := gzip.NewReader(body)
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(r)
	}
	if !whole && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		err = nil
	}
	return plain, err
}

// take picks out of what the stream showed what was published.
func (p *twin) take(plain []byte) error {
	p.frames, p.gaps = p.frames[:0], 0
	var d encode.Decoder
	return d.Decode(plain, func(e *encode.Decoded) {
		switch {
		case string(e.Type) == "gap":
			p.gaps++
		case !e.HasData || string(e.Type) == "heartbeat":
		default:
			p.frames, _ = encode.AppendFrame(p.frames, &encode.Event{Type: strings.TrimPrefix(string(e.Type), "message"), Data: e.Data})
			if e.HasID {
				id, _ := encode.ParseID(e.ID)
				p.frames = encode.AppendID(p.frames, id)
			} else {
				p.frames = append(p.frames, '\n')
			}
		}
	})
}
