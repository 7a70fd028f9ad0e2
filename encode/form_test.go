package encode

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func frameOf(e *Event, id uint64) (frame []byte, typeEnd int) {
	frame, typeEnd = AppendFrame(nil, e)
	return AppendID(frame, id), typeEnd
}

func TestFormsNameTheTopic(t *testing.T) {
	for _, c := range []struct {
		event           Event
		topic, envelope string
	}{
		{Event{Data: []byte("plain")}, "event: a.b\ndata: plain\nid: 7\n\n", `data: {"topic":"a.b","data":"plain"}` + "\nid: 7\n\n"},
		{Event{Type: "trade", Data: []byte(`{ "p": 1 }`), Retry: 50}, "event: a.b\ndata: { \"p\": 1 }\nretry: 50\nid: 7\n\n", `data: {"topic":"a.b","event":"trade","data":{"p":1}}` + "\nretry: 50\nid: 7\n\n"},
		{Event{Data: []byte("[1,\n 2]")}, "event: a.b\ndata: [1,\ndata:  2]\nid: 7\n\n", `data: {"topic":"a.b","data":[1,2]}` + "\nid: 7\n\n"},
		{Event{Data: []byte("one\ntwo \"2\"")}, "event: a.b\ndata: one\ndata: two \"2\"\nid: 7\n\n", `data: {"topic":"a.b","data":"one\ntwo \"2\""}` + "\nid: 7\n\n"},
		{Event{}, "event: a.b\ndata: \nid: 7\n\n", `data: {"topic":"a.b","data":""}` + "\nid: 7\n\n"},
	} {
		frame, typeEnd := frameOf(&c.event, 7)
		if got := string(AppendForm(nil, frame, typeEnd, "a.b", FormTopic)); got != c.topic {
			t.Errorf("by topic: %q, want %q", got, c.topic)
		}
		if got := string(AppendForm(nil, frame, typeEnd, "a.b", FormEnvelope)); got != c.envelope {
			t.Errorf("envelope: %q, want %q", got, c.envelope)
		}
		if got := string(AppendForm(nil, frame, typeEnd, "a.b", FormType)); got != string(frame) {
			t.Errorf("as published: %q, want %q", got, frame)
		}
	}
}

func TestWithoutIDLeavesTheRest(t *testing.T) {
	frame, _ := frameOf(&Event{Type: "x", Data: []byte("a\nid: 9\n\nb"), Retry: 3}, 18446744073709551615)
	if got, want := string(AppendWithoutID(nil, frame)), "event: x\ndata: a\ndata: id: 9\ndata: \ndata: b\nretry: 3\n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// An envelope is one event whose data is JSON that says what was published.
func FuzzEnvelope(f *testing.F) {
	f.Add("t", []byte(`{"a":[1,2,{"b":null}]}`), "a.b")
	f.Add("", []byte("x\r\ny\rz\n"), "ü.$x")
	f.Add("", []byte(" \"\\u2028\" "), "a")
	f.Add("e", []byte("1e400"), "a")
	f.Fuzz(func(t *testing.T, kind string, data []byte, topic string) {
		e := Event{Type: kind, Data: data}
		if e.Check() != nil || !utf8.ValidString(topic) || topic == "" {
			t.Skip()
		}
		frame, typeEnd := frameOf(&e, 5)
		var got []Decoded
		var d Decoder
		if err := d.Decode(AppendForm(nil, frame, typeEnd, topic, FormEnvelope), func(b *Decoded) {
			c := *b
			c.Data = append([]byte(nil), b.Data...)
			got = append(got, c)
		}); err != nil || len(got) != 1 || !got[0].HasID {
			t.Fatalf("%v, %d blocks: %+v", err, len(got), got)
		}
		var envelope struct {
			Topic string          `json:"topic"`
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(got[0].Data, &envelope); err != nil {
			t.Fatalf("%q: %v", got[0].Data, err)
		}
		if envelope.Topic != topic || envelope.Event != kind {
			t.Fatalf("topic %q event %q, want %q and %q", envelope.Topic, envelope.Event, topic, kind)
		}
		plain := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		if json.Valid([]byte(plain)) {
			return
		}
		var s string
		if err := json.Unmarshal(envelope.Data, &s); err != nil || s != plain {
			t.Fatalf("data %q, want the string %q", envelope.Data, plain)
		}
	})
}

func TestHelloIsTheFirstBlockAndAnEvent(t *testing.T) {
	for _, c := range []struct {
		withID, resumed bool
		want            string
	}{
		{true, true, `event: hello` + "\n" + `data: {"id":"42","resumed":true,"server":"penstock","version":"v1 \"x\""}` + "\nretry: 2000\nid: 42\n\n"},
		{false, false, `event: hello` + "\n" + `data: {"id":"","resumed":false,"server":"penstock","version":"v1 \"x\""}` + "\nretry: 2000\n\n"},
	} {
		if got := string(AppendHello(nil, 2000, 42, c.withID, c.resumed, `v1 "x"`)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
