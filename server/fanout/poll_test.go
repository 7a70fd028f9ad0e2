package fanout

// The real system calls.

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A subscriber that has lagged once stays armed: that its socket takes bytes is told when it
// begins to, and not as long as it does, which is nearly always.
func TestWritabilityIsToldOnce(t *testing.T) {
	p, err := newEpoll(false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	fd := int32(pair[0])
	if errno := p.watch(fd, 7); errno != 0 {
		t.Fatal(errno)
	}
	told := func() (n int) {
		for _, ev := range p.wait(nil, 0) {
			if ev.slot == 7 && ev.writable {
				n++
			}
		}
		return n
	}
	scrap := make([]byte, 1<<20)
	for range 3 {
		for {
			if n, _ := p.send(fd, scrap); n < len(scrap) {
				break
			}
		}
		if errno := p.writable(fd, 7, true); errno != 0 {
			t.Fatal(errno)
		}
		if n := told(); n != 0 {
			t.Fatalf("a full socket was told to be writable")
		}
		for {
			if n, err := unix.Read(pair[1], scrap); err != nil || n == 0 {
				break
			}
		}
		if events := p.wait(nil, time.Minute); len(events) != 1 || !events[0].writable {
			t.Fatalf("a socket that takes bytes again gave %v", events)
		}
		if n := told(); n != 0 {
			t.Fatal("it was told again: a live subscriber would keep its shard awake for ever")
		}
	}
}

// That a client has hung up is told once, and not as long as its shard rests before it serves it: a
// rest would be a loop that asks again and again.
func TestHangUpIsToldOnce(t *testing.T) {
	p, err := newEpoll(false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	for _, late := range []bool{false, true} { // it hangs up before it is watched
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		if late {
			unix.Close(pair[1])
		}
		if errno := p.watch(int32(pair[0]), 7); errno != 0 {
			t.Fatal(errno)
		}
		if !late {
			if _, err := unix.Write(pair[1], []byte("what follows the request is nobody's business")); err != nil {
				t.Fatal(err)
			}
			if events := p.wait(nil, 0); len(events) != 0 {
				t.Errorf("a client that sends something gave %v", events)
			}
			unix.Close(pair[1])
		}
		if events := p.wait(nil, time.Minute); len(events) != 1 || !events[0].gone || events[0].slot != 7 {
			t.Errorf("a client that has hung up gave %v", events)
		}
		if events := p.wait(nil, 0); len(events) != 0 {
			t.Errorf("it was told again: %v", events)
		}
		p.unwatch(int32(pair[0]))
	}
}
