package accept

import (
	"testing"
	"unsafe"
)

// A socket without a whole head costs the accept thread 64 bytes, a connection on the long way
// half a kilobyte beside what netpoll and the request in hand take.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(place{}); n > 64 {
		t.Errorf("a place has %d bytes, the budget is 64", n)
	}
	if n := unsafe.Sizeof(long{}); n > 512 {
		t.Errorf("a long has %d bytes, the budget is 512", n)
	}
}

// The strict look and fasthttp's parser allocate nothing on the short way; nor does the client's
// address.
func TestShortWayAllocatesNothing(t *testing.T) {
	var s short
	s.init()
	var h head
	p := []byte(get + "Accept: text/event-stream\r\nLast-Event-ID: 1763670000000042\r\nUser-Agent: curl/8.5.0\r\n\r\n")
	var peer peer
	peer.raw.Family = 2
	if n := testing.AllocsPerRun(100, func() {
		var at scan
		size, no := at.end(p)
		if no == nil {
			no = h.parse(p, &at, size)
		}
		if no != nil || !h.plain() || s.parse(p[:size]) != nil || !peer.addr().IsValid() {
			t.Fatal("refused", no)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
