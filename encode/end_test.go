package encode

import (
	"encoding/json"
	"testing"
)

// The end of a topic is an event with an id that names it, whatever the name.
func TestEndNamesItsTopic(t *testing.T) {
	for _, topic := range []string{"a", "answer.42", `he"said\so"`, "ü.日本"} {
		frame, typeEnd := AppendEnd([]byte("before"), topic)
		frame = frame[len("before"):]
		if len(frame) != EndSize(topic) {
			t.Errorf("%s: %d bytes, EndSize says %d", topic, len(frame), EndSize(topic))
		}
		if got := string(frame[:typeEnd]); got != "event: end\n" {
			t.Errorf("%s: the event line is %q", topic, got)
		}
		var d Decoder
		n := 0
		err := d.Decode(AppendID(frame, 7), func(e *Decoded) {
			n++
			var data struct{ Topic string }
			if err := json.Unmarshal(e.Data, &data); err != nil || data.Topic != topic || string(e.Type) != "end" || string(e.ID) != "7" {
				t.Errorf("%s: a client sees %q %q %q", topic, e.Type, e.Data, e.ID)
			}
		})
		if err != nil || n != 1 {
			t.Errorf("%s: %d events, %v", topic, n, err)
		}
	}
}
