package fanout

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// pairs are n connected sockets: what is sent to the first ends is read from the
// others by drain.
type pairs struct{ near, far []int32 }

func newPairs(b *testing.B, n int) *pairs {
	p := &pairs{}
	for range n {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			b.Fatal(err)
		}
		p.near, p.far = append(p.near, int32(fds[0])), append(p.far, int32(fds[1]))
	}
	b.Cleanup(func() {
		for i := range p.far {
			syscall.Close(int(p.far[i]))
			syscall.Close(int(p.near[i]))
		}
	})
	return p
}

var sink [64 << 10]byte

func (p *pairs) drain() {
	for _, fd := range p.far {
		for {
			if n, err := syscall.Read(int(fd), sink[:]); n < len(sink) || err != nil {
				break
			}
		}
	}
}

// deaf is a system that takes everything and does nothing: what is left is the
// program's own cost.
type deaf struct{ *ground }

func (deaf) send(_ int32, p []byte) (int, syscall.Errno) { return len(p), 0 }

// The cost of a flush for each subscriber: the program's own part, with real
// sends, and the bare sends of the same bytes beside it. The ratio of the last
// two is the result.
func BenchmarkFlush(b *testing.B) {
	for _, size := range []int{150, 2000} {
		const subscribers = 500
		name := func(way string) string { return fmt.Sprintf("%s/subscribers=%d/frame=%dB", way, subscribers, size) }
		data := strings.Repeat("x", size)
		b.Run(name("own"), func(b *testing.B) {
			h := newHouse(b, houseOptions{ringSize: 1 << 20})
			h.sh.sys = deaf{h.ground}
			for range subscribers {
				h.subscribe(&Subscription{Topics: []string{"a"}})
			}
			h.settle(b)
			b.ReportAllocs()
			for b.Loop() {
				h.publish(b, "a", data)
				h.sh.pass(h.ground.time)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/subscribers, "ns/subscriber")
		})
		b.Run(name("sends"), func(b *testing.B) {
			h := newHouse(b, houseOptions{ringSize: 1 << 20})
			p := newPairs(b, subscribers)
			sys, err := newEpoll()
			if err != nil {
				b.Fatal(err)
			}
			defer sys.release()
			h.sh.sys = sys
			for _, fd := range p.near {
				h.sh.stats.streams.Add(1)
				h.sh.inbox.join(joiner{fd, &Subscription{Topics: []string{"a"}}})
			}
			for h.sh.pass(sys.now()) {
			}
			p.drain()
			for b.Loop() {
				b.StopTimer()
				p.drain()
				h.publish(b, "a", data)
				b.StartTimer()
				h.sh.pass(sys.now())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/subscribers, "ns/subscriber")
		})
		b.Run(name("bare"), func(b *testing.B) {
			p := newPairs(b, subscribers)
			bytes := []byte(data + strings.Repeat("h", 40))
			for b.Loop() {
				b.StopTimer()
				p.drain()
				b.StartTimer()
				for _, fd := range p.near {
					rawSend(fd, bytes)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/subscribers, "ns/subscriber")
		})
	}
}

// A pass over many audiences with a topic each: what an event for a small
// audience costs beside its send.
func BenchmarkPassSmallAudiences(b *testing.B) {
	const topics, of = 1000, 10
	h := newHouse(b, houseOptions{ringSize: 1 << 20})
	h.sh.sys = deaf{h.ground}
	for i := range topics * of {
		h.subscribe(&Subscription{Topics: []string{fmt.Sprint("t", i%topics)}})
	}
	h.settle(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.publish(b, fmt.Sprint("t", i%topics), "some data of an event, one hundred bytes or so long")
		h.sh.pass(h.ground.time)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/of, "ns/subscriber")
}

// Joining, without the kernel.
func BenchmarkJoin(b *testing.B) {
	h := newHouse(b, houseOptions{ringSize: 1 << 20})
	h.sh.sys = deaf{h.ground}
	s := h.ground.open()
	b.ReportAllocs()
	for b.Loop() {
		sub := NewSubscription()
		sub.Topics = append(sub.Topics, "a")
		h.sh.stats.streams.Add(1)
		h.sh.inbox.join(joiner{s.fd, sub})
		h.sh.pass(h.ground.time)
	}
}
