package follow

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"penstock/encode"
)

const wire = ": hello\nretry: 2500\nid: 1763670000000040\n\n" +
	"event: trade\ndata: {\"a\":\"<&\"}\nid: 1763670000000042\n\n" +
	":\n\n" +
	"data: first\ndata: second\x1b[2J\n\n" +
	"event: gap\ndata: {\"topics\":[\"t\"],\"after\":\"5\",\"before\":\"9\",\"reason\":\"lag\"}\nid: 1763670000000050\n\n" +
	"event: gap\ndata: mind it\nid: x\n\n" +
	"event: quote\ndata:\nid: 1763670000000060\n\n"

func write(t *testing.T, o *Output) (text string, err error) {
	t.Helper()
	var b bytes.Buffer
	o.W = &b
	o.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	var d encode.Decoder
	if bad := d.Decode([]byte(wire), func(block *encode.Decoded) {
		if err == nil {
			err = o.Block(block)
		}
	}); bad != nil {
		t.Fatal(bad)
	}
	if e := o.Flush(); e != nil {
		t.Fatal(e)
	}
	return b.String(), err
}

func TestNDJSON(t *testing.T) {
	var gaps []encode.Gap
	o := &Output{Format: NDJSON, Topic: "t", OwnIDs: true, Gap: func(g *encode.Gap) { gaps = append(gaps, *g) }}
	got, err := write(t, o)
	want := `{"topic":"t","event":"trade","data":"{\"a\":\"<&\"}","id":"1763670000000042","time":"2025-11-20T20:20:00.000042Z"}
{"topic":"t","data":"first\nsecond\u001b[2J","time":"2026-01-02T03:04:05.000000Z"}
{"topic":"t","event":"gap","data":"{\"topics\":[\"t\"],\"after\":\"5\",\"before\":\"9\",\"reason\":\"lag\"}","id":"1763670000000050","time":"2025-11-20T20:20:00.000050Z"}
{"topic":"t","event":"gap","data":"mind it","id":"x","time":"2026-01-02T03:04:05.000000Z"}
{"topic":"t","event":"quote","data":"","id":"1763670000000060","time":"2025-11-20T20:20:00.000060Z"}
`
	if err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
	if len(gaps) != 1 || gaps[0].Before != 9 || gaps[0].Reason != "lag" || o.events != 4 {
		t.Errorf("gaps %+v, %d events", gaps, o.events)
	}
}

// Text is for a terminal: what would move its cursor is shown, not done.
func TestText(t *testing.T) {
	old := time.Local
	time.Local = time.UTC
	defer func() { time.Local = old }()
	got, err := write(t, &Output{Format: Text, OwnIDs: true})
	want := `2025-11-20 20:20:00.000  1763670000000042  trade  {"a":"<&"}
2026-01-02 03:04:05.000  first
                         second\x1b[2J
2026-01-02 03:04:05.000  x  gap  mind it
2025-11-20 20:20:00.000  1763670000000060  quote  
`
	if err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

// Raw output means the same to whoever decodes it.
func TestRaw(t *testing.T) {
	got, err := write(t, &Output{Format: Raw})
	want := strings.ReplaceAll(strings.Replace(wire, ": hello\n", ":\n", 1), "data:\n", "data: \n")
	if err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

// Count ends it, counting what is written alone; gaps are always written.
func TestTypesAndCount(t *testing.T) {
	o := &Output{Format: NDJSON, Types: []string{"message", "trade"}, Count: 2}
	got, err := write(t, o)
	if !errors.Is(err, ErrStop) || strings.Count(got, "\n") != 2 {
		t.Errorf("%v, %s", err, got)
	}
	o = &Output{Format: NDJSON, Types: []string{"quote"}, Count: 1}
	got, err = write(t, o)
	if !errors.Is(err, ErrStop) || strings.Count(got, "\n") != 2 || !strings.Contains(got, `"gap"`) || !strings.Contains(got, `"quote"`) {
		t.Errorf("%v, %s", err, got)
	}
}
