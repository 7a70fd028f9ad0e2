package accept

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// echo is a Handler that tells what it was asked, whatever the path.
type echo struct{ *house }

func (echo) Short(dst []byte, _ *fasthttp.RequestHeader, _ From) (*fanout.Subscription, []byte, bool) {
	return nil, dst, true
}

func (echo) Serve(ctx *fasthttp.RequestCtx) {
	// In a header, for HEAD has no body.
	ctx.Response.Header.Set("Asked", strconv.QuoteToASCII(fmt.Sprintf("%s %s %s", ctx.Method(), ctx.Request.Header.RequestURI(), ctx.PostBody())))
}

func (echo) Room([]byte) Room { return Shared }

// FuzzConnection sends bytes in two pieces over a real socket and half-closes. The answers must
// be those that a naive reader of the bytes expects: each request once, with its own body, and
// nothing more after what can't be taken.
func FuzzConnection(f *testing.F) {
	for _, text := range goodHeads {
		if len(text) < 1000 {
			f.Add([]byte(text), 10)
		}
	}
	for _, b := range badHeads {
		if len(b.head) < 1000 {
			f.Add([]byte(post("/a", 2, "")+"hi"+b.head), 40)
		}
	}
	f.Add([]byte(post("/a", 2, "")+"hi"+chunkedPost+"2\r\nho\r\n0\r\n\r\n"+post("/b", 3, "")+"bye"), 50)
	f.Add([]byte(chunkedPost+"2;x=y\r\nho\r\n0\r\nX: y\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"), 70)
	f.Add([]byte(chunkedPost+"2\r\nhoo\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"), 70)
	f.Add([]byte("HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.0\r\n\r\n"+post("/c", 3, "")+"bye"), 3)
	f.Add([]byte(post("/a", 5000, "")+strings.Repeat("x", 5000)+"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"), 3)
	a, err := Listen(Options{Listen: []string{"127.0.0.1:0"}, Handler: echo{newHouse()}, MaxBodySize: 4096, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		want, whole := naive(p)
		got, status := converse(t, a.Addr(), p, cut)
		if status == 400 && len(got) < len(want) && len(got) == refusedByFasthttp(want) {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d answers, then %d; want %d: %v", p, len(got), status, len(want), want)
		}
		for i := range got {
			if got[i] != want[i].asked {
				t.Fatalf("%q: answer %d is %q, want %q", p, i, got[i], want[i].asked)
			}
		}
		if whole && status != 0 || !whole && status < 400 {
			t.Fatalf("%q: after %d answers %d; all can be taken: %v", p, len(got), status, whole)
		}
	})
}

// request is one as naive reads it.
type request struct {
	asked string
	head  slowHead
	raw   []byte
}

// refusedByFasthttp is the place of the first request that fasthttp's parser of URLs, trailers or
// fields refuses, though its framing is clear.
func refusedByFasthttp(all []request) int {
	for i, r := range all {
		var req fasthttp.Request
		err := req.Read(bufio.NewReaderSize(bytes.NewReader(r.raw), 1<<20))
		if err == nil {
			var u fasthttp.URI
			err = u.Parse(req.Header.Host(), req.Header.RequestURI())
		}
		if err != nil {
			return i
		}
	}
	return -1
}

var (
	naiveSize    = regexp.MustCompile(`^([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n`)
	naiveTrailer = regexp.MustCompile("^(?:[!#$%&'*+\\-.^_`|~0-9A-Za-z]+:[\\t -~\\x80-\\xff]*\\r\\n)*\\r\\n")
)

// naive reads requests one after the other. whole tells whether nothing is left that would be
// answered with an error.
func naive(p []byte) (all []request, whole bool) {
	for {
		if blank(p) {
			return all, true
		}
		h, ok := slowLook(p)
		if !ok || h.length > 4096 {
			return all, false
		}
		began := p
		p = p[h.size:]
		var body []byte
		switch {
		case h.chunked:
			for {
				m := naiveSize.FindStringSubmatch(latin1(p))
				if m == nil {
					return all, false
				}
				n, err := strconv.ParseInt(m[1], 16, 64)
				if err != nil || n > 4096 {
					return all, false
				}
				p = p[len(unlatin1(m[0])):]
				if n == 0 {
					break
				}
				if len(p) < int(n)+2 || string(p[n:n+2]) != "\r\n" || len(body)+int(n) > 4096 {
					return all, false
				}
				body, p = append(body, p[:n]...), p[n+2:]
			}
			m := naiveTrailer.FindString(latin1(p))
			if m == "" {
				return all, false
			}
			p = p[len(unlatin1(m)):]
		case h.length > 0:
			if len(p) < int(h.length) {
				return all, false
			}
			body, p = p[:h.length], p[h.length:]
		}
		raw := began[:len(began)-len(p)]
		asked := fmt.Sprintf("%s %s %s", h.method, unlatin1(h.target), body)
		all = append(all, request{asked, h, raw})
		if h.closing || h.http10 && !keptAlive(raw[:h.size]) {
			return all, true
		}
	}
}

// keptAlive tells whether an HTTP/1.0 request asks to be.
func keptAlive(head []byte) bool {
	var h fasthttp.RequestHeader
	return h.Read(bufio.NewReaderSize(bytes.NewReader(head), 1<<20)) == nil && !h.ConnectionClose()
}

// converse returns what the server says it was asked, and the status of an error at the end.
func converse(t *testing.T, to net.Addr, p []byte, cut int) (asked []string, status int) {
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if cut = max(0, cut) % (len(p) + 1); cut > 0 {
		conn.Write(p[:cut])
	}
	conn.Write(p[cut:])
	conn.(*net.TCPConn).CloseWrite()
	r := bufio.NewReader(conn)
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return asked, 0
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
		if err != nil {
			t.Fatalf("%q: after %q: %v", p, asked, err)
		}
		if resp.StatusCode == 100 {
			continue
		}
		if resp.StatusCode != 200 {
			return asked, resp.StatusCode
		}
		text, err := strconv.Unquote(resp.Header.Get("Asked"))
		if err != nil {
			t.Fatalf("%q: %q: %v", p, resp.Header, err)
		}
		asked = append(asked, text)
	}
}
