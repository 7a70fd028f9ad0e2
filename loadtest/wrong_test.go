package loadtest

// The load test's own error: every fault that the faulty server makes is found, with its exact count.

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Each fault is made once in a hundred events at every third subscriber, at a place of its own.
func TestEveryFaultIsCountedExactly(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		deliver func(n int, frame string) []string
		want    func(each uint64) Tally
	}{
		"lost": {
			func(n int, frame string) []string { return nil },
			func(k uint64) Tally { return Tally{Lost: k} },
		},
		"doubled": {
			func(n int, frame string) []string { return []string{frame, frame} },
			func(k uint64) Tally { return Tally{Doubled: k, IDsBack: k} },
		},
		"torn at its end": {
			func(n int, frame string) []string { return []string{strings.Replace(frame, "~\n", "\n", 1)} },
			func(k uint64) Tally { return Tally{Torn: k} },
		},
		"torn in its midst": {
			func(n int, frame string) []string { return []string{frame[:100] + "\ndata: " + frame[100:]} },
			func(k uint64) Tally { return Tally{Torn: k} },
		},
		"bytes of another event in it": {
			func(n int, frame string) []string { return []string{frame[:110] + "zz" + frame[112:]} },
			func(k uint64) Tally { return Tally{Torn: k} },
		},
		"cut and lost": {
			func(n int, frame string) []string { return []string{"data: ~L12\n\n"} },
			func(k uint64) Tally { return Tally{Torn: k, Lost: k} },
		},
		"a foreign event": {
			func(n int, frame string) []string { return []string{"data: hello\n\n", frame} },
			func(k uint64) Tally { return Tally{Foreign: k} },
		},
		"a gap that was none": {
			func(n int, frame string) []string { return []string{gapBlock(n, n+1, "TOPIC"), frame} },
			func(k uint64) Tally { return Tally{Gaps: k, EmptyGaps: k, IDsBack: 0} },
		},
		"lost and announced": {
			func(n int, frame string) []string { return []string{gapBlock(n-1, n+1, "TOPIC")} },
			func(k uint64) Tally { return Tally{Gaps: k, Announced: k} },
		},
		"a gap of a topic that was not asked for": {
			func(n int, frame string) []string { return []string{gapBlock(n-1, n+1, "other"), frame} },
			func(k uint64) Tally { return Tally{Gaps: k, BadGaps: k} },
		},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFaultyServer(t)
			cfg := quick(s.URL)
			cfg.Events, cfg.Subscribers, cfg.TopicName = 500, 9, "topic"
			var made atomic.Uint64
			s.deliver = func(subscriber, n int, frame string) []string {
				if subscriber%3 == 0 && n%100 == 37 {
					made.Add(1)
					blocks := f.deliver(n, frame)
					for i := range blocks {
						blocks[i] = strings.Replace(blocks[i], "TOPIC", "topic0", 1)
					}
					return blocks
				}
				return []string{frame}
			}
			r := mustRun(t, cfg)
			want := f.want(made.Load())
			got := r.Streams
			have := Tally{
				Lost: got.Lost, Announced: got.Announced, Doubled: got.Doubled, Reordered: got.Reordered, Torn: got.Torn,
				Gaps: got.Gaps, EmptyGaps: got.EmptyGaps, BadGaps: got.BadGaps, IDsBack: got.IDsBack, Foreign: got.Foreign, Stray: got.Stray,
			}
			if have != want || made.Load() != 15 {
				t.Errorf("made %d\nfound %+v\nwant  %+v", made.Load(), have, want)
			}
			if total := r.Publish.Published * 9; got.Events+got.Lost+got.Announced+got.Torn-min(got.Torn, got.Lost) != total {
				t.Errorf("%d delivered, %d lost, %d announced, %d torn: not the %d published to 9", got.Events, got.Lost, got.Announced, got.Torn, total)
			}
		})
	}
}

// Events may follow a gap that lie within it: what else is missing there was announced, and what is
// missing behind it is lost.
func TestGapSpansWhatFollowsIt(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	s.deliver = func(subscriber, n int, frame string) []string {
		if subscriber != 0 {
			return []string{frame}
		}
		switch n {
		case 37:
			return []string{gapBlock(36, 45, "topic0")}
		case 40, 41, 44, 50:
			return nil
		}
		return []string{frame}
	}
	cfg := quick(s.URL)
	cfg.Events, cfg.Subscribers, cfg.TopicName = 100, 2, "topic"
	r := mustRun(t, cfg)
	if r.Streams.Announced != 4 || r.Streams.Lost != 1 || r.Streams.EmptyGaps != 0 || r.Streams.BadGaps != 0 {
		t.Errorf("%+v", r.Streams)
	}
}

func gapBlock(after, before int, topic string) string {
	return fmt.Sprintf("event: gap\ndata: {\"topics\":[\"%s\"],\"after\":\"%d\",\"before\":\"%d\",\"reason\":\"lag\"}\n\n", topic, after, before)
}

// Two neighbours that change places are one event out of order, and none lost.
func TestReorderedIsNotLost(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	held := map[int]string{}
	s.deliver = func(subscriber, n int, frame string) []string { // one publisher: calls are in turn
		if n%50 == 10 {
			held[subscriber] = frame
			return nil
		}
		if n%50 == 13 {
			late := held[subscriber]
			return []string{frame, late}
		}
		return []string{frame}
	}
	r := mustRun(t, quick(s.URL))
	const made = 4 * 10
	if r.Streams.Reordered != made || r.Streams.missing() != 0 || r.Streams.Doubled != 0 {
		t.Errorf("found %d reordered, %d missing, %d doubled; made %d", r.Streams.Reordered, r.Streams.missing(), r.Streams.Doubled, made)
	}
}

// A server that stands still for a while shows it in the latencies, although the publisher also
// stands still then: latency counts from when an event was due.
func TestStalledServerShowsInLatency(t *testing.T) {
	s := newFaultyServer(t)
	stall := 200 * time.Millisecond
	s.deliver = func(subscriber, n int, frame string) []string {
		if subscriber == 0 && n == 50 {
			time.Sleep(stall) // the server's own doing: it holds everybody up
		}
		return []string{frame}
	}
	r := mustRun(t, quick(s.URL))
	// Of 200 events, one a millisecond, all but the first 50 were due while it stood still.
	if r.Latency.P99 < int64(stall/time.Microsecond)*9/10 || r.Latency.P50 < int64(stall/time.Microsecond)/3 {
		t.Errorf("p50 %d us, p99 %d us after a stall of %v", r.Latency.P50, r.Latency.P99, stall)
	}
	if r.Streams.missing() != 0 {
		t.Errorf("%d missing", r.Streams.missing())
	}
}

// Events delivered later are late by that, and nothing else is wrong.
func TestDelayIsMeasured(t *testing.T) {
	s := newFaultyServer(t)
	const delay = 100 * time.Millisecond
	s.deliver = func(subscriber, n int, frame string) []string {
		if subscriber != 0 {
			return []string{frame}
		}
		s.later(delay, 0, frame)
		return nil
	}
	cfg := quick(s.URL)
	cfg.Subscribers = 2
	r := mustRun(t, cfg)
	if r.Streams.missing() != 0 || r.Latency.P90 < int64(delay/time.Microsecond) {
		t.Errorf("p90 %d us, %d missing; half of all were %v late", r.Latency.P90, r.Streams.missing(), delay)
	}
}

// What never comes at the end is lost too, and the run does not wait for ever.
func TestLostAtTheEndIsCounted(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	s.deliver = func(subscriber, n int, frame string) []string {
		if n > 100 {
			return nil
		}
		return []string{frame}
	}
	cfg := quick(s.URL)
	cfg.Grace = 300 * time.Millisecond
	r := mustRun(t, cfg)
	if want := uint64(100 * 10); r.Streams.Lost != want {
		t.Errorf("%d lost, want %d", r.Streams.Lost, want)
	}
}
