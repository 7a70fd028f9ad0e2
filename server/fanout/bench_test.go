package fanout

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"penstock/encode"
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
			sys, err := newEpoll(false)
			if err != nil {
				b.Fatal(err)
			}
			defer sys.release()
			if err := sys.open(); err != nil {
				b.Fatal(err)
			}
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

// What a delivery costs in an audience of 1,000 that is compressed once, beside
// the same of one that is not, and beside a compressor for each connection, which
// writes the same events: CPU with real sends, and bytes. "own" is without the
// sends.
func BenchmarkCompressed(b *testing.B) {
	const subscribers = 1000
	data := tradeData(2000)
	for _, batch := range []int{1, 10} {
		for _, way := range []string{"identity", "gzip", "each"} {
			for _, sends := range []bool{false, true} {
				kind := "own"
				if sends {
					kind = "sends"
				}
				b.Run(fmt.Sprintf("%s/batch=%d/%s", kind, batch, way), func(b *testing.B) {
					benchCompressed(b, subscribers, batch, way, sends, data)
				})
			}
		}
	}
}

func benchCompressed(b *testing.B, subscribers, batch int, way string, sends bool, data []string) {
	h := newHouse(b, houseOptions{ringSize: 4 << 20})
	sub := func() *Subscription {
		s := &Subscription{Topics: []string{"a"}}
		if way == "gzip" {
			s.Coding = encode.Gzip
		}
		return s
	}
	var p *pairs
	var sys system = deaf{h.ground}
	if sends {
		p = newPairs(b, subscribers)
		epoll, err := newEpoll(false)
		if err != nil {
			b.Fatal(err)
		}
		defer epoll.release()
		if err := epoll.open(); err != nil {
			b.Fatal(err)
		}
		sys = epoll
	}
	if way == "each" {
		subscribers /= 5 // 800 KB for each
		sys = &each{system: sys, by: map[int32]*gzip.Writer{}}
	}
	h.sh.sys = sys
	for i := range subscribers {
		fd := h.ground.open().fd
		if sends {
			fd = p.near[i]
		}
		h.sh.stats.streams.Add(1)
		h.sh.inbox.join(joiner{fd, sub()})
	}
	for h.sh.pass(sys.now()) {
	}
	n := 0
	pass := func() {
		for range batch {
			h.publish(b, "a", data[n%len(data)])
			n++
		}
		h.sh.pass(sys.now())
	}
	for range 100 {
		if sends {
			p.drain()
		}
		pass()
	}
	if e, ok := sys.(*each); ok {
		e.bytes = 0
	}
	bytes, begun := h.sh.stats.bytesOut.Load(), h.sh.stats.deliveries.Load()
	b.ResetTimer()
	for b.Loop() {
		if sends {
			b.StopTimer()
			p.drain()
			b.StartTimer()
		}
		pass()
	}
	deliveries := float64(h.sh.stats.deliveries.Load() - begun)
	bytes = h.sh.stats.bytesOut.Load() - bytes
	if e, ok := sys.(*each); ok {
		bytes = e.bytes
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
	b.ReportMetric(float64(bytes)/deliveries, "B/delivery")
}

// each is a system that compresses what is sent for each socket by itself.
type each struct {
	system
	by    map[int32]*gzip.Writer
	out   bytes.Buffer
	bytes uint64
}

func (e *each) send(fd int32, p []byte) (int, syscall.Errno) {
	w := e.by[fd]
	if w == nil {
		w, _ = gzip.NewWriterLevel(&e.out, 5)
		e.by[fd] = w
	}
	e.out.Reset()
	w.Write(p)
	w.Flush()
	e.bytes += uint64(e.out.Len())
	if n, errno := e.system.send(fd, e.out.Bytes()); n < e.out.Len() {
		return 0, errno
	}
	return len(p), 0
}

// tradeData are events as an exchange sends them.
func tradeData(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	var all []string
	price, at := 43000_00, 1_700_000_000_000
	for i := range n {
		price += r.IntN(400) - 200
		at += r.IntN(900)
		all = append(all, fmt.Sprintf(`{"e":"trade","s":"BTCUSD","t":%d,"p":"%d.%02d","q":"%d.%04d","T":%d,"m":%v}`,
			900_000_000+i, price/100, price%100, r.IntN(3), r.IntN(10000), at, r.IntN(2) == 0))
	}
	return all
}
