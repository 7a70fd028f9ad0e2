package accept

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// A flood of bad clients of all kinds neither keeps a good one from being served nor leaves
// anything behind.
func TestFloodOfBadClients(t *testing.T) {
	s := start(t, func(o *Options) { o.HandshakeTimeout, o.LingerTimeout = 300*time.Millisecond, 100*time.Millisecond })
	kinds := []func(c *client){
		func(c *client) {},
		func(c *client) { c.send("GET /events/a HTTP/1.1\r\nHost: a\r\n") },
		func(c *client) { c.send("GET /events/a HTTP/1.1\nHost: a\n\n") },
		func(c *client) { c.Write([]byte(strings.Repeat("x", 1<<16))) },
		func(c *client) { c.Write([]byte("GET /" + strings.Repeat("y", 1<<17))) },
		func(c *client) { c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf") },
		func(c *client) { c.send(post("/echo", 1<<30, "")) },
		func(c *client) { c.send(chunkedPost + "zzz\r\n") },
		func(c *client) { c.send(get + "\r\n") },
		func(c *client) { c.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") },
	}
	var all sync.WaitGroup
	stop := make(chan struct{})
	for kind, do := range kinds {
		all.Go(func() {
			for i := range 40 {
				conn, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				c := &client{conn: conn.(*net.TCPConn), t: t}
				do(c)
				switch (i + kind) % 3 {
				case 0:
					c.reset()
				case 1:
					c.CloseWrite()
					fallthrough
				default:
					all.Go(func() { // hangs on until the end
						<-stop
						c.Close()
					})
				}
			}
		})
	}
	for i := range 200 {
		c := s.dial(t)
		if i%2 == 0 {
			c.send("GET /events/good.one HTTP/1.1\r\nHost: a\r\n\r\n")
			c.stream("good.one")
		} else {
			c.send(post("/echo", 2, "") + "hi")
			if a := c.answer(); a.body != "POST /echo hi" {
				t.Fatalf("%+v", a)
			}
		}
		c.Close()
	}
	eventually(t, "all that is left to be streams", func() bool {
		st := s.Stats()
		return st.Waiting == 0 && st.Lingering == 0 && st.Open-st.InHand == 0
	})
	close(stop)
	all.Wait()
	eventually(t, "nothing to be left", func() bool { return s.Stats().Open == 0 })
	if st := s.Stats(); st.BadHeads == 0 || st.BadBody == 0 || st.Timeouts == 0 {
		t.Errorf("%+v", st)
	}
}

// A handler that panics costs its own request, and is told to the log.
func TestPanicCostsOneRequest(t *testing.T) {
	var said saying
	s := start(t, func(o *Options) {
		o.Log = said.logger()
		o.Handler = panics{o.Handler.(*house)}
	})
	for _, w := range ways[1:] {
		c := s.dial(t)
		if w.kept {
			c = w.open(t, s)
		}
		c.send(post("/panic", 2, "") + "hi")
		checkRefused(t, c, 500, "mistake")
	}
	c := s.dial(t)
	c.send("GET /events/panic HTTP/1.1\r\nHost: a\r\n\r\n") // on the accept thread
	checkRefused(t, c, 500, "mistake")
	c = s.dial(t)
	c.send(post("/echo", 2, "") + "hi")
	if a := c.answer(); a.status != 200 {
		t.Errorf("%+v", a)
	}
	if said.count("api: something is impossible") != 4 || said.count("/panic") < 3 {
		t.Errorf("the log has %s", said.text())
	}
}

type panics struct{ *house }

func (p panics) Short(dst []byte, h *fasthttp.RequestHeader, from From) (*fanout.Subscription, []byte, bool) {
	if string(h.RequestURI()) == "/events/panic" {
		panic("api: something is impossible")
	}
	return p.house.Short(dst, h, from)
}

func (p panics) Serve(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) == "/panic" {
		panic("api: something is impossible")
	}
	p.house.Serve(ctx)
}

// Requests that are kept apart by nothing but their framing are answered in order, however the
// bytes are cut.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	s := start(t)
	var all strings.Builder
	var want []string
	for i := range 100 {
		body := strings.Repeat(fmt.Sprint(i%10), i*7)
		if i%2 == 0 {
			all.WriteString(post(fmt.Sprintf("/echo?n=%d", i), len(body), "") + body)
		} else {
			all.WriteString(fmt.Sprintf("POST /echo?n=%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", i, len(body), body))
		}
		if i%10 == 9 {
			all.WriteString("\r\n") // as old clients do
		}
		want = append(want, fmt.Sprintf("POST /echo?n=%d %s", i, body))
	}
	for _, cut := range []int{1 << 20, 4096, 1000, 77, 7} {
		c := s.dial(t)
		go func() {
			for rest := all.String(); len(rest) > 0; {
				n := min(len(rest), cut)
				if _, err := c.Write([]byte(rest[:n])); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		for i := range want {
			if a := c.answer(); a.status != 200 || a.body != want[i] {
				t.Fatalf("cut at %d, answer %d: %d %.60q", cut, i, a.status, a.body)
			}
		}
	}
}

// "close" among the options of Connection ends the connection after the answer, in any case of
// letters; HTTP/1.0 ends it without keep-alive.
func TestConnectionClose(t *testing.T) {
	s := start(t)
	for _, request := range []string{
		post("/echo", 0, "Connection: close\r\n"),
		post("/echo", 0, "Connection: keep-alive, Close\r\n"),
		post("/echo", 0, "connection: TE\r\nconnection: CLOSE\r\n"),
		"POST /echo HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
	} {
		c := s.dial(t)
		c.send(request + post("/echo", 8, "") + "smuggled")
		if a := c.answer(); a.status != 200 || a.body != "POST /echo " || !a.close {
			t.Errorf("%q: %+v", request, a)
		}
		if rest := c.all(); rest != "" {
			t.Errorf("%q: then %q", request, rest)
		}
	}
	c := s.dial(t)
	for range 2 {
		c.send("POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi")
		if a := c.answer(); a.status != 200 || a.header.Get("Connection") != "keep-alive" {
			t.Errorf("%+v", a)
		}
	}
}
