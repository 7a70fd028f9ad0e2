package encode

import (
	"reflect"
	"testing"
)

func TestHeartbeatsFireNothingButTheNamedOne(t *testing.T) {
	for _, c := range []struct {
		bytes []byte
		want  seen
	}{
		{AppendHeartbeat(nil), seen{Type: "message", Comments: 1, Retry: -1}},
		{AppendHeartbeatID(nil, 42), seen{Type: "message", ID: "42", HasID: true, Retry: -1}},
		{AppendHeartbeatEvent(nil, 42, false), seen{Type: "heartbeat", HasData: true, Retry: -1}},
		{AppendHeartbeatEvent(nil, 42, true), seen{Type: "heartbeat", HasData: true, ID: "42", HasID: true, Retry: -1}},
	} {
		if got := decodeWhole(t, string(c.bytes)); !reflect.DeepEqual(got, []seen{c.want}) {
			t.Errorf("%q is read as %+v, want %+v", c.bytes, got, c.want)
		}
	}
}
