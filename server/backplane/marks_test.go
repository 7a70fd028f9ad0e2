package backplane

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Whatever comes in which order, a node is behind by as long as the oldest thing that it has not read
// is known, or by a little more; and not at all once it has read all.
func TestBehindIsTheAgeOfWhatWasNotRead(t *testing.T) {
	const least = 10 * time.Millisecond
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var h behind
		h.begin(least, func() {})
		now := h.base.Add(time.Second)
		var known []mark // all that were ever known
		read, newest := uint64(0), uint64(0)
		for range 2000 {
			now = now.Add(time.Duration(rnd.IntN(20)) * time.Millisecond)
			switch rnd.IntN(4) {
			case 0:
				if read < newest {
					read += 1 + rnd.Uint64N(min(newest-read, 1+rnd.Uint64N(200)))
					h.pass(read)
				}
			default:
				seq := newest + rnd.Uint64N(50)
				if rnd.IntN(8) == 0 {
					seq = read // acknowledged late, or a repeat
				}
				h.known(seq, now)
				newest = max(newest, seq)
				known = append(known, mark{seq: seq, at: now})
			}
			for len(known) > 0 && known[0].seq <= read {
				known = known[1:]
			}
			age := time.Duration(0)
			for _, m := range known {
				if m.seq > read {
					age = now.Sub(m.at)
					break
				}
			}
			by := h.by(now)
			if behind := read < newest; by < age || by > age+least+age/8 || !behind && by > 0 {
				t.Fatalf("seed %d: behind by %s; the oldest that was not read is %s old", seed, by, age)
			}
			if len(h.marks) > mostMarks {
				t.Fatalf("%d marks", len(h.marks))
			}
		}
	}
}

// Marks that are set while the reading passes them do not stay.
func TestNoMarkStaysBehindTheReading(t *testing.T) {
	var h behind
	h.begin(0, func() {})
	for round := range uint64(2000) {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { h.known(round+1, time.Now()) })
		}
		h.pass(round + 1)
		both.Wait()
		if by := h.by(time.Now().Add(time.Hour)); by != 0 {
			t.Fatalf("round %d: behind by %s after all was read", round, by)
		}
	}
}

// What is left is weighed by the pace of late: publishers wait before it is as old as it may be.
func TestBehindIsSeenComing(t *testing.T) {
	const most = 400 * time.Millisecond
	var h behind
	h.begin(most/16, func() {})
	at := func(ms int) time.Time { return h.base.Add(time.Second + time.Duration(ms)*time.Millisecond) }
	for ms := range 200 { // ten come, one is read
		h.known(uint64(10*ms+10), at(ms))
		h.pass(uint64(ms + 1))
		if want := ms > 100; h.exceeds(most, at(ms)) != want {
			t.Fatalf("after %d ms: %v", ms, !want)
		}
	}
	for ms := 200; ms < 2400; ms++ { // one is read each; nothing comes
		h.pass(uint64(ms + 1))
		left := 2000 - ms - 1
		switch exceeds := h.exceeds(most, at(ms)); {
		case left > 420 && !exceeds:
			t.Fatalf("with %d left, which take as many ms, nobody waits", left)
		case left < 50 && exceeds && h.by(at(ms)) <= most:
			t.Fatalf("with %d left publishers wait", left)
		}
	}
	if h.exceeds(most, at(2400)) {
		t.Error("publishers wait although all was read")
	}
}
