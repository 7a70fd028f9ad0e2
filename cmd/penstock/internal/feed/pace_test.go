package feed

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"1517363399":                    "2018-01-31T01:49:59Z",
		"1517363399.650":                "2018-01-31T01:49:59.65Z",
		"1517363399.123456789":          "2018-01-31T01:49:59.123456789Z",
		"1517363399650":                 "2018-01-31T01:49:59.65Z",
		"1517363399650.5":               "2018-01-31T01:49:59.6505Z",
		"1517363399650123":              "2018-01-31T01:49:59.650123Z",
		"1517363399650123456":           "2018-01-31T01:49:59.650123456Z",
		"1.517363399e9":                 "2018-01-31T01:49:59Z",
		"-1.5":                          "1969-12-31T23:59:58.5Z",
		"0":                             "1970-01-01T00:00:00Z",
		" 2018-01-31T01:49:59.650Z ":    "2018-01-31T01:49:59.65Z",
		"2018-01-31T01:49:59.65+02:00":  "2018-01-30T23:49:59.65Z",
		"2018-01-31 01:49:59.650":       "2018-01-31T01:49:59.65Z",
		"2018-01-31 01:49:59.650+01:00": "2018-01-31T00:49:59.65Z",
		"2018-01-31T01:49:59":           "2018-01-31T01:49:59Z",
		"2018-01-31":                    "2018-01-31T00:00:00Z",
	} {
		got, err := ParseTime(text)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("ParseTime(%q) = %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "12:00", "1e30", "NaN", "Inf", "1.2.3", "2018-13-01"} {
		if got, err := ParseTime(text); err == nil {
			t.Errorf("ParseTime(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"100": 100, "100/s": 100, "30/m": 0.5, "7200/h": 2, "1_000": 1000, "0.5": 0.5} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "1/d", "Inf", "NaN", "1/"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", text, got)
		}
	}
}

// A replay keeps the recorded distances, divided by the speed, counted from its first event;
// a time that goes back keeps its place in the order.
func TestReplayKeepsTheRecordedPace(t *testing.T) {
	p := Pace{Speed: 1000}
	for _, c := range []struct{ recorded, now, due time.Duration }{
		{0, 5 * time.Second, 5 * time.Second},
		{time.Second, 5 * time.Second, 5*time.Second + time.Millisecond},
		{time.Hour, 5 * time.Second, 5*time.Second + 3600*time.Millisecond},
		{time.Minute, 9 * time.Second, 5*time.Second + 3600*time.Millisecond},                 // went back
		{2 * time.Hour, 20 * time.Second, 5*time.Second + 7200*time.Millisecond},              // overdue
		{200 * 365 * 24 * time.Hour, 20 * time.Second, 5*time.Second + 1752*3600*time.Second}, // far
	} {
		record := Record{Time: time.Unix(1517363399, 0).Add(c.recorded)}
		if due := p.Due(&record, noon.Add(c.now)); due != noon.Add(c.due) {
			t.Errorf("recorded at +%v, now +%v: due at +%v, want +%v", c.recorded, c.now, due.Sub(noon), c.due)
		}
	}
}

// A rate is even; time lost to a slow server is made up for, up to a tenth of a second.
func TestRateIsEven(t *testing.T) {
	p := Pace{Rate: 100}
	for _, c := range []struct{ now, due time.Duration }{
		{0, 0},
		{0, 10 * time.Millisecond},
		{0, 20 * time.Millisecond},
		{60 * time.Millisecond, 30 * time.Millisecond}, // late, and made up for
		{60 * time.Millisecond, 40 * time.Millisecond},
		{time.Minute, time.Minute - maxCredit}, // a pause is not
		{time.Minute, time.Minute - maxCredit + 10*time.Millisecond},
	} {
		if due := p.Due(&Record{}, noon.Add(c.now)); due != noon.Add(c.due) {
			t.Errorf("now +%v: due at +%v, want +%v", c.now, due.Sub(noon), c.due)
		}
	}
}

func TestNoPaceIsAtOnce(t *testing.T) {
	var p Pace
	for range 3 {
		if due := p.Due(&Record{}, noon); due != noon {
			t.Errorf("due at %v, want now", due)
		}
	}
}
