package server_test

// What must not matter, with real bytes over real sockets: requests that can't be taken, clients
// that send in crumbs, send on and on, half-close, reset or stop reading, a server that is full,
// out of descriptors, overrun or going down. Whatever comes, it is answered as the contract says,
// and nobody else's stream is torn, late or short.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// impatience bounds what a wire waits for; a test that passes never waits it out.
const impatience = 30 * time.Second

// A wire is a client that speaks bytes. The test's goroutine.
type wire struct {
	net.Conn
	t      testing.TB
	rest   []byte // read, and not yet given by until
	blocks string // of a stream behind a proxy: out of its chunks, and not yet given by proxied
}

func dial(t testing.TB, network, address string) *wire {
	t.Helper()
	c, err := net.DialTimeout(network, address, impatience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(impatience))
	return &wire{Conn: c, t: t}
}

// dialTo dials a server's main address.
func dialTo(t testing.TB, srv *servertest.Server) *wire {
	t.Helper()
	return dial(t, "tcp", srv.Addr().String())
}

// tcp is the connection with what only TCP has.
func (w *wire) tcp() *net.TCPConn { return w.Conn.(*net.TCPConn) }

func (w *wire) send(text string) *wire {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatalf("send %.80q: %v", text, err)
	}
	return w
}

// until reads up to and with an end, and returns what it has read.
func (w *wire) until(end string) string {
	w.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		if i := bytes.Index(w.rest, []byte(end)); i >= 0 {
			text := string(w.rest[:i+len(end)])
			w.rest = w.rest[i+len(end):]
			return text
		}
		n, err := w.Read(buf)
		w.rest = append(w.rest, buf[:n]...)
		if err != nil && !bytes.Contains(w.rest, []byte(end)) {
			w.t.Fatalf("waited for %q: %v; so far %.2000q", end, err, w.rest)
		}
	}
}

// all reads to the end, which must not be a reset.
func (w *wire) all() string {
	w.t.Helper()
	text, err := io.ReadAll(w)
	if err != nil {
		w.t.Fatalf("waited for the end: %v; so far %.2000q", err, text)
	}
	text = append(w.rest, text...)
	w.rest = nil
	return string(text)
}

// answer reads one answer that is no stream.
func (w *wire) answer() (*http.Response, string) {
	w.t.Helper()
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(w.rest), w))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		w.t.Fatalf("waited for an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("waited for the answer's body: %v; so far %q", err, body)
	}
	w.rest, _ = r.Peek(r.Buffered())
	return resp, string(body)
}

// reset closes the connection with a reset.
func (w *wire) reset() {
	_ = w.tcp().SetLinger(0)
	_ = w.Close()
}

// head makes a request's head for this machine.
func head(line string, headers ...string) string {
	return line + "\r\nHost: localhost\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// post makes a publish with its length.
func post(target, body string, headers ...string) string {
	return head("POST "+target+" HTTP/1.1", append(headers, fmt.Sprintf("Content-Length: %d", len(body)))...) + body
}

// figures are what /stats says of connections.
type figures struct {
	Connections struct{ Streams, Requests int }
}

func stats(t testing.TB, srv *servertest.Server) (f figures) {
	t.Helper()
	resp, err := http.Get(srv.URL + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// Every row of the contract's table of errors: the status, the headers that go with it, JSON that
// says what is wrong, and an end without a reset where the connection is closed.
func TestEveryRowOfTheErrorTable(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := servertest.Start(t, func(c *server.Config) { c.HandshakeTimeout = 300 * time.Millisecond })
	guarded := servertest.Start(t, func(c *server.Config) { c.PublishTokenFile = tokens })
	get := func(target string, headers ...string) string { return head("GET "+target+" HTTP/1.1", headers...) }
	chunked := func(body string) string {
		return head("POST /publish/a HTTP/1.1", "Transfer-Encoding: chunked") + body
	}
	for _, row := range []struct {
		name, send string
		status     int
		header     string // that must be there
		text       string // that the error names
		closed     bool   // the connection is, after it
		half       bool   // the client half-closes
		srv        *servertest.Server
	}{
		{name: "no topic", send: get("/events"), status: 400, text: "no topic", closed: true},
		{name: "empty token", send: get("/events/a..b"), status: 400, text: "byte 2", closed: true},
		{name: "NUL in a topic", send: get("/events/a%00b"), status: 400, text: `\x00`, closed: true},
		{name: "line break in a topic", send: get("/events/a%0Ab"), status: 400, text: `\n`, closed: true},
		{name: "topic not UTF-8", send: get("/events/a%FF"), status: 400, text: "UTF-8", closed: true},
		{name: "broken escape", send: get("/events/a%2"), status: 400, text: "%2", closed: true},
		{name: "unknown parameter", send: get("/events/a?colour=red"), status: 400, text: "colour", closed: true},
		{name: "doubled parameter", send: get("/events/a?lastEventId=1&Last_Event_ID=2"), status: 400, text: "Last_Event_ID", closed: true},
		{name: "event type with a line break", send: post("/publish/a?event=a%0Ab", "x"), status: 400, text: `\n`},
		{name: "event type of the server's own", send: post("/publish/a?event=gap", "x"), status: 400, text: "gap"},
		{name: "event type of EventSource's own", send: post("/publish/a?type=open", "x"), status: 400, text: "open"},
		{name: "data not UTF-8", send: post("/publish/a", "a\xffb"), status: 400, text: "UTF-8"},
		{name: "no topic to publish to", send: post("/publish", "x"), status: 400, text: "no topic"},
		{name: "bad line", send: post("/publish/a", "{\"data\":1}\n{\"data\":}\n", "Content-Type: application/x-ndjson"), status: 400, text: "line 2"},
		{name: "not gzip", send: post("/publish/a", "plain", "Content-Encoding: gzip"), status: 400, text: "gzip"},

		{name: "lengths of two kinds", send: head("POST /publish/a HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked") + "0\r\n\r\n", status: 400, text: "Transfer-Encoding", closed: true},
		{name: "two lengths", send: head("POST /publish/a HTTP/1.1", "Content-Length: 1", "Content-Length: 1") + "x", status: 400, text: "twice", closed: true},
		{name: "length with a sign", send: head("POST /publish/a HTTP/1.1", "Content-Length: +1") + "x", status: 400, text: "Content-Length", closed: true},
		{name: "chunked in HTTP/1.0", send: head("POST /publish/a HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n", status: 400, text: "HTTP/1.0", closed: true},
		{name: "folded header", send: get("/events/a", "X: a", " b"), status: 400, text: "folded", closed: true},
		{name: "bare LF", send: "GET /events/a HTTP/1.1\nHost: localhost\n\n", status: 400, text: "bare LF", closed: true},
		{name: "bare CR", send: get("/events/a", "X: a\rY: b"), status: 400, text: "0x0d", closed: true},
		{name: "NUL in a header", send: get("/events/a", "X: a\x00b"), status: 400, text: "0x00", closed: true},
		{name: "space before the colon", send: get("/events/a", "X : a"), status: 400, text: "colon", closed: true},
		{name: "no Host", send: "GET /events/a HTTP/1.1\r\n\r\n", status: 400, text: "Host", closed: true},
		{name: "two Hosts", send: get("/events/a", "Host: b"), status: 400, text: "Host", closed: true},
		{name: "TLS", send: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", status: 400, text: "TLS", closed: true},
		{name: "bad chunk", send: chunked("0x2\r\nhi\r\n0\r\n\r\n"), status: 400, text: "chunk", closed: true},
		{name: "bare LF behind a chunk extension", send: chunked("2;a=b\nhi\r\n0\r\n\r\n"), status: 400, text: "chunk", closed: true},
		{name: "half a head", send: "GET /events/a HTTP/1.1\r\nHo", status: 400, text: "ends within", closed: true, half: true},
		{name: "half a body", send: head("POST /publish/a HTTP/1.1", "Content-Length: 9") + "half", status: 400, text: "ends within", closed: true, half: true},

		{name: "no token", send: post("/publish/a", "x"), srv: guarded, status: 401, header: "WWW-Authenticate", text: "token"},
		{name: "bad token", send: post("/publish/a", "x", "Authorization: Bearer guess"), srv: guarded, status: 401, header: "WWW-Authenticate", text: "token"},
		{name: "through a proxy", send: post("/publish/a", "x", "X-Forwarded-For: 192.0.2.1"), status: 401, header: "WWW-Authenticate", text: "token"},
		{name: "to another name", send: "POST /publish/a HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 1\r\n\r\nx", status: 401, header: "WWW-Authenticate", text: "token"},
		{name: "the server's own topic", send: post("/publish/$a", "x"), status: 403, text: "$"},
		{name: "foreign origin", send: get("/events/a", "Origin: https://evil.example"), status: 403, text: "origin", closed: true},
		{name: "foreign origin publishing", send: post("/publish/a", "x", "Origin: https://evil.example"), status: 403, text: "origin"},
		{name: "foreign preflight", send: head("OPTIONS /publish/a HTTP/1.1", "Origin: https://evil.example", "Access-Control-Request-Method: POST"), status: 403, text: "origin"},
		{name: "no such path", send: get("/nothing"), status: 404, text: "/nothing", closed: true},
		{name: "hidden path", send: get("/stats", "Via: 1.1 proxy"), status: 404, text: "/stats", closed: true},
		{name: "no such method", send: head("PUT /events/a HTTP/1.1", "Content-Length: 0"), status: 405, header: "Allow", text: "PUT"},
		{name: "get of publish", send: get("/publish/a"), status: 405, header: "Allow", text: "GET", closed: true},
		{name: "not acceptable", send: get("/events/a", "Accept: text/html"), status: 406, text: "text/event-stream", closed: true},
		{name: "late head", send: "GET /eve", status: 408, text: "in time", closed: true},
		{name: "late long head", send: get("/events/a", "X: "+strings.Repeat("x", 5000))[:5000], status: 408, text: "in time", closed: true},
		{name: "large event", send: post("/publish/a", strings.Repeat("x", 1<<20)), status: 413, text: "1048576"},
		{name: "large batch", send: post("/publish/a", strings.Repeat("x", 16<<20+1)), status: 413, text: "16777216", closed: true},
		{name: "large batch in chunks", send: chunked("1000001\r\n" + strings.Repeat("x", 16<<20+1)), status: 413, text: "16777216", closed: true},
		{name: "length beyond all memory", send: head("POST /publish/a HTTP/1.1", "Content-Length: 99999999999999999999"), status: 413, text: "16777216", closed: true},
		{name: "long target", send: get("/events?topic=" + strings.Repeat("x", 64<<10)), status: 414, text: "64 KiB", closed: true},
		{name: "long headers", send: get("/events/a", "X: "+strings.Repeat("x", 1<<20)), status: 431, text: "16 KiB", closed: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			srv := row.srv
			if srv == nil {
				srv = open
			}
			w := dialTo(t, srv)
			// The answer may come before all is sent, and must arrive all the same.
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(w.Conn, row.send)
				if err == nil && row.half {
					err = w.tcp().CloseWrite()
				}
				sent <- err
			}()
			resp, body := w.answer()
			var said struct{ Error string }
			if resp.StatusCode != row.status || resp.Header.Get("Content-Type") != "application/json" || json.Unmarshal([]byte(body), &said) != nil {
				t.Fatalf("got %s, %v, %q; want %d and JSON", resp.Status, resp.Header, body, row.status)
			}
			if !strings.Contains(said.Error, row.text) {
				t.Errorf("error %q does not name %q", said.Error, row.text)
			}
			if row.header != "" && resp.Header.Get(row.header) == "" {
				t.Errorf("no %s in %v", row.header, resp.Header)
			}
			if err := <-sent; err != nil {
				t.Errorf("the server did not take what was sent: %v", err)
			}
			if row.closed {
				if !resp.Close {
					t.Errorf("no Connection: close in %v", resp.Header)
				}
				if more := w.all(); more != "" {
					t.Errorf("after the answer came %q", more)
				}
				return
			}
			w.send(head("GET /healthz HTTP/1.1"))
			if resp, _ := w.answer(); resp.StatusCode != 200 {
				t.Errorf("the next request on the connection got %s", resp.Status)
			}
		})
	}
}

// take reads exactly n bytes.
func (w *wire) take(n int) string {
	w.t.Helper()
	got := make([]byte, n)
	had := copy(got, w.rest)
	w.rest = w.rest[had:]
	if m, err := io.ReadFull(w, got[had:]); err != nil {
		w.t.Fatalf("waited for %d bytes: %v; got %q", n, err, got[:had+m])
	}
	return string(got)
}

// block reads what the server sent at once: a chunk, or in HTTP/1.0 up to an empty line.
func (w *wire) block(http10 bool) string {
	w.t.Helper()
	if http10 {
		return w.until("\n\n")
	}
	var size int
	line := w.until("\r\n")
	if _, err := fmt.Sscanf(line, "%x\r\n", &size); err != nil || fmt.Sprintf("%x\r\n", size) != line {
		w.t.Fatalf("chunk begins with %q", line)
	}
	payload := w.take(size + 2)
	if !strings.HasSuffix(payload, "\n\n\r\n") {
		w.t.Fatalf("chunk %q does not end at a frame's border", payload)
	}
	return payload[:size]
}

var date = regexp.MustCompile(`Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`)

// begin reads a stream's head, which must be the contract's.
func (w *wire) begin(http10 bool) {
	w.t.Helper()
	want := "HTTP/1.1 200 OK\r\nDate: DATE\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-store, no-transform\r\n" +
		"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nVary: Accept-Encoding, Origin\r\n"
	if http10 {
		want += "Connection: close\r\n\r\n"
	} else {
		want += "Transfer-Encoding: chunked\r\n\r\n"
	}
	if got := date.ReplaceAllString(w.until("\r\n\r\n"), "Date: DATE"); got != want {
		w.t.Fatalf("the stream's head is\n%q, want\n%q", got, want)
	}
}

// next reads the next block that is no heartbeat.
func (w *wire) next(http10 bool) string {
	w.t.Helper()
	for {
		if b := w.block(http10); b != ":\n\n" && !idAlone.MatchString(b) {
			return b
		}
	}
}

var idAlone = regexp.MustCompile(`^id: \d+\n\n$`)

// Streams as they are on the wire, byte for byte, in both versions of HTTP: head and first block,
// events, heartbeats with and without an id, the gap for an id that can't be, a resume, the end.
func TestBytesOfAStream(t *testing.T) {
	for _, version := range []string{"1.1", "1.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			srv := servertest.Start(t, func(c *server.Config) { c.Heartbeat = time.Second })
			http10 := version == "1.0"
			ask := func(target string, headers ...string) *wire {
				w := dialTo(t, srv).send(head("GET "+target+" HTTP/"+version, headers...))
				w.begin(http10)
				return w
			}
			want := func(got, format string, a ...any) {
				t.Helper()
				if text := fmt.Sprintf(format, a...); got != text {
					t.Fatalf("got %q, want %q", got, text)
				}
			}
			// The waiting time is random.
			first := func(w *wire, format string, a ...any) {
				t.Helper()
				got := w.block(http10)
				var wait int
				if _, err := fmt.Sscanf(got, "retry: %d\n", &wait); err != nil || wait < 2000 || wait > 5000 {
					t.Fatalf("first block %q; want retry: of 2000 to 5000 first", got)
				}
				want(got, "retry: %d\n"+format, append([]any{wait}, a...)...)
			}

			start := srv.Publish(t, "other", "so that there is an id")
			w := ask("/events/bytes")
			first(w, "id: %d\n\n", start)
			id := srv.Publish(t, "bytes?event=trade&retry=77", "one\ntwo\r\nthree\rfour\n")
			want(w.next(http10), "event: trade\ndata: one\ndata: two\ndata: three\ndata: four\ndata: \nretry: 77\nid: %d\n\n", id)
			empty := srv.Publish(t, "bytes", "")
			want(w.next(http10), "data: \nid: %d\n\n", empty)
			id = srv.Publish(t, "bytes", " led by a space")
			want(w.next(http10), "data:  led by a space\nid: %d\n\n", id)
			want(w.block(http10), ":\n\n")
			moved := srv.Publish(t, "other", "moves the ring on")
			want(w.block(http10), "id: %d\n\n", moved)
			want(w.block(http10), ":\n\n")

			r := ask("/events/bytes", fmt.Sprintf("Last-Event-ID: %d", empty))
			if http10 {
				first(r, "id: %d\n\n", empty)
				want(r.next(http10), "data:  led by a space\nid: %d\n\n", id)
			} else {
				first(r, "id: %d\n\ndata:  led by a space\nid: %d\n\n", empty, id)
			}

			g := ask("/events/bytes?lastEventId=%22%00")
			gap := fmt.Sprintf("event: gap\ndata: {\"topics\":[\"bytes\"],\"after\":\"\\\"\\u0000\",\"before\":\"%d\",\"reason\":\"unknown-id\"}\n", moved+1)
			if http10 {
				first(g, "\n")
				if got := g.block(http10); !strings.HasPrefix(got, gap+"id: ") {
					t.Fatalf("got %q, want %q and an id", got, gap)
				}
			} else if got := g.block(http10); !strings.Contains(got, "\n\n"+gap+"id: ") {
				t.Fatalf("got %q, want %q and an id", got, gap)
			}

			srv.Drain()
			for b := w.block(http10); ; b = w.block(http10) {
				if b == ":\n\n" {
					continue
				}
				var wait int
				if _, err := fmt.Sscanf(b, "retry: %d\n", &wait); err != nil || wait < 2000 || wait > 5000 || b != fmt.Sprintf("retry: %d\n\n", wait) {
					t.Fatalf("the last block is %q; want retry: of 2000 to 5000 alone", b)
				}
				break
			}
			switch end := w.all(); {
			case http10 && end != "":
				t.Errorf("the stream ended with %q", end)
			case !http10 && end != "0\r\n\r\n":
				t.Errorf("the stream ended with %q, want the last chunk", end)
			}
		})
	}
}
