package main

// Ticks: some of the streams that holders have get an event every few milliseconds, with a number;
// the longest time without one is what such a stream sees of a pause. The holder's thread.

import (
	"bytes"
	"strconv"
)

const (
	tickTopic = "scale-tick"
	tickData  = "tick "
	scaleData = "hello" // what an event to all begins with
)

// A ticker is one of those streams.
type ticker struct {
	number  int   // of the newest tick; 0: none yet
	last    int64 // when that came, in nanoseconds since 1970; 0: none since it was told to watch
	longest int64 // between two, since then
}

// take takes what was read, and tells how many ticks are not where they should be.
func (t *ticker) take(b []byte, now int64) (astray int) {
	for {
		_, rest, ok := bytes.Cut(b, []byte("data: "+tickData))
		if !ok {
			return astray
		}
		text, rest, _ := bytes.Cut(rest, []byte("\n"))
		b = rest
		n, _ := strconv.Atoi(string(text))
		if t.number != 0 && n != t.number+1 {
			astray++
		}
		t.number = n
		if t.last != 0 {
			t.longest = max(t.longest, now-t.last)
		}
		t.last = now
	}
}

// sum sums up what streams have had since the holder was told to watch.
func (h *holder) sum() {
	h.now.Fewest, h.now.Most, h.now.Silences = 0, 0, nil
	first := true
	for fd, state := range h.states {
		if state != streaming {
			continue
		}
		n := h.counts[fd]
		if h.now.Most = max(h.now.Most, n); first || n < h.now.Fewest {
			h.now.Fewest = n
		}
		first = false
	}
	for _, t := range h.tickers {
		h.now.Silences = append(h.now.Silences, float64(t.longest)/1e6)
	}
}
