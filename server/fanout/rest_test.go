package fanout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"penstock/encode"
)

// A thousand whom the same batch has stalled hold one copy of it, each from where
// it was cut; each gets the whole stream in the end, and nothing is held then.
func TestThoseStalledByABatchShareItsBytes(t *testing.T) {
	for name, coding := range map[string]encode.Coding{"gzip": encode.Gzip, "latest": encode.Identity} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, houseOptions{ringSize: 1 << 20, lagMemory: 100 << 10})
			const members = 1000
			var sockets []*socket
			for range members {
				s := &Subscription{Topics: []string{"a", "b"}, Coding: coding}
				s.Latest = coding == encode.Identity // its batches are no stretch of the ring
				sockets = append(sockets, h.subscribe(s))
			}
			h.settle(t)
			h.publish(t, "a", "first")
			h.settle(t)
			rng := rand.New(rand.NewPCG(1, 2))
			data := make([]byte, 3000) // which does not compress
			for i := range data {
				data[i] = byte('!' + rng.IntN(90))
			}
			for i, s := range sockets {
				h.ground.take(s, 1+i%2000)
			}
			h.publish(t, "b", string(data))
			h.settle(t)
			if n := h.sh.stats.lagging.Load(); n != members {
				t.Fatalf("%d lag", n)
			}
			if n := h.sh.stats.lagBytes.Load(); n < 2000 || n > 3200 {
				t.Errorf("%d bytes are held, want those of one batch", n)
			}
			copies := map[*held]int{}
			for _, m := range h.sh.laggards {
				copies[m.lag.rest.held]++
			}
			if len(copies) != 1 {
				t.Errorf("%d copies", len(copies))
			}
			if infos := h.sh.furthestBehind(1); len(infos) != 1 || infos[0].Bytes == 0 {
				t.Errorf("told of the slow ones: %+v", infos)
			}
			h.publish(t, "a", "last")
			h.settle(t)
			for i := range sockets[:members/2] {
				h.ground.take(sockets[i], 500) // some of it, and then all
			}
			h.settle(t)
			for _, s := range sockets {
				h.ground.take(s, -1)
			}
			h.settle(t)
			if n := h.sh.stats.lagging.Load(); n != 0 || h.sh.stats.lagBytes.Load() != 0 {
				t.Errorf("%d lag and %d bytes are held in the end", n, h.sh.stats.lagBytes.Load())
			}
			for i, s := range sockets {
				plain, err := plainBody(s.wire, coding)
				if err != nil {
					t.Fatalf("member %d: %v", i, err)
				}
				for _, want := range []string{"data: first\n", "data: " + string(data) + "\n", "data: last\n"} {
					if strings.Count(plain, want) != 1 {
						t.Fatalf("member %d: %.30q is there %d times", i, want, strings.Count(plain, want))
					}
				}
			}
		})
	}
}

// plainBody is what a client shows of a stream that has not ended.
func plainBody(wire []byte, coding encode.Coding) (string, error) {
	_, body, found := strings.Cut(string(wire), "\r\n\r\n")
	if !found {
		return "", fmt.Errorf("no head in %.60q", wire)
	}
	var d encode.Dechunker
	var f inflater
	var plain strings.Builder
	for p := []byte(body); len(p) > 0; {
		piece, rest, err := d.Next(p)
		if err != nil {
			return "", err
		}
		if p = rest; coding == encode.Gzip && len(piece) > 0 {
			if piece, err = f.next(piece); err != nil {
				return "", err
			}
		}
		plain.Write(piece)
	}
	return plain.String(), nil
}

// Over the bound those who share the oldest copy leave, together, for no memory
// is free before; those who were stalled later stay.
func TestLagMemoryCutsThoseWhoShareACopy(t *testing.T) {
	h := newHouse(t, houseOptions{ringSize: 1 << 20, lagMemory: 8 << 10, maxEvent: 16 << 10})
	var old, young []*socket
	for i := range 40 {
		s := h.subscribe(&Subscription{Topics: []string{"a"}, Coding: encode.Gzip})
		if i%2 == 0 {
			old = append(old, s)
		} else {
			young = append(young, s)
		}
	}
	h.settle(t)
	rng := rand.New(rand.NewPCG(3, 4))
	noise := func() string {
		data := make([]byte, 6000)
		for i := range data {
			data[i] = byte('!' + rng.IntN(90))
		}
		return string(data)
	}
	for i, sockets := range [][]*socket{old, young} {
		for _, s := range sockets {
			h.ground.take(s, 100)
		}
		h.publish(t, "a", noise())
		h.settle(t)
		if n := len(h.sh.laggards); n != 20 {
			t.Fatalf("batch %d: %d lag, want 20", i, n)
		}
	}
	if n := h.sh.stats.disconnects[LagMemory].Load(); n != 20 {
		t.Errorf("%d were cut, want the 20 who share the older batch", n)
	}
	for i := range 20 {
		if !old[i].reset || young[i].closed {
			t.Errorf("number %d: the old one reset %t, the young one closed %t", i, old[i].reset, young[i].closed)
		}
	}
}

// One shard may have all of the lag memory. Over it, whoever holds more than an equal part lets go,
// and no more than is too much; whoever holds less keeps all.
func TestLagMemoryIsOfAllShards(t *testing.T) {
	const limit = 40 << 10
	memory := newLagMemory(limit, 4)
	noise := rand.New(rand.NewPCG(5, 6))
	lagging := func(readers int) (*house, []*socket) {
		h := newHouse(t, houseOptions{memory: memory})
		sockets := make([]*socket, readers)
		for i := range sockets {
			name := fmt.Sprint(i)
			sockets[i] = h.subscribe(&Subscription{Topics: []string{name}, Coding: encode.Gzip}) // a rest of its own, that has to be held
			h.settle(t)
			h.ground.take(sockets[i], 10)
			data := make([]byte, 5000)
			for j := range data {
				data[j] = byte('!' + noise.IntN(90))
			}
			h.publish(t, name, string(data))
			h.settle(t)
		}
		return h, sockets
	}
	cut := func(sockets []*socket) (n int) {
		for _, s := range sockets {
			if s.reset {
				n++
			}
		}
		return n
	}
	many, manySockets := lagging(8)
	each := memory.held.Load() / 8
	if cut(manySockets) > 0 || memory.held.Load() <= limit/4 || memory.held.Load() > limit || memory.held.Load()+2*each <= limit {
		t.Fatalf("%d of one shard are cut, %d bytes are held; want none, and nearly the limit of %d bytes", cut(manySockets), memory.held.Load(), limit)
	}
	few, fewSockets := lagging(2)
	if memory.held.Load() <= limit {
		t.Fatalf("%d bytes are held, want more than %d", memory.held.Load(), limit)
	}
	few.pass(t)
	many.pass(t)
	if got := cut(fewSockets); got != 0 {
		t.Errorf("%d of the shard that holds less than its part are cut", got)
	}
	if got := cut(manySockets); memory.held.Load() > limit || memory.held.Load()+each*3/2 < limit || !manySockets[0].reset {
		t.Errorf("%d of the other one are cut, the oldest %t, and %d bytes are held; want no more cut than to %d bytes", got, manySockets[0].reset, memory.held.Load(), limit)
	}
	for _, h := range []*house{many, few} {
		for _, m := range h.sh.slots {
			if m != nil {
				h.sh.leave(m, ClientGone)
			}
		}
	}
	if n := memory.held.Load(); n != 0 {
		t.Errorf("%d bytes are held for nobody", n)
	}
}
