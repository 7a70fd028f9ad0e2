package encode

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// gunzip reads a whole stream, its trailer included.
func gunzip(wire []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(wire))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// Members come, fall behind, are caught up and go at any time, while batches and
// heartbeats are sent, windows begin and end and the level changes: each reads
// exactly the bytes that it should, to a trailer that is right.
func TestEveryMemberReadsTheIdentityStream(t *testing.T) {
	frames := append(trades(t, 1000), fragments(20)...)
	frames = append(frames, ticks(500)...)
	rapid.Check(t, func(t *rapid.T) {
		a := &testAudience{shared: Shared{Level: Best}}
		a.shared.KeepWindow(rapid.Bool().Draw(t, "window"))
		for range 3 {
			a.catchUp(a.join(AppendStart(nil, 2500, firstID, true)), 0)
		}
		events := func() []byte {
			from := rapid.IntRange(0, len(frames)-1).Draw(t, "from")
			n := rapid.SampledFrom([]int{1, 1, 2, 5, 10, 40}).Draw(t, "events")
			return bytes.Join(frames[from:min(from+n, len(frames))], nil)
		}
		members := func(in bool) (some []*testMember) {
			for _, m := range a.members {
				if !m.ended && m.place.In() == in {
					some = append(some, m)
				}
			}
			if len(some) == 0 {
				t.Skip("nobody")
			}
			return some
		}
		one := func(in bool) *testMember { return rapid.SampledFrom(members(in)).Draw(t, "member") }
		t.Repeat(map[string]func(*rapid.T){
			"join":      func(*rapid.T) { a.join(AppendStart(nil, 2500, firstID, true)) },
			"resume":    func(*rapid.T) { a.join(append(AppendStart(nil, 2500, firstID, true), events()...)) },
			"flush":     func(*rapid.T) { a.flush(events(), func(*testMember) bool { return false }) },
			"flush on":  func(*rapid.T) { a.flush(events(), func(*testMember) bool { return false }) },
			"stall":     func(*rapid.T) { m := one(true); a.flush(events(), func(o *testMember) bool { return o == m }) },
			"stall all": func(*rapid.T) { a.flush(events(), func(*testMember) bool { return true }) },
			"catch up":  func(*rapid.T) { a.catchUp(one(false), rapid.IntRange(1, 9000).Draw(t, "slice")) },
			"catch up all": func(*rapid.T) {
				for _, m := range members(false) {
					a.catchUp(m, 1<<30)
				}
			},
			"heartbeat":  func(*rapid.T) { a.startBeat(AppendHeartbeatID(nil, firstID)) },
			"beat":       func(*rapid.T) { a.sendBeat(one(true)) },
			"just alive": func(*rapid.T) { one(true).send(nil, AppendDeflate(nil, nil, nil, Best)) },
			"lap":        func(*rapid.T) { a.leave(one(true)) },
			"end":        func(*rapid.T) { a.end(one(rapid.Bool().Draw(t, "in"))) },
			"window":     func(*rapid.T) { a.shared.KeepWindow(rapid.IntRange(0, 4).Draw(t, "keep") > 0) },
			"level":      func(*rapid.T) { a.shared.Level = rapid.SampledFrom(levels).Draw(t, "level") },
		})
		for i, m := range a.members {
			if !m.ended {
				a.end(m)
			}
			if err := m.check(gunzip); err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
		}
	})
}

// Members of an audience get the same blocks, however many they are, and a joiner
// gets them too when it has had a window's worth.
func TestJoinerStepsOverToTheSharedBlocks(t *testing.T) {
	a := &testAudience{shared: Shared{Level: Best}}
	a.shared.KeepWindow(true)
	nobody := func(*testMember) bool { return false }
	frames := trades(t, 1000)
	for range 3 {
		a.catchUp(a.join([]byte("retry: 1\n\n")), 0)
	}
	for _, frame := range frames[:100] {
		a.flush(frame, nobody)
	}
	if a.made != 100 {
		t.Errorf("100 batches for members that joined together: blocks made %d times", a.made)
	}
	joiner := a.join([]byte("retry: 1\n\n"))
	a.catchUp(joiner, 0)
	had, sizes, count := 0, [Reaches]int{}, [Reaches]int{}
	for _, frame := range frames[100:200] {
		want := ReachNone
		if had >= WindowSize {
			want = ReachAll
		} else if had >= nearWindow {
			want = ReachNear
		}
		at := a.shared.Mark()
		if r := at.Reach(&joiner.place); r != want {
			t.Fatalf("after %d bytes: reach %d, want %d", had, r, want)
		}
		if r := at.Reach(&a.members[0].place); r != ReachAll {
			t.Fatalf("an old member has reach %d", r)
		}
		a.flush(frame, nobody)
		sent, old := joiner.sends[len(joiner.sends)-1], a.members[0].sends[len(a.members[0].sends)-1]
		if want == ReachAll && !bytes.Equal(sent, old) {
			t.Errorf("after %d bytes: %d bytes, an old member gets %d others", had, len(sent), len(old))
		}
		sizes[want] += len(sent)
		count[want]++
		had += len(frame)
	}
	if none, near := sizes[ReachNone]/count[ReachNone], sizes[ReachNear]/count[ReachNear]; near > none/2 {
		t.Errorf("a trade takes %d bytes without a window and %d with a short one, want half", none, near)
	}
	for i, m := range a.members {
		a.end(m)
		if err := m.check(gunzip); err != nil {
			t.Errorf("member %d: %v", i, err)
		}
	}
}

// Under Fast and Stored less of the window is looked at, so that a joiner
// steps over sooner.
func TestLowLevelsStepOverSooner(t *testing.T) {
	var s Shared
	s.KeepWindow(true)
	s.Advance(make([]byte, WindowSize))
	var p Place
	p.Enter(s.Mark())
	for _, c := range []struct {
		had    int
		reach  [Best + 1]Reach
		reason string
	}{
		{0, [...]Reach{ReachAll, ReachNone, ReachNone, ReachNone}, "nothing"},
		{nearWindow - 1, [...]Reach{ReachAll, ReachNone, ReachNone, ReachNone}, "a byte less than a short window"},
		{nearWindow, [...]Reach{ReachAll, ReachAll, ReachNear, ReachNear}, "a short window"},
		{4 << 10, [...]Reach{ReachAll, ReachAll, ReachAll, ReachNear}, "half of the window"},
		{WindowSize - 1, [...]Reach{ReachAll, ReachAll, ReachAll, ReachNear}, "a byte less than the window"},
		{WindowSize, [...]Reach{ReachAll, ReachAll, ReachAll, ReachAll}, "the window"},
	} {
		s.Advance(make([]byte, c.had-int(uint32(s.total)-p.from)))
		for _, level := range levels {
			s.Level = level
			if r := s.Mark().Reach(&p); r != c.reach[level] {
				t.Errorf("who has had %s, at level %d: reach %d, want %d", c.reason, level, r, c.reach[level])
			}
		}
	}
}

// The window is the last bytes of the stream, however they came.
func TestWindowIsTheLastBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Shared
		s.Advance([]byte("before the window"))
		s.KeepWindow(true)
		var all []byte
		for range rapid.IntRange(0, 20).Draw(t, "pieces") {
			p := make([]byte, rapid.SampledFrom([]int{0, 1, 145, 4000, WindowSize - 1, WindowSize, WindowSize + 1, 20_000}).Draw(t, "size"))
			for i := range p {
				p[i] = byte(rand.Uint32())
			}
			s.Advance(p)
			all = append(all, p...)
			if !bytes.Equal(s.window, last(all, WindowSize)) {
				t.Fatalf("%d bytes that are not the last of %d", len(s.window), len(all))
			}
		}
		if cap(s.window) != WindowSize {
			t.Errorf("the window takes %d bytes", cap(s.window))
		}
		s.KeepWindow(true)
		if !bytes.Equal(s.window, last(all, WindowSize)) || !s.KeepsWindow() {
			t.Error("who keeps a window loses it by keeping it")
		}
		if s.KeepWindow(false); s.KeepsWindow() {
			t.Error("a dropped window is kept")
		}
	})
}

// Streams that are older than 4 GiB: a member's count of what it has had wraps, and
// it then gets blocks with less of a window than it could take, never with more.
func TestOldStreamsStayRight(t *testing.T) {
	for _, start := range []uint64{1<<32 - 5000, 1 << 32, 1<<63 + 12345} {
		a := &testAudience{shared: Shared{Level: Best, total: start, crc: 0xdeadbeef}}
		a.shared.KeepWindow(true)
		for range 2 {
			a.catchUp(a.join([]byte(":\n\n")), 0)
		}
		for i, frame := range trades(t, 100) {
			a.flush(frame, func(m *testMember) bool { return i == 60 && m == a.members[0] })
			if i == 70 {
				a.catchUp(a.members[0], 1<<30)
			}
		}
		for i, m := range a.members {
			a.end(m)
			if err := m.check(gunzip); err != nil {
				t.Errorf("from %d, member %d: %v", start, i, err)
			}
		}
	}
	s := Shared{Level: Best, total: 100}
	var p Place
	p.Enter(s.Mark())
	s.KeepWindow(true)
	s.Advance(make([]byte, WindowSize))
	if r := s.Mark().Reach(&p); r != ReachAll {
		t.Errorf("reach %d after a window's worth", r)
	}
	s.total = 100 + 1<<32 + 10
	if r := s.Mark().Reach(&p); r != ReachNone {
		t.Errorf("reach %d ten bytes behind 4 GiB, want the least", r)
	}
}

// Broken promises of the caller end at once, not as a stream that somebody can't read.
func TestPlacePanicsOnBrokenPromises(t *testing.T) {
	var s Shared
	in, out := &Place{}, &Place{}
	in.Enter(s.Mark())
	for name, f := range map[string]func(){
		"Enter":     func() { in.Enter(s.Mark()) },
		"Add":       func() { in.Add([]byte("x")) },
		"AppendEnd": func() { in.AppendEnd(nil) },
		"Leave":     func() { out.Leave(s.Mark()) },
		"Reach":     func() { s.Mark().Reach(out) },
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.HasPrefix(got, "encode: ") || !strings.Contains(got, name) {
					t.Errorf("%s: panic %q", name, got)
				}
			}()
			f()
		}()
	}
	if !in.In() || out.In() {
		t.Error("a panic has moved somebody")
	}
}
