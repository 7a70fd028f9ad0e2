package api

import (
	"testing"
	"time"
)

// At a rate a publisher may publish a second's worth at once, and then as many as time brings; what
// was not published counts for nothing; and strangers without end take bounded memory.
func TestMetersLetEventsInAtTheirRate(t *testing.T) {
	var m meters
	var k publisherKey
	now := int64(1_763_670_000_000_000_000)
	in := 0
	for ; m.take(k, now, 1, 10) == 0; in++ {
	}
	if in != 11 {
		t.Errorf("%d at once, want a second's worth and the one that begins", in)
	}
	if wait := m.wait(k, now); wait != 100*time.Millisecond {
		t.Errorf("the next one in %s, want 100 ms", wait)
	}
	if wait := m.take(k, now+100e6, 1000, 10); wait != 0 {
		t.Errorf("a large batch has to wait %s", wait)
	}
	if wait := m.wait(k, now+100e6); wait != 100*time.Second {
		t.Errorf("after a thousand the next one in %s, want 100 s", wait)
	}
	m.giveBack(k, 1000, 10)
	if wait := m.wait(k, now+100e6); wait != 0 {
		t.Errorf("after they were given back: %s", wait)
	}
	for i := range 3 * mostMetered {
		k = publisherKey{byte(i), byte(i >> 8), byte(i >> 16)}
		m.take(k, now+int64(i)*1000, 1, 10)
	}
	if len(m.due) > mostMetered {
		t.Errorf("%d publishers are remembered", len(m.due))
	}
}

// Publishers and subscribers alike are refused while there is no memory, and are told why.
func TestWithoutMemoryNothingNewIsTaken(t *testing.T) {
	full := true
	a := start(t, func(o *Options) { o.MemoryFull = func() bool { return full } })
	an := long(t, a, withBody("POST /publish/a", "x"))
	an.want(t, "a publish", 503, "--memory-limit")
	an, _ = short(t, a, raw("GET /events/a"))
	an.want(t, "a stream", 503, "--memory-limit")
	an = long(t, a, raw("GET /stats"))
	an.want(t, "a look", 200)
	full = false
	an = long(t, a, withBody("POST /publish/a", "x"))
	an.want(t, "a publish again", 200)
	if n := a.refused[overMemory].Load(); n != 2 {
		t.Errorf("%d counted, want 2", n)
	}
}
