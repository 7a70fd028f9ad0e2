package fanout

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"penstock/encode"
)

// threadTime is the CPU time of the thread: what others on the machine do is not in it.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// What a delivery costs where it is compressed once for so many, beside what it costs
// as it is: two shards in turn, the same events, the thread's CPU time of their
// passes, with real sends. The ratio is the result.
func BenchmarkCompressedBesideIdentity(b *testing.B) {
	for _, c := range []struct {
		name string
		data []string
	}{
		{"trades", tradeData(2000)},
		{"2KB", longData(200)},
	} {
		for _, subscribers := range []int{10, 30, 100, 1000} {
			for _, batch := range []int{1, 10} {
				b.Run(fmt.Sprintf("%s/subscribers=%d/batch=%d", c.name, subscribers, batch), func(b *testing.B) {
					benchBeside(b, subscribers, batch, c.data)
				})
			}
		}
	}
}

// longData are events of 2 KB that repeat themselves as pages do.
func longData(n int) []string {
	var all []string
	rows := tradeData(20 * n)
	for i := range n {
		all = append(all, strings.Join(rows[20*i:20*i+20], `<tr class="row">`))
	}
	return all
}

func benchBeside(b *testing.B, subscribers, batch int, data []string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	type side struct {
		*house
		*pairs
		sys   system
		spent time.Duration
	}
	sides := make([]side, 2)
	for i, coding := range []encode.Coding{encode.Identity, encode.Gzip} {
		sys, err := newEpoll(false)
		if err != nil {
			b.Fatal(err)
		}
		defer sys.release()
		if err := sys.open(); err != nil {
			b.Fatal(err)
		}
		s := side{house: newHouse(b, houseOptions{ringSize: 4 << 20}), pairs: newPairs(b, subscribers), sys: sys}
		s.sh.sys = sys
		for _, fd := range s.near {
			s.sh.stats.streams.Add(1)
			s.sh.inbox.join(joiner{fd, &Subscription{Topics: []string{"a"}, Coding: coding}})
		}
		for s.sh.pass(sys.now()) {
		}
		sides[i] = s
	}
	n := 0
	round := func() {
		for i := range sides {
			s := &sides[i]
			s.drain()
			for k := range batch {
				s.publish(b, "a", data[(n+k)%len(data)])
			}
			begun := threadTime(b)
			s.sh.pass(s.sys.now())
			s.spent += threadTime(b) - begun
		}
		n += batch
	}
	for range 20 {
		round()
	}
	sides[0].spent, sides[1].spent = 0, 0
	for i := range sides {
		if n := sides[i].sh.stats.deliveries.Load(); n != uint64(20*batch*subscribers) {
			b.Fatalf("side %d: %d deliveries", i, n)
		}
	}
	rounds := 0
	for b.Loop() {
		round()
		rounds++
	}
	each := func(s *side) float64 { return float64(s.spent.Nanoseconds()) / float64(rounds*batch*subscribers) }
	b.ReportMetric(each(&sides[0]), "identity-ns/delivery")
	b.ReportMetric(each(&sides[1]), "gzip-ns/delivery")
	b.ReportMetric(each(&sides[1])/each(&sides[0]), "x-identity")
}
