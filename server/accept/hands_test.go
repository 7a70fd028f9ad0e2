package accept

import (
	"strings"
	"sync"
	"testing"
)

// The goroutines of the long way wait for more connections, and go home when nobody comes any more.
func TestHandsGoHome(t *testing.T) {
	s := start(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				c := dial(t, s.Addr())
				c.send(post("/echo", 5, "") + "hello")
				if a, err := c.tryAnswer(); err != nil || a.body != "POST /echo hello" {
					t.Errorf("answer: %+v, %v", a, err)
				}
				c.Close()
			}
		})
	}
	eventually(t, "a hand to wait", func() bool { return s.hands.waiting.Load() > 0 })
	all.Wait()
	eventually(t, "the hands to go home", func() bool { return s.hands.waiting.Load() == 0 })
}

// Requests that wait hold up nobody: each has a hand of its own.
func TestHandsDoNotWaitForEachOther(t *testing.T) {
	s := start(t)
	var slow []*client
	for range 2 * handsMost {
		c := s.dial(t)
		c.send(post("/wait", 0, ""))
		slow = append(slow, c)
	}
	eventually(t, "all to wait", func() bool { return s.Stats().InHand == 2*handsMost })
	c := s.dial(t)
	c.send(post("/echo", 5, "") + "hello")
	c.answer()
	close(s.house.goOn)
	for _, c := range slow {
		c.answer()
	}
	eventually(t, "all but some to have gone home", func() bool { return s.hands.waiting.Load() <= handsMost })
}

// Eight bytes of a field's value at a time are judged as one after the other would be.
func TestControlFindsWhatAByteAtATimeFinds(t *testing.T) {
	slow := func(value []byte) int {
		for i, c := range value {
			if !field[c] {
				return i
			}
		}
		return -1
	}
	for _, fill := range []byte{'x', '\t', ' ', 0x80, 0xff, '~'} {
		for size := range 26 {
			for at := range size {
				for c := range 256 {
					value := []byte(strings.Repeat(string([]byte{fill}), size))
					value[at] = byte(c)
					if got, want := control(value), slow(value); got != want {
						t.Fatalf("%q: %d, want %d", value, got, want)
					}
				}
			}
		}
	}
}
