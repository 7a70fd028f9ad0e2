package api

// What the tests stand on: a sequencer and a shard of their own, and requests as raw bytes that
// go both ways.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"penstock/ring"
	"penstock/server/accept"
	"penstock/server/auth"
	"penstock/server/fanout"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// fasthttp keeps one goroutine for ever that renews the Date header.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("time.Sleep"))
}

// start makes an API of a loopback address, with small limits.
func start(t testing.TB, change ...func(*Options)) *API {
	t.Helper()
	return startOn(t, topic.Options{RingSize: 1 << 20, MaxEventSize: 64 << 10, MaxTopics: 10_000, MaxWaiting: 10, PublishWait: time.Second}, change...)
}

func startOn(t testing.TB, so topic.Options, change ...func(*Options)) *API {
	t.Helper()
	sequencer, err := topic.New(so)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := fanout.New(fanout.Options{
		Shards: 1, Sequencer: sequencer, Heartbeat: time.Minute, FlushInterval: time.Millisecond, FlushMaxBytes: 64 << 10,
		LagMemory: 1 << 20, RetryMin: time.Second, RetryMax: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shards.Close)
	policy, err := auth.New(auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Sequencer: sequencer, Shards: shards, Policy: policy, Loopback: []bool{true},
		Limits:       Limits{MaxTopicsPerSubscriber: 5, BodyMemory: 4 << 20, RetryMin: 2 * time.Second, RetryMax: 5 * time.Second},
		MaxEventSize: so.MaxEventSize, MaxBatchSize: 256 << 10,
		Version: "v1.2.3",
	}
	for _, f := range change {
		f(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An answer is what a request got.
type answer struct {
	sub    *fanout.Subscription // a stream; then nothing else
	status int
	header map[string]string
	body   string
}

// text is the error's text.
func (a *answer) text(t testing.TB) string {
	t.Helper()
	var e struct{ Error string }
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.header["Content-Type"] != "application/json" {
		t.Fatalf("status %d: no error in JSON: %q, %s", a.status, a.body, a.header["Content-Type"])
	}
	return e.Error
}

var from = accept.From{Remote: netip.MustParseAddrPort("127.0.0.1:40000")}

// head parses a request's head.
func head(t testing.TB, raw string) *fasthttp.RequestHeader {
	t.Helper()
	h := new(fasthttp.RequestHeader)
	if err := h.Read(bufio.NewReader(strings.NewReader(raw))); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return h
}

// request writes a request: the method and target, Host, more header lines, and a body.
func raw(line string, headers ...string) string {
	return line + " HTTP/1.1\r\nHost: localhost:8080\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func withBody(line, body string, headers ...string) string {
	return raw(line, append(headers, "Content-Length: "+itoa(len(body)))...) + body
}

// short sends a request the short way.
func short(t testing.TB, a *API, request string) (an answer, long bool) {
	t.Helper()
	sub, b, long := a.Short([]byte("before"), head(t, request), from)
	if long {
		return an, true
	}
	if sub != nil {
		return answer{sub: plain(sub)}, false
	}
	b, ok := bytes.CutPrefix(b, []byte("before"))
	if !ok {
		t.Fatalf("%q: the answer is not behind what was there: %q", request, b)
	}
	an = parse(t, b, strings.HasPrefix(request, "HEAD "))
	if an.header["Connection"] != "close" {
		t.Errorf("%q: an answer on the short way without Connection: close", request)
	}
	return an, false
}

// plain is a subscription that may be compared: lists without anything in them are nil.
func plain(sub *fanout.Subscription) *fanout.Subscription {
	if len(sub.Topics) == 0 {
		sub.Topics = nil
	}
	if len(sub.Patterns) == 0 {
		sub.Patterns = nil
	}
	return sub
}

// ask sends a request for a stream with a body, up to where accept would make it one.
func ask(t testing.TB, a *API, text string) answer {
	t.Helper()
	var req fasthttp.Request
	if err := req.Read(bufio.NewReader(strings.NewReader(text))); err != nil {
		t.Fatalf("%.200q: %v", text, err)
	}
	r := &request{header: &req.Header}
	f := a.judge(r)
	var sub *fanout.Subscription
	if f == nil {
		sub, f = a.subscribe(r, &req)
	}
	if f == nil {
		return answer{sub: plain(sub)}
	}
	var resp fasthttp.Response
	a.fail(&resp, r, f)
	return answerOf(&resp)
}

// parse takes an answer apart.
func parse(t testing.TB, b []byte, headOnly bool) answer {
	t.Helper()
	var resp fasthttp.Response
	resp.SkipBody = headOnly
	r := bufio.NewReader(bytes.NewReader(b))
	if err := resp.Read(r); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Fatalf("%q: %d bytes behind the answer", b, len(rest))
	}
	return answerOf(&resp)
}

func answerOf(resp *fasthttp.Response) answer {
	an := answer{status: resp.StatusCode(), header: map[string]string{}, body: string(resp.Body())}
	for k, v := range resp.Header.All() {
		an.header[string(k)] = string(v)
	}
	return an
}

// long sends a request the long way, through fasthttp; not one for a stream, which takes a
// connection of accept's.
func long(t testing.TB, a *API, request string) answer {
	t.Helper()
	conn := &memoryConn{in: strings.NewReader(request)}
	server := fasthttp.Server{Handler: a.Serve, NoDefaultServerHeader: true, DisablePreParseMultipartForm: true, MaxRequestBodySize: 1 << 30}
	if err := server.ServeConn(conn); err != nil && err != io.EOF {
		t.Fatalf("%.200q: %v", request, err)
	}
	return parse(t, conn.out.Bytes(), strings.HasPrefix(request, "HEAD "))
}

// memoryConn is a connection whose other end has said everything.
type memoryConn struct {
	net.Conn
	in  *strings.Reader
	out bytes.Buffer
}

func (c *memoryConn) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *memoryConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// get sends a GET or HEAD both ways. Where the short way answers itself, the long one must say
// the same.
func get(t testing.TB, a *API, request string) answer {
	t.Helper()
	an, isLong := short(t, a, request)
	if isLong || an.sub != nil {
		if isLong {
			return long(t, a, request)
		}
		return an
	}
	other := long(t, a, request)
	for _, h := range []string{"Connection", "Date", "Content-Length", "Retry-After"} {
		delete(an.header, h)
		delete(other.header, h)
	}
	if strings.HasPrefix(request, "HEAD ") {
		other.body = ""
	}
	if strings.Contains(an.body, "retry: ") {
		an.body, other.body = an.body[strings.Index(an.body, "\n"):], other.body[strings.Index(other.body, "\n"):]
	}
	if an.status != other.status || an.body != other.body || len(an.header) != len(other.header) {
		t.Errorf("%q: the short way says %d %q %v, the long one %d %q %v", request, an.status, an.body, an.header, other.status, other.body, other.header)
	}
	for k, v := range an.header {
		if other.header[k] != v {
			t.Errorf("%q: %s is %q on the short way, %q on the long one", request, k, v, other.header[k])
		}
	}
	return an
}

// events reads what is in the ring: the topic's number, and the frame without its id.
func events(t testing.TB, a *API) (all []string) {
	t.Helper()
	r := a.o.Sequencer.Ring()
	rd := r.Reader(r.Tail(), r.Head())
	for {
		e, _, ok := rd.Next()
		if !ok {
			return all
		}
		all = append(all, a.nameOf(t, e)+" "+string(e.Frame()[:bytes.LastIndex(e.Frame(), []byte("id: "))]))
	}
}

// nameOf finds an entry's topic.
func (a *API) nameOf(t testing.TB, e ring.Entry) string {
	for _, tp := range a.o.Sequencer.Table().Page("", "", mostTopics) {
		if tp.Number() == e.Topic() {
			return tp.Name()
		}
	}
	t.Fatalf("no topic %d", e.Topic())
	return ""
}

// want fails where an answer's status or text is another one.
func (a *answer) want(t testing.TB, what string, status int, words ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, want %d: %s", what, a.status, status, a.body)
		return
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			t.Errorf("%s: %q does not say %q", what, a.body, w)
		}
	}
}
