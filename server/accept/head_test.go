package accept

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// badHeads are heads that can't be taken: what is wrong, the answer's status, and a part of its
// text.
var badHeads = []struct {
	what   string
	head   string
	status int
	text   string
}{
	{"bare LF after the request line", "GET /events/a HTTP/1.1\nHost: a\r\n\r\n", 400, "bare LF at byte 22"},
	{"bare LF after a field", "GET /events/a HTTP/1.1\r\nHost: a\n\r\n", 400, "bare LF"},
	{"bare LF as the empty line", "GET /events/a HTTP/1.1\r\nHost: a\r\n\n", 400, "bare LF"},
	{"bare LFs alone", "GET /events/a HTTP/1.1\nHost: a\n\n", 400, "bare LF"},
	{"bare CR in a value", "GET /events/a HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "0x0d in the value"},
	{"bare CR in a name", "GET /events/a HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n", 400, "0x0d in the name"},
	{"CR before CRLF", "GET /events/a HTTP/1.1\r\nHost: a\r\r\n\r\n", 400, "0x0d in the value"},
	{"NUL in a value", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n", 400, "0x00 in the value"},
	{"NUL in the target", "GET /events/a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "0x00 in the request target"},
	{"control character in a value", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400, "0x01"},
	{"DEL in a value", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400, "0x7f"},
	{"folded field", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "folded"},
	{"field folded with a tab", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", 400, "folded"},
	{"fold before the first field", "GET /events/a HTTP/1.1\r\n Host: a\r\n\r\n", 400, "folded"},
	{"space before colon", "GET /events/a HTTP/1.1\r\nHost : a\r\n\r\n", 400, "space"},
	{"tab before colon", "GET /events/a HTTP/1.1\r\nHost\t: a\r\n\r\n", 400, "space"},
	{"space in a name", "GET /events/a HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", 400, "space"},
	{"no name", "GET /events/a HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, "without a name"},
	{"no colon", "GET /events/a HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400, "without a colon"},
	{"Content-Length beside Transfer-Encoding", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "beside"},
	{"the same the other way round", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "beside"},
	{"Content-Lengths that differ", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "twice"},
	{"Content-Length twice", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "twice"},
	{"list of Content-Lengths", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400, "in Content-Length"},
	{"signed Content-Length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400, "in Content-Length"},
	{"negative Content-Length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", 400, "in Content-Length"},
	{"hexadecimal Content-Length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400, "in Content-Length"},
	{"empty Content-Length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", 400, "without a value"},
	{"Transfer-Encoding in HTTP/1.0", "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "in HTTP/1.0"},
	{"Transfer-Encoding twice", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "twice"},
	{"Transfer-Encoding of several", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "other than chunked"},
	{"Transfer-Encoding: identity", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 400, "other than chunked"},
	{"Transfer-Encoding with a tail", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n", 400, "other than chunked"},
	{"no Host", "GET /events/a HTTP/1.1\r\nX: y\r\n\r\n", 400, "no Host"},
	{"no fields at all", "GET /events/a HTTP/1.1\r\n\r\n", 400, "no Host"},
	{"empty Host", "GET /events/a HTTP/1.1\r\nHost:\r\n\r\n", 400, "no Host"},
	{"Host twice", "GET /events/a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "Host given twice"},
	{"two hosts in Host", "GET /events/a HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "in Host"},
	{"path in Host", "GET /events/a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "in Host"},
	{"user in Host", "GET /events/a HTTP/1.1\r\nHost: me@a\r\n\r\n", 400, "in Host"},
	{"other authority than Host", "GET http://b/events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "another host"},
	{"user in the authority", "GET http://me@a/events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "another host"},
	{"other scheme", "GET ftp://a/events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no path"},
	{"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no path"},
	{"asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no path"},
	{"no slash", "GET events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no path"},
	{"fragment", "GET /events/a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "0x23 in the request target"},
	{"two spaces", "GET  /events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "without a target"},
	{"space in the target", "GET /events/a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "without a version"},
	{"tab for a space", "GET\t/events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "0x09 in the method"},
	{"trailing space", "GET /events/a HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "without a version"},
	{"no version", "GET /events/a\r\nHost: a\r\n\r\n", 400, "without a target"},
	{"lower case version", "GET /events/a http/1.1\r\nHost: a\r\n\r\n", 400, "without a version"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP version 2.0"},
	{"HTTP/1.2", "GET /events/a HTTP/1.2\r\nHost: a\r\n\r\n", 505, "HTTP version 1.2"},
	{"HTTP/0.9", "GET /events/a HTTP/0.9\r\nHost: a\r\n\r\n", 505, "HTTP version 0.9"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "0x16 in the method; this port speaks HTTP/1.1 without TLS"},
	{"separator in the method", "GE(T /events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "0x28 in the method"},
	{"long method", strings.Repeat("G", 33) + " /events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method"},
	{"three empty lines", "\r\n\r\n\r\nGET /events/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "empty lines"},
	{"other expectation", "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\n", 417, "Expect"},
	{"long target", "GET /" + strings.Repeat("a", targetMost) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "64 KiB"},
	{"endless target", "GET /" + strings.Repeat("a", 1<<20), 414, "64 KiB"},
	{"large header", "GET /events/a HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: "+strings.Repeat("b", 1000)+"\r\n", 17) + "\r\n", 431, "16 KiB"},
	{"1 MB header", "GET /events/a HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("b", 1<<20) + "\r\n\r\n", 431, "16 KiB"},
	{"1 MB of headers", "GET /events/a HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 1<<20/6) + "\r\n", 431, "16 KiB"},
	{"1 MB without a line's end", strings.Repeat("a", 1<<20), 400, "method of over 32"},
}

// What can't be taken is told, on every way and also one byte at a time; then the connection is
// closed without a reset, and nothing behind it is taken for a request.
func TestBadHeadIsAnsweredAndTheConnectionClosed(t *testing.T) {
	for _, w := range []way{ways[0], ways[2], ways[3]} {
		s := start(t)
		for i, b := range badHeads {
			t.Run(w.name+"/"+b.what, func(t *testing.T) {
				before := s.Stats()
				c := w.open(t, s)
				smuggled := "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsmuggled"
				go c.Write([]byte(b.head + smuggled)) // the answer comes while it is being sent
				checkRefused(t, c, b.status, b.text)
				requests := uint64(0)
				if w.kept {
					requests = 1
				}
				if st := s.Stats(); st.BadHeads != before.BadHeads+1 || st.Requests != before.Requests+requests {
					t.Errorf("%d: before %+v, after %+v", i, before, st)
				}
			})
		}
	}
}

func checkRefused(t *testing.T, c *client, status int, text string) {
	t.Helper()
	a := c.answer()
	if a.status != status || !strings.Contains(a.body, text) || !a.close || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %+v, want %d and %q", a, status, text)
	}
	if rest := c.all(); rest != "" {
		t.Errorf("after the answer: %q", rest)
	}
}

// The same one byte at a time: a bad head is told from a half one as soon as it can be.
func TestBadHeadInSingleBytesIsAnswered(t *testing.T) {
	for _, w := range []way{ways[0], ways[2], ways[3]} {
		s := start(t)
		for _, b := range badHeads {
			if len(b.head) > 200 || w.kept && b.head[0] == '\r' {
				continue // between requests, empty lines that come alone are dropped
			}
			t.Run(w.name+"/"+b.what, func(t *testing.T) {
				c := w.open(t, s)
				for i := range len(b.head) {
					if _, err := c.Write([]byte{b.head[i]}); err != nil {
						break // it has been refused already
					}
				}
				checkRefused(t, c, b.status, b.text)
			})
		}
	}
}

// goodHeads are unusual but right.
var goodHeads = []string{
	"GET /events/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"\r\nGET /events/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"\r\n\r\nGET /events/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /events/a HTTP/1.0\r\n\r\n",
	"GET /events/a HTTP/1.0\r\nHost:\r\n\r\n",
	"GET /events/a HTTP/1.1\r\nHOST:a:8080\r\n\r\n",
	"GET /events/a HTTP/1.1\r\nhost: \t [::1]:8080 \t \r\n\r\n",
	"GET http://a/events/a HTTP/1.1\r\nHost: A\r\n\r\n",
	"GET HTTPS://a:1/events/a?u=http://b/ HTTP/1.1\r\nHost: a:1\r\n\r\n",
	"GET http://a?topic=b HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS /events/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"QUERY /events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"GET /events/\xc3\xbc?a=//b HTTP/1.1\r\nHost: a\r\nX: \xc3\xbc\r\nEmpty:\r\n\r\n",
	"GET //events//a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 000005\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nConnection: keep-alive, Close\r\n\r\n",
	"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
	"GET /" + strings.Repeat("a", targetMost-1) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("b", fieldsMost-len("Host: a\r\nX: \r\n\r\n")) + "\r\n\r\n",
}

// lookAt is the strict look at bytes that are all there.
func lookAt(p []byte) (h head, no *refusal) {
	var s scan
	size, no := s.end(p)
	if no == nil && size == 0 {
		no = halfHead
	}
	if no == nil {
		no = h.parse(p, &s, size)
	}
	return h, no
}

// The strict look lets these pass, and agrees with its slow twin and with fasthttp about them.
func TestGoodHeadsPass(t *testing.T) {
	for _, text := range goodHeads {
		if _, no := lookAt([]byte(text)); no != nil {
			t.Errorf("%.80q: %v", text, no)
		}
		agree(t, []byte(text))
	}
	for _, b := range badHeads {
		if _, no := lookAt([]byte(b.head)); no == nil {
			t.Errorf("%s: passed", b.what)
		}
		agree(t, []byte(b.head))
	}
}

// FuzzHead holds the strict look against its slow twin, which it must agree with, against
// fasthttp, which must find the same method, target and Host and body in what it lets pass, and
// against itself when the bytes come in two pieces.
func FuzzHead(f *testing.F) {
	for _, text := range goodHeads {
		if len(text) < 4096 {
			f.Add([]byte(text))
		}
	}
	for _, b := range badHeads {
		if len(b.head) < 4096 {
			f.Add([]byte(b.head))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) { agree(t, p) })
}

func agree(t *testing.T, p []byte) {
	t.Helper()
	p = bytes.Clone(p)
	h, no := lookAt(p)
	slow, ok := slowLook(p)
	if (no == nil) != ok {
		t.Fatalf("%.200q: refused %v; the slow twin lets it pass: %v", p, no, ok)
	}
	pieces(t, p, h, no)
	if no != nil {
		return
	}
	fast := slowHead{h.size, latin1(h.method), latin1(h.target), latin1(h.host), latin1(h.path()), h.length, h.http10, h.chunked, h.expects, h.closes}
	if fast != slow {
		t.Fatalf("%.200q:\nfast %+v\nslow %+v", p, fast, slow)
	}
	var parsed fasthttp.RequestHeader
	method, target, host := string(h.method), string(h.target), string(h.host)
	if h.length == 1<<58 {
		return // a 413 before fasthttp sees it, for which it is an error
	}
	if err := parsed.Read(bufio.NewReaderSize(bytes.NewReader(p[:h.size]), headMost)); err != nil {
		if bytes.Contains(bytes.ToLower(p), []byte("trailer")) || bytes.Contains(p, []byte("multipart")) {
			return // it judges these fields' values, and may refuse
		}
		t.Fatalf("%.200q: fasthttp refuses it: %v", p, err)
	}
	if got := string(parsed.Method()); got != method {
		t.Fatalf("%.200q: method %q, fasthttp %q", p, method, got)
	}
	if got := string(parsed.RequestURI()); got != target {
		t.Fatalf("%.200q: target %q, fasthttp %q", p, target, got)
	}
	if got := string(parsed.Host()); got != host {
		t.Fatalf("%.200q: host %q, fasthttp %q", p, host, got)
	}
	length := int(h.length)
	switch {
	case h.chunked:
		length = -1
	case h.length < 0:
		length = -2
	}
	if got := parsed.ContentLength(); got != length && h.length < 1<<58 && !(length == -2 && got == 0) {
		t.Fatalf("%.200q: body %d, fasthttp %d", p, length, got)
	}
}

// pieces looks at p as it would come in two.
func pieces(t *testing.T, p []byte, want head, wantNo *refusal) {
	for _, cut := range []int{1, len(p) / 2, len(p) - 1} {
		if cut <= 0 || cut >= len(p) {
			continue
		}
		var s scan
		size, no := s.end(p[:cut])
		if no == nil && size == 0 {
			size, no = s.end(p)
		}
		if no == nil && size > 0 {
			var h head
			if no = h.parse(p, &s, size); no == nil && h.size != want.size {
				t.Fatalf("%.200q cut at %d: size %d, want %d", p, cut, h.size, want.size)
			}
		}
		if no == nil && size > 0 && wantNo != nil && wantNo != halfHead {
			t.Fatalf("%.200q cut at %d: passes, whole it is refused: %v", p, cut, wantNo)
		}
	}
}

func (r *refusal) String() string {
	if r == nil {
		return "passed"
	}
	return fmt.Sprint(r.status, " ", r.text)
}

// BenchmarkHead is the strict look at a browser's head.
func BenchmarkHead(b *testing.B) {
	p := []byte("GET /events/demo.stocks.ACME HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/event-stream\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n" +
		"Referer: http://localhost:8080/\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\r\n")
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, no := lookAt(p); no != nil {
			b.Fatal(no)
		}
	}
}

// BenchmarkHeadFasthttp is fasthttp's parser on the same head, for comparison.
func BenchmarkHeadFasthttp(b *testing.B) {
	p := []byte("GET /events/demo.stocks.ACME HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/event-stream\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n" +
		"Referer: http://localhost:8080/\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\r\n")
	var s short
	s.init()
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.parse(p); err != nil {
			b.Fatal(err)
		}
	}
}
