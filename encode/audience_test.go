package encode

// An audience as a shard has it, without sockets: what each member is sent, and
// what it should read in the end.

import (
	"bytes"
	"fmt"
	"slices"
)

// A testAudience is its shared stream, its members, and a heartbeat that not
// every member has been sent yet.
type testAudience struct {
	shared  Shared
	members []*testMember
	beat    *testBeat
	made    int // how often blocks were made
}

type testMember struct {
	place  Place
	sends  [][]byte // what it was sent, send by send
	plain  []byte   // what that should be
	shown  []int    // how much of it, after each send
	behind []byte   // plain bytes that it lags behind
	beaten bool     // has been sent the heartbeat
	ended  bool
}

// A testBeat is a heartbeat's blocks: they were made and the shared stream has moved
// on, but its members are sent it one after the other.
type testBeat struct {
	before, behind Mark
	plain          []byte
	blocks         [Reaches][]byte
}

func (m *testMember) send(plain, blocks []byte) {
	m.sends = append(m.sends, slices.Clone(blocks))
	m.plain = append(m.plain, plain...)
	m.shown = append(m.shown, len(m.plain))
}

// join begins a stream: its header, its first block, and plain bytes of its own. It
// lags from its first moment.
func (a *testAudience) join(plain []byte) *testMember {
	m := &testMember{}
	m.place.Add(plain)
	m.send(plain, AppendDeflate(AppendGzipHeader(nil), plain, nil, a.shared.Level))
	a.members = append(a.members, m)
	return m
}

// catchUp sends a lagging member n bytes of what it is behind, and lets it in when
// that was all.
func (a *testAudience) catchUp(m *testMember, n int) {
	plain := m.behind[:min(n, len(m.behind))]
	m.behind = m.behind[len(plain):]
	m.place.Add(plain)
	m.send(plain, AppendDeflate(nil, plain, nil, a.shared.Level))
	if len(m.behind) == 0 {
		m.place.Enter(a.shared.Mark())
		m.beaten = true // it is behind the heartbeat that is on its way
	}
}

// flush sends a batch to all members. Of those that are full, one takes nothing
// and the next a part: it is sent the rest before it lags.
func (a *testAudience) flush(plain []byte, full func(*testMember) bool) {
	a.endBeat()
	at := a.shared.Mark()
	var blocks [Reaches][]byte
	part := false
	for _, m := range a.members {
		switch {
		case m.ended:
		case !m.place.In():
			m.behind = append(m.behind, plain...)
		case full(m) && !part:
			m.place.Leave(at)
			m.behind = append(m.behind, plain...)
			part = true
		default:
			r := at.Reach(&m.place)
			if blocks[r] == nil {
				blocks[r] = a.shared.AppendDeflate(nil, plain, r)
				a.made++
			}
			m.send(plain, blocks[r])
			if full(m) {
				m.place.Leave(at)
				m.place.Add(plain)
				part = false
			}
		}
	}
	a.shared.Advance(plain)
}

// startBeat makes a heartbeat, a batch that members are sent one after the other.
func (a *testAudience) startBeat(plain []byte) {
	a.endBeat()
	b := &testBeat{before: a.shared.Mark(), plain: plain}
	for r := range Reaches {
		b.blocks[r] = a.shared.AppendDeflate(nil, plain, r)
	}
	a.shared.Advance(plain)
	b.behind = a.shared.Mark()
	a.beat = b
	for _, m := range a.members {
		m.beaten = !m.place.In()
	}
}

func (a *testAudience) sendBeat(m *testMember) {
	if a.beat != nil && m.place.In() && !m.beaten {
		m.send(a.beat.plain, a.beat.blocks[a.beat.before.Reach(&m.place)])
		m.beaten = true
	}
}

// endBeat sends the heartbeat to those who have not got it yet.
func (a *testAudience) endBeat() {
	for _, m := range a.members {
		a.sendBeat(m)
	}
	a.beat = nil
}

// leave takes a member out, without the heartbeat if it has not been sent that.
func (a *testAudience) leave(m *testMember) {
	switch {
	case !m.place.In():
	case a.beat != nil && !m.beaten:
		m.place.Leave(a.beat.before)
	default:
		m.place.Leave(a.shared.Mark())
	}
}

// end ends a member's stream in order.
func (a *testAudience) end(m *testMember) {
	a.leave(m)
	m.send(nil, m.place.AppendEnd(nil))
	m.ended = true
}

func (m *testMember) wire() []byte { return bytes.Join(m.sends, nil) }

// check reads a member's stream as a client does.
func (m *testMember) check(read func(wire []byte) ([]byte, error)) error {
	plain, err := read(m.wire())
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", len(plain), len(m.plain), err)
	}
	if !bytes.Equal(plain, m.plain) {
		return fmt.Errorf("reads %d bytes, %.80q at the end, want %d, %.80q", len(plain), last(plain, 80), len(m.plain), last(m.plain, 80))
	}
	return nil
}
