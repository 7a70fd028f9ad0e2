package loadtest

import (
	"math/rand/v2"
	"testing"
)

// A naive judge that keeps every number agrees, on anything that happens within 64 numbers.
func TestJudgeAgreesWithOneThatKeepsAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		start := uint32(1)
		if round%2 == 1 {
			start = ^uint32(0) - 50 // numbers wrap
		}
		var l lane
		l.begin(start)
		seen := map[uint32]bool{}
		lost, doubled, reordered := 0, 0, 0
		next := start
		order := make([]uint32, 0, 200)
		for i := range uint32(150) {
			switch rng.IntN(12) {
			case 0: // lost
			case 1:
				order = append(order, start+i, start+i)
			default:
				order = append(order, start+i)
			}
		}
		for range 40 { // within stretches of 25: nothing moves further than the window
			at := rng.IntN(len(order)/25) * 25
			i, j := at+rng.IntN(25), at+rng.IntN(25)
			order[i], order[j] = order[j], order[i]
		}
		var got struct{ lost, doubled, reordered int }
		for _, seq := range order {
			j := l.judge(seq)
			got.lost += int(j.missing)
			if j.doubled {
				got.doubled++
			}
			if j.reordered {
				got.reordered++
				got.lost--
			}
			if seen[seq] {
				doubled++
			} else if int32(seq-next) < 0 {
				reordered++
			}
			if int32(seq-next) >= 0 {
				next = seq + 1
			}
			seen[seq] = true
		}
		got.lost += int(l.end(start + 149).missing)
		for i := range uint32(150) {
			if !seen[start+i] {
				lost++
			}
		}
		if got.lost != lost || got.doubled != doubled || got.reordered != reordered {
			t.Fatalf("round %d: found %+v, want lost %d doubled %d reordered %d\n%v", round, got, lost, doubled, reordered, order)
		}
	}
}

// The next number of a lane costs next to nothing, and nothing is allocated.
func BenchmarkJudge(b *testing.B) {
	var l lane
	l.begin(1)
	b.ReportAllocs()
	for i := range b.N {
		l.judge(uint32(i + 1))
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(uint32(7), uint32(1), uint32(9), int64(123456789), 100, 0, byte(0))
	f.Add(uint32(7), uint32(1), uint32(9), int64(123456789), 100, 50, byte(1))
	f.Fuzz(func(t *testing.T, run, lane, seq uint32, due int64, size, at int, change byte) {
		if run == 0 || due < 0 || size < MinSize || size > 4096 || at < 0 || at >= size {
			return
		}
		want := stamp{run, lane, seq, due}
		p := appendPayload(nil, want, size)
		if len(p) != size {
			t.Fatalf("%d bytes, want %d", len(p), size)
		}
		if got, v := readPayload(p); v != whole || got != want {
			t.Fatalf("%s: read as %v %+v", p, v, got)
		}
		if got, v := readPayload([]byte(`{"data":"` + string(p) + `"}`)); v != whole || got != want {
			t.Fatalf("%s in an envelope: read as %v %+v", p, v, got)
		}
		// A byte that is changed is found, unless it makes another payload that is whole in itself.
		if change == 0 {
			return
		}
		q := append([]byte(nil), p...)
		q[at] ^= change
		if got, v := readPayload(q); v == whole && got == want {
			t.Fatalf("%s: byte %d changed, and it is taken for %s", q, at, p)
		}
	})
}
