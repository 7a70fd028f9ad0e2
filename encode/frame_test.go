package encode

import (
	"fmt"
	"strings"
	"testing"
)

func TestFrameIsWrittenLineByLine(t *testing.T) {
	for _, c := range []struct {
		event Event
		want  string
	}{
		{Event{}, "data: \n"},
		{Event{Data: []byte("x")}, "data: x\n"},
		{Event{Data: []byte(" x")}, "data:  x\n"},
		{Event{Type: "trade", Data: []byte("x"), Retry: 1500}, "event: trade\ndata: x\nretry: 1500\n"},
		{Event{Data: []byte("a\nb")}, "data: a\ndata: b\n"},
		{Event{Data: []byte("a\rb")}, "data: a\ndata: b\n"},
		{Event{Data: []byte("a\r\nb")}, "data: a\ndata: b\n"},
		{Event{Data: []byte("a\n\rb")}, "data: a\ndata: \ndata: b\n"},
		{Event{Data: []byte("a\r\r\nb")}, "data: a\ndata: \ndata: b\n"},
		{Event{Data: []byte("\n")}, "data: \ndata: \n"},
		{Event{Data: []byte("\r")}, "data: \ndata: \n"},
		{Event{Data: []byte("\r\n")}, "data: \ndata: \n"},
		{Event{Data: []byte("a\n\nid: 7\n")}, "data: a\ndata: \ndata: id: 7\ndata: \n"}, // data can't break out
		{Event{Data: []byte("a\u2028b\vc\fd\u0085e")}, "data: a\u2028b\vc\fd\u0085e\n"},
	} {
		got, typeEnd := AppendFrame([]byte("before"), &c.event)
		if string(got) != "before"+c.want {
			t.Errorf("%s is framed as %q, want %q behind what was there", text(c.event), got, c.want)
		}
		if line, _, _ := strings.Cut(c.want, "data:"); typeEnd != len(line) {
			t.Errorf("%s: the event line ends at %d, want %d", text(c.event), typeEnd, len(line))
		}
		if n := FrameSize(&c.event); n != len(c.want) {
			t.Errorf("%s: FrameSize is %d, want %d", text(c.event), n, len(c.want))
		}
		if got, want := string(AppendID(got[len("before"):], 42)), slowFrame(&c.event, 42); got != want {
			t.Errorf("%s: frame %q, the slow twin makes %q", text(c.event), got, want)
		}
	}
}

func TestStartHasRetryAndTheIDIfThereIsOne(t *testing.T) {
	if got, want := string(AppendStart(nil, 2500, 42, true)), "retry: 2500\nid: 42\n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(AppendStart(nil, 2500, 42, false)), "retry: 2500\n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func text(e Event) string { return fmt.Sprintf("{%q %q %d}", e.Type, e.Data, e.Retry) }
