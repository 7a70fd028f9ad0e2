package accept

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func post(path string, length int, fields string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n", path, length, fields)
}

const chunkedPost = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

// Bodies arrive whole, however they are cut.
func TestBodiesArrive(t *testing.T) {
	s := start(t)
	big := strings.Repeat("0123456789abcdef", 1<<16-1) // nearly 1 MiB
	for _, b := range []struct{ what, request, want string }{
		{"none", post("/echo", 0, ""), ""},
		{"no length", "POST /echo HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		{"short", post("/echo", 5, "") + "hello", "hello"},
		{"large", post("/echo", len(big), "") + big, big},
		{"chunked", chunkedPost + "5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\n\r\n", "hello world"},
		{"chunked with a trailer", chunkedPost + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "hello"},
		{"chunked, empty", chunkedPost + "0\r\n\r\n", ""},
		{"chunked, large", chunkedPost + fmt.Sprintf("%X\r\n%s\r\n0\r\n\r\n", len(big), big), big},
		{"large head", "POST /echo HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 10000) + "\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		{"largest head", "POST /echo HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", fieldsMost-42) + "\r\nContent-Length: 5\r\n\r\nhello", "hello"},
	} {
		for _, cut := range []string{"whole", "in pieces"} {
			t.Run(b.what+" "+cut, func(t *testing.T) {
				c := s.dial(t)
				if cut == "whole" {
					go c.Write([]byte(b.request))
				} else {
					go func() {
						for rest := b.request; len(rest) > 0; {
							n := min(len(rest), 1+len(b.request)/37)
							c.Write([]byte(rest[:n]))
							rest = rest[n:]
						}
					}()
				}
				a := c.answer()
				if want := "POST /echo " + b.want; a.status != 200 || a.body != want || a.close {
					t.Errorf("got %d, %d bytes, %.50q, want %d bytes", a.status, len(a.body), a.body, len(want))
				}
			})
		}
	}
}

// A request target of 64 KiB and 16 KiB of fields are taken.
func TestLargestHeadIsTaken(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	target := "/echo?" + strings.Repeat("q", targetMost-len("/echo?"))
	fields := "Host: a\r\nX: " + strings.Repeat("y", fieldsMost-len("Host: a\r\nX: \r\n\r\n")) + "\r\n\r\n"
	go c.Write([]byte("GET " + target + " HTTP/1.1\r\n" + fields))
	if a := c.answer(); a.status != 200 || a.body != "GET "+target+" " {
		t.Errorf("got %d, %.100q", a.status, a.body)
	}
}

// A body that can't be is told so, and nothing behind it is taken for a request.
func TestBadBodyIsAnswered(t *testing.T) {
	s := start(t)
	behind := post("/echo", 8, "") + "smuggled"
	for _, b := range []struct {
		what, request string
		status        int
		text          string
	}{
		{"no chunk size", chunkedPost + "\r\n\r\n" + behind, 400, "hexadecimal digit"},
		{"bare LF behind a size", chunkedPost + "5\nhello\r\n0\r\n\r\n" + behind, 400, "chunked body"},
		{"bare LF in an extension", chunkedPost + "5;a\nhello\r\n0\r\n\r\n" + behind, 400, "chunked body"},
		{"bare CR in an extension", chunkedPost + "5;a\rb\r\nhello\r\n0\r\n\r\n" + behind, 400, "chunked body"},
		{"signed size", chunkedPost + "+5\r\nhello\r\n0\r\n\r\n" + behind, 400, "chunked body"},
		{"0x size", chunkedPost + "0x5\r\nhello\r\n0\r\n\r\n" + behind, 400, "chunked body"},
		{"size too long", chunkedPost + strings.Repeat("0", 17) + "5\r\nhello\r\n0\r\n\r\n" + behind, 400, "sixteen digits"},
		{"size over 2^63", chunkedPost + "ffffffffffffffff\r\nhello\r\n" + behind, 400, "2^63"},
		{"size too small", chunkedPost + "4\r\nhello\r\n0\r\n\r\n" + behind, 400, "payload"},
		{"bare LF behind a payload", chunkedPost + "5\r\nhello\n0\r\n\r\n" + behind, 400, "payload"},
		{"bare LF in the trailer", chunkedPost + "5\r\nhello\r\n0\r\nX: y\n\r\n" + behind, 400, "trailer"},
		{"folded trailer", chunkedPost + "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n" + behind, 400, "trailer"},
		{"bare LF at the end", chunkedPost + "5\r\nhello\r\n0\r\n\n" + behind, 400, "trailer"},
		{"Content-Length in the trailer", chunkedPost + "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n" + behind, 400, "can't be taken"},
		{"too large", post("/echo", 1<<20+1, "") + behind, 413, "1048576 bytes"},
		{"far too large", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n" + behind, 413, "1048576 bytes"},
		{"chunked, too large", chunkedPost + "100001\r\n" + behind, 413, "1048576 bytes"},
		{"chunked, too large in sum", chunkedPost + fmt.Sprintf("80000\r\n%s\r\n80001\r\n", strings.Repeat("x", 0x80000)) + behind, 413, "1048576 bytes"},
		{"too large, with 100-continue", post("/echo", 1<<20+1, "Expect: 100-continue\r\n"), 413, "1048576 bytes"},
	} {
		t.Run(b.what, func(t *testing.T) {
			before := s.Stats()
			c := s.dial(t)
			go c.Write([]byte(b.request))
			checkRefused(t, c, b.status, b.text)
			if st := s.Stats(); st.BadBody != before.BadBody+1 {
				t.Errorf("before %+v, after %+v", before, st)
			}
		})
	}
}

// The answer to a body that is too large reaches a client that reads it only after it has sent
// all.
func TestTooLargeReachesClientThatIsStillSending(t *testing.T) {
	s := start(t)
	const size = 16 << 20
	chunk := make([]byte, 1<<20)
	for _, w := range ways[1:] {
		for _, head := range []string{
			post("/echo", size, w.pad),
			post("/echo", size, "Expect: 100-continue\r\n"+w.pad), // it does not wait
			strings.Replace(chunkedPost, "\r\n\r\n", "\r\n"+w.pad+"\r\n", 1) + fmt.Sprintf("%x\r\n", size),
			strings.Replace(chunkedPost, "\r\n\r\n", "\r\n"+w.pad+"\r\n", 1),
		} {
			c := w.open(t, s)
			c.send(head)
			before, after := "", ""
			if strings.HasSuffix(head, "\r\n\r\n") && strings.Contains(head, "chunked") {
				before, after = fmt.Sprintf("%x\r\n", len(chunk)), "\r\n"
			}
			for range size / len(chunk) {
				if _, err := c.Write([]byte(before + string(chunk) + after)); err != nil {
					t.Fatalf("%s: %.60q: reset while sending: %v", w.name, head, err)
				}
			}
			checkRefused(t, c, 413, "body too large")
			c.Close()
		}
	}
	if st := s.Stats(); st.Floods != 0 {
		t.Errorf("%+v", st)
	}
}

// 100 Continue comes before the body and once, in any case of letters, and not in HTTP/1.0.
func TestContinue(t *testing.T) {
	s := start(t)
	for _, expect := range []string{"100-continue", "100-Continue"} {
		c := s.dial(t)
		c.send(post("/echo", 5, "Expect: "+expect+"\r\n"))
		want := "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
			t.Fatalf("%s: %q, %v", expect, got, err)
		}
		c.send("hello")
		if a := c.answer(); a.status != 200 || a.body != "POST /echo hello" {
			t.Errorf("%s: %+v", expect, a)
		}
	}
	c := s.dial(t)
	c.send("POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	if a := c.answer(); a.status != 200 || a.body != "POST /echo hello" {
		t.Errorf("HTTP/1.0: %+v", a)
	}
}

// A publisher that half-closes after its request is answered; one that does so within it, too.
func TestHalfClosedPublisherIsAnswered(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	c.send(post("/echo", 5, "") + "hello" + post("/echo", 5, "") + "again")
	c.CloseWrite()
	for _, want := range []string{"hello", "again"} {
		if a := c.answer(); a.body != "POST /echo "+want {
			t.Errorf("%+v, want %s", a, want)
		}
	}
	if rest := c.all(); rest != "" {
		t.Errorf("%q", rest)
	}

	kept := ways[2].open(t, s)
	c = s.dial(t)
	for _, c := range []*client{c, kept} {
		c.send(post("/wait", 0, ""))
		<-s.house.waiting
		c.CloseWrite()
	}
	eventually(t, "netpoll to see it", func() bool { return !s.active() })
	close(s.house.goOn)
	for _, c := range []*client{c, kept} {
		if a := c.answer(); a.body != "went on" {
			t.Errorf("%+v", a)
		}
	}

	c = s.dial(t)
	c.send(post("/echo", 5, "") + "he")
	c.CloseWrite()
	checkRefused(t, c, 400, "within its body")

	for _, w := range ways {
		c = w.open(t, s)
		c.send("GET /events/a HTTP/1.1\r\nHost:")
		if w.kept {
			eventually(t, "the half head to be held", func() bool { return s.held.Load() > 0 })
		}
		c.CloseWrite()
		checkRefused(t, c, 400, "within its head")
	}
}

// active tells whether netpoll thinks that all connections it has are open.
func (s *server) active() bool {
	for _, l := range s.longs.pick(nil, func(l *long) bool { return l.attached.Load() }) {
		if !l.np.IsActive() {
			return false
		}
	}
	return true
}

// A large answer reaches a slow reader whole, also one that has half-closed.
func TestLargeAnswerReachesSlowReader(t *testing.T) {
	s := start(t)
	for _, half := range []bool{false, true} {
		c := s.dial(t)
		const size = 32 << 20
		c.send(fmt.Sprintf("GET /large/%d HTTP/1.1\r\nHost: a\r\n\r\n", size))
		if half {
			c.CloseWrite()
		}
		eventually(t, "the socket to be full", func() bool { return s.Stats().InHand == 1 && (half || s.writing()) })
		if a := c.answer(); len(a.body) != size {
			t.Errorf("half-closed %v: %d bytes", half, len(a.body))
		}
	}
}

// writing tells whether some connection waits for its client to read.
func (s *server) writing() bool {
	return len(s.longs.pick(nil, func(l *long) bool { return l.writing.Load() })) > 0
}

// A body that stops is told 408; a client that stops reading is cut.
func TestSilenceWithinBodyAndAnswer(t *testing.T) {
	s := start(t, func(o *Options) { o.BodyTimeout = 50 * time.Millisecond })
	c := s.dial(t)
	c.send(post("/echo", 5, "") + "he")
	checkRefused(t, c, 408, "body has stopped")
	c.Close()
	c = s.dial(t)
	c.send(chunkedPost + "5\r\nhe")
	checkRefused(t, c, 408, "body has stopped")
	c.Close()

	c = s.dial(t)
	c.send("GET /large/33554432 HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the client to be cut", func() bool { st := s.Stats(); return st.Timeouts == 3 && st.Open == 0 })
}

// A handler that takes its time is not cut by the timeouts of clients.
func TestSlowHandlerIsNotCut(t *testing.T) {
	s := start(t, func(o *Options) {
		o.BodyTimeout, o.IdleTimeout, o.HandshakeTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	})
	c := s.dial(t)
	c.send(post("/wait", 0, ""))
	<-s.house.waiting
	idle := s.dial(t)
	idle.send(post("/echo", 0, ""))
	idle.answer()
	idle.all() // its idle timeout has passed
	close(s.house.goOn)
	if a := c.answer(); a.body != "went on" {
		t.Errorf("%+v", a)
	}
}

// Whoever is refused behind a whole head is answered as the one who asked with it: a page elsewhere
// may read why.
func TestRefusalsKnowWhoAsked(t *testing.T) {
	s := start(t, func(o *Options) { o.BodyTimeout, o.MaxBodySize = 60*time.Millisecond, 1000 })
	const origin = "Origin: https://app.example\r\n"
	chunked := strings.Replace(chunkedPost, "Host: a\r\n", "Host: a\r\n"+origin, 1)
	for _, c := range []struct {
		what, request string
		status        int
	}{
		{"too large, all there", post("/echo", 2000, origin) + strings.Repeat("x", 2000), 413},
		{"too large, in chunks", chunked + "7d0\r\n" + strings.Repeat("x", 2000), 413},
		{"stopped", post("/echo", 10, origin) + "x", 408},
		{"stopped within a chunk", chunked + "5\r\nhe", 408},
		{"no chunk", chunked + "nonsense\r\n", 400},
		{"trailer of 5,000 bytes", chunked + "1\r\nx\r\n0\r\n" + strings.Repeat("X-A: "+strings.Repeat("y", 93)+"\r\n", 50) + "\r\n", 431},
		{"trailer of one line of 4,000 bytes", chunked + "1\r\nx\r\n0\r\nX-A: " + strings.Repeat("y", 3985) + "\r\n\r\n", 200},
	} {
		conn := s.dial(t)
		conn.send(c.request)
		a := conn.answer()
		if got := a.header.Get("X-Origin"); a.status != c.status || a.status != 200 && got != "https://app.example" {
			t.Errorf("%s: %d %s, for the origin %q", c.what, a.status, a.body, got)
		}
		t.Logf("%s: %d %s", c.what, a.status, a.body)
	}
	conn := s.dial(t)
	conn.send(strings.Replace(chunkedPost, "Host: a\r\n", "", 1) + "1\r\nx\r\n")
	if a := conn.answer(); a.status != 400 || a.header.Get("X-Origin") != "" {
		t.Errorf("without Host: %+v", a)
	}
}
