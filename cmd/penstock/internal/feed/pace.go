package feed

// Pace: when each event is due. Run's goroutine.

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Pace says when events are due: evenly at a rate, as they were recorded, or at once.
type Pace struct {
	Rate  float64 // events a second; 0: no such limit
	Speed float64 // of a replay: how many times faster than recorded; 0: no replay

	began bool
	start time.Time // of the replay
	first time.Time // recorded time of its first event
	last  time.Time // when the event before was due
}

// maxCredit is how much of a rate's time that was not used may be made up for, so that a slow
// answer of the server does not lower the rate and a pause of the input does not end in a flood.
const maxCredit = 100 * time.Millisecond

// Due is when a record is to be published; it may be past. Never before the record before it:
// a recording whose times go back is kept in its order.
func (p *Pace) Due(r *Record, now time.Time) time.Time {
	due := now
	switch {
	case p.Speed > 0:
		if !p.began {
			p.start, p.first, p.last = now, r.Time, now
		}
		due = p.start.Add(scale(r.Time.Sub(p.first), p.Speed))
		if due.Before(p.last) {
			due = p.last
		}
	case p.Rate > 0 && p.began:
		due = p.last.Add(scale(time.Second, p.Rate))
		if oldest := now.Add(-maxCredit); due.Before(oldest) {
			due = oldest
		}
	}
	p.began, p.last = true, due
	return due
}

// scale divides a duration, up to what a Duration can hold.
func scale(d time.Duration, by float64) time.Duration {
	x := float64(d) / by
	if x > math.MaxInt64/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(x)
}

// ParseRate reads a rate: 100, 100/s, 6000/m, 10/h, in events a second.
func ParseRate(text string) (float64, error) {
	number, unit, found := strings.Cut(strings.TrimSpace(text), "/")
	if !found {
		unit = "s"
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(number, "_", ""), 64)
	per, ok := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !ok || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf("rate %q: it takes a number above 0, alone or by /s, /m or /h: 100, 100/s, 30/m", text)
	}
	return n / per, nil
}

// ParseTime reads a time as recordings have it: a number since 1970 in seconds, milliseconds,
// microseconds or nanoseconds, told apart by its size (each is right for the years 1973 to 5138),
// or RFC 3339, where a space may stand for the T and UTC is meant without a zone.
func ParseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if whole, fraction, _ := strings.Cut(text, "."); whole != "" {
		if n, err := strconv.ParseInt(whole, 10, 64); err == nil && isDigits(fraction) {
			return since1970(n, fraction), nil
		}
	}
	if x, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(x) < 1e18 {
		return since1970(int64(x), ""), nil // 1.5179e9, as some write what they have rounded anyway
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: it takes a number of seconds, milliseconds or microseconds since 1970, or RFC 3339: 2026-01-02T15:04:05Z", text)
}

// since1970 is the time n units and a decimal fraction of one after 1970. The fraction is not
// taken through a float: that has no room for the microseconds of our days.
func since1970(n int64, fraction string) time.Time {
	unit := time.Second
	switch abs := max(n, -n); {
	case abs >= 1e17:
		unit = time.Nanosecond
	case abs >= 1e14:
		unit = time.Microsecond
	case abs >= 1e11:
		unit = time.Millisecond
	}
	perSecond := int64(time.Second / unit)
	t := time.Unix(n/perSecond, n%perSecond*int64(unit))
	digits := (fraction + "000000000")[:9]
	nanos, _ := strconv.ParseInt(digits, 10, 64)
	part := time.Duration(nanos) * unit / time.Second
	if n < 0 {
		part = -part
	}
	return t.Add(part).UTC()
}

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
