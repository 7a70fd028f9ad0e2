package encode

import (
	"strings"
	"testing"
)

func TestCheckTakesWhatMayBePublished(t *testing.T) {
	for _, e := range []Event{
		{},
		{Type: "trade", Data: []byte("x")},
		{Type: "message"},
		{Type: "Gap"}, // the reserved names are exact
		{Type: " gap"},
		{Type: "gaps"},
		{Type: "größer, mit Leerzeichen: ja"},
		{Type: "a\tb\vc\fd\u0085e\u2028f"}, // none of these ends a line of an event stream
		{Type: strings.Repeat("x", MaxType)},
		{Data: []byte("a\nb\r\nc\rd\x00e")},
		{Data: []byte("\ufeff\ufffd\U0001f600")},
		{Retry: 1},
		{Retry: MaxRetry},
	} {
		if err := e.Check(); err != nil {
			t.Errorf("%.40q: %v", e.Type, err)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		event Event
		want  string // in the error
	}{
		{Event{Type: "gap"}, `event type "gap": reserved for the server`},
		{Event{Type: "hello"}, `event type "hello": reserved for the server`},
		{Event{Type: "end"}, `event type "end": reserved for the server`},
		{Event{Type: "expiring"}, `event type "expiring": reserved for the server`},
		{Event{Type: "heartbeat"}, `event type "heartbeat": reserved for the server`},
		{Event{Type: "open"}, `event type "open": reserved for EventSource`},
		{Event{Type: "error"}, `event type "error": reserved for EventSource`},
		{Event{Type: "a\x00"}, `event type "a\x00": byte 0x00 at 1`},
		{Event{Type: "\na"}, `byte 0x0a at 0`},
		{Event{Type: "ab\rc"}, `byte 0x0d at 2`},
		{Event{Type: "a\xff"}, `not UTF-8 at byte 1`},
		{Event{Type: strings.Repeat("x", MaxType+1)}, `16777208 bytes; at most 16777207`},
		{Event{Data: []byte("ab\xc3(")}, `data: byte 0xc3 at 2 of 4 is not UTF-8`},
		{Event{Data: []byte("\xed\xa0\x80")}, `data: byte 0xed at 0 of 3`}, // a surrogate
		{Event{Data: []byte("\ufffd\xc0\x80")}, `data: byte 0xc0 at 3 of 5`},
		{Event{Retry: -1}, `retry -1: out of range; 1 to 2147483647 milliseconds`},
		{Event{Retry: MaxRetry + 1}, `retry 2147483648: out of range`},
	} {
		err := c.event.Check()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("type %.40q, data %q, retry %d: %v, want an error with %s", c.event.Type, c.event.Data, c.event.Retry, err, c.want)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("the error repeats too much of what it was given: %d bytes", len(err.Error()))
		}
	}
}
