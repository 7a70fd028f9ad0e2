package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"penstock/server/accept"
	"penstock/server/auth"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

func packed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

const (
	ndjson = "Content-Type: application/x-ndjson"
	form   = "Content-Type: application/x-www-form-urlencoded"
	gzipd  = "Content-Encoding: gzip"
)

// Each content type, with each of its parameters, puts into the ring what it says.
func TestPublishPutsIntoTheRingWhatTheRequestSays(t *testing.T) {
	for _, c := range []struct {
		request string
		answer  string // N stands for an id
		events  []string
	}{
		// The data as it is.
		{withBody("POST /publish/a", "it works"), `{"id":"N"}`, []string{"a data: it works\n"}},
		{withBody("POST /publish/a", "it works", form), `{"id":"N"}`, []string{"a data: it works\n"}},
		{withBody("POST /publish?topic=a", "x=y&z", form), `{"id":"N"}`, []string{"a data: x=y&z\n"}},
		{withBody("POST /publish/a", ""), `{"id":"N"}`, []string{"a data: \n"}},
		{withBody("POST /publish/a", "1\n2\r\n3\r4"), `{"id":"N"}`, []string{"a data: 1\ndata: 2\ndata: 3\ndata: 4\n"}},
		{withBody("POST /publish/a?event=trade&retry=3000&_=1", "x"), `{"id":"N"}`, []string{"a event: trade\ndata: x\nretry: 3000\n"}},
		{withBody("POST /publish/a?type=a+b%C3%A9", "x"), `{"id":"N"}`, []string{"a event: a bé\ndata: x\n"}},
		{withBody("POST /publish/a?event=&retry=0", "x"), `{"id":"N"}`, []string{"a data: x\n"}},
		{withBody("POST /publish/a", `{"a": 1}`, "Content-Type: application/json"), `{"id":"N"}`, []string{"a data: {\"a\": 1}\n"}},
		{withBody("POST /publish/a", "x", "Content-Type: multipart/form-data; boundary=z"), `{"id":"N"}`, []string{"a data: x\n"}},
		{withBody("POST /publish/a", packed("it works"), gzipd), `{"id":"N"}`, []string{"a data: it works\n"}},
		{withBody("POST /publish/a", packed("x")+packed("y"), "Content-Encoding: X-GZip"), `{"id":"N"}`, []string{"a data: xy\n"}},
		{withBody("POST /publish/a", "x", "Content-Encoding: identity"), `{"id":"N"}`, []string{"a data: x\n"}},
		{withBody("POST /publish/a%2Eb", "x"), `{"id":"N"}`, []string{"a.b data: x\n"}},
		{withBody("POST http://localhost:8080/publish/a", "x"), `{"id":"N"}`, []string{"a data: x\n"}},
		{raw("POST /publish/a", "Transfer-Encoding: chunked") + "2\r\nit\r\n0\r\n\r\n", `{"id":"N"}`, []string{"a data: it\n"}},
		// Several topics.
		{withBody("POST /publish/b?topic=a,b&topic=c", "x"), `{"id":"N","ids":{"b":"N","a":"N","c":"N"}}`, []string{"b data: x\n", "a data: x\n", "c data: x\n"}},
		{withBody("POST /publish/b,b?topic=b", "x"), `{"id":"N"}`, []string{"b data: x\n"}},
		{withBody(`POST /publish/a%22%5C,b`, "x"), `{"id":"N","ids":{"a\"\\":"N","b":"N"}}`, []string{`a"\ data: x` + "\n", "b data: x\n"}},
		// NDJSON.
		{withBody("POST /publish", "{\"topic\":\"a\",\"data\":\"1\"}\n\n \t\r\n{\"topic\":\"b\",\"data\":\"2\"}\r\n", ndjson), `{"count":2,"firstId":"N","lastId":"N"}`, []string{"a data: 1\n", "b data: 2\n"}},
		{withBody("POST /publish/d", `{"data":{"a": [1, "x y"]},"event":"e","retry":7,"id":"12","time":{"x":1}}`, ndjson), `{"count":1,"firstId":"N","lastId":"N"}`, []string{"d event: e\ndata: {\"a\":[1,\"x y\"]}\nretry: 7\n"}},
		{withBody("POST /publish/d", `{"data":"a\nb\u00e9\ud83d\ude00","type":"e"}`, "Content-Type: APPLICATION/X-NDJSON ; charset=utf-8"), `{"count":1,"firstId":"N","lastId":"N"}`, []string{"d event: e\ndata: a\ndata: bé😀\n"}},
		{withBody("POST /publish/a,b", "{\"data\":1}\n{\"data\":null,\"topic\":\"c\"}\n{\"data\":true}", ndjson), `{"count":5,"firstId":"N","lastId":"N"}`, []string{"a data: 1\n", "b data: 1\n", "c data: null\n", "a data: true\n", "b data: true\n"}},
		{withBody("POST /publish/d", packed("{\"data\":1}\n{\"data\":2}\n"), ndjson, gzipd), `{"count":2,"firstId":"N","lastId":"N"}`, []string{"d data: 1\n", "d data: 2\n"}},
		// Forms.
		{withBody("POST /publish", "topic=a&data=it+works%21&event=e&retry=5&_x=1", form), `{"id":"N"}`, []string{"a event: e\ndata: it works!\nretry: 5\n"}},
		{withBody("POST /publish", "data=&topic=a,b&topic=c&type=e", form), `{"id":"N","ids":{"a":"N","b":"N","c":"N"}}`, []string{"a event: e\ndata: \n", "b event: e\ndata: \n", "c event: e\ndata: \n"}},
		{withBody("POST /publish?_=1", packed("topic=a&data=x"), form, gzipd), `{"id":"N"}`, []string{"a data: x\n"}},
	} {
		a := start(t)
		an := long(t, a, c.request)
		if an.status != 200 || an.header["Content-Type"] != "application/json" {
			t.Errorf("%q: %d %s", c.request, an.status, an.body)
			continue
		}
		if got := withoutIDs(an.body); got != c.answer+"\n" {
			t.Errorf("%q: answer %q, want %q", c.request, got, c.answer)
		}
		if got := events(t, a); !reflect.DeepEqual(got, c.events) {
			t.Errorf("%q:\n%q, want\n%q", c.request, got, c.events)
		}
		if !strings.Contains(an.body, idText(a.o.Sequencer.NewestID())) {
			t.Errorf("%q: the answer %q lacks the newest id %d", c.request, an.body, a.o.Sequencer.NewestID())
		}
	}
}

// A second publish with a key, however it is given, gets the first one's id and publishes nothing.
func TestPublishWithAKeyPublishesOnce(t *testing.T) {
	a := start(t)
	for _, c := range []struct {
		request, again string
		answer         string // to the second, N for the first one's id
		count          int
	}{
		{withBody("POST /publish/a?key=1", "x"), withBody("POST /publish/a", "y", "Idempotency-Key: 1"), `{"id":"N"}`, 1},
		{withBody("POST /publish", "topic=a&data=x&key=2", form), withBody("POST /publish", "topic=a&data=x&key=2", form), `{"id":"N"}`, 1},
		{withBody("POST /publish", "topic=a&data=x", form, "Idempotency-Key: 3"), withBody("POST /publish/a", `{"data":1,"key":"3"}`, ndjson), `{"count":0,"firstId":"N","lastId":"N"}`, 1},
		{withBody("POST /publish/b", `{"data":1,"key":"4"}`+"\n"+`{"data":2,"key":"4"}`, ndjson), withBody("POST /publish/b?key=4", "x"), `{"id":"N"}`, 1},
	} {
		before := len(events(t, a))
		first := long(t, a, c.request)
		id := idText(a.o.Sequencer.NewestID())
		if got := len(events(t, a)) - before; first.status != 200 || got != c.count || !strings.Contains(first.body, id) {
			t.Errorf("%q: %d %s, %d events", c.request, first.status, first.body, got)
		}
		again := long(t, a, c.again)
		if want := strings.ReplaceAll(c.answer, "N", id) + "\n"; again.status != 200 || again.body != want {
			t.Errorf("%q again as %q: %d %s, want %s", c.request, c.again, again.status, again.body, want)
		}
		if got := len(events(t, a)) - before; got != c.count {
			t.Errorf("%q again: %d events, want %d", c.request, got, c.count)
		}
	}
	// Several topics share a key and are told apart.
	long(t, a, withBody("POST /publish/c?key=5", "x"))
	before := len(events(t, a))
	if an := long(t, a, withBody("POST /publish/c,d?key=5", "x")); an.status != 200 || len(events(t, a)) != before+1 {
		t.Errorf("one of two topics has the key: %d %s, %d events, want 1", an.status, an.body, len(events(t, a))-before)
	}
}

// withoutIDs writes N for each id.
func withoutIDs(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if digit(s[i]) && s[i-1] == '"' {
			i = digits([]byte(s), i)
			b.WriteByte('N')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// What /publish does not take publishes nothing, and the text names what is wrong, and the line.
func TestBadPublishIsRefusedByNameAndPublishesNothing(t *testing.T) {
	big := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		request string
		status  int
		words   []string
	}{
		{withBody("POST /publish", "x"), 400, []string{"no topic", "/publish/{topic}"}},
		{withBody("POST /publish/", "x"), 400, []string{"empty"}},
		{withBody("POST /publish/a,", "x"), 400, []string{"empty"}},
		{withBody("POST /publish/a/b", "x"), 400, []string{"byte"}},
		{withBody("POST /publish/a%0Ab", "x"), 400, []string{"byte"}},
		{withBody("POST /publish/a.*", "x"), 400, []string{"*"}},
		{withBody("POST /publish/a%4", "x"), 400, []string{"escape"}},
		{withBody("POST /publish/$own", "x"), 403, []string{"$"}},
		{withBody("POST /publish/a,b,c,d,e,f", "x"), 400, []string{"5"}},
		{withBody("POST /publish/a?event=a%0Ab", "x"), 400, []string{"event type"}},
		{withBody("POST /publish/a?event=a%00b", "x"), 400, []string{"event type"}},
		{withBody("POST /publish/a?event=%FF", "x"), 400, []string{"UTF-8"}},
		{withBody("POST /publish/a?event=gap", "x"), 400, []string{"gap", "reserved"}},
		{withBody("POST /publish/a?type=error", "x"), 400, []string{"error", "reserved"}},
		{withBody("POST /publish/a?event=a&event=a", "x"), 400, []string{"event", "twice"}},
		{withBody("POST /publish/a?event=a&type=a", "x"), 400, []string{"type", "twice"}},
		{withBody("POST /publish/a?retry=1&retry=1", "x"), 400, []string{"retry", "twice"}},
		{withBody("POST /publish/a?retry=1.5", "x"), 400, []string{"retry", "1.5", "milliseconds"}},
		{withBody("POST /publish/a?retry=-1", "x"), 400, []string{"retry", "-1"}},
		{withBody("POST /publish/a?retry=", "x"), 400, []string{"retry"}},
		{withBody("POST /publish/a?retry=2147483648", "x"), 400, []string{"retry", "2147483648"}},
		{withBody("POST /publish/a?key=", "x"), 400, []string{"key", "empty"}},
		{withBody("POST /publish/a?key=1&key=1", "x"), 400, []string{"key", "twice"}},
		{withBody("POST /publish/a?key=1", "x", "Idempotency-Key: 1"), 400, []string{"key", "twice", "Idempotency-Key"}},
		{withBody("POST /publish/a?key=a%0Ab", "x"), 400, []string{"key", "control", "byte 2"}},
		{withBody("POST /publish/a?key=%FF", "x"), 400, []string{"key", "UTF-8"}},
		{withBody("POST /publish/a?key="+strings.Repeat("k", 256), "x"), 400, []string{"key", "256", "255"}},
		{withBody("POST /publish/a?close=yes", "x"), 400, []string{"close", "yes", "true or false"}},
		{withBody("POST /publish/a?close=true&close=true", "x"), 400, []string{"close", "twice"}},
		{withBody("POST /publish/$a?close=true", ""), 403, []string{"$"}},
		{withBody("POST /publish/a", "x", "Idempotency-Key: "+strings.Repeat("k", 256)), 400, []string{"Idempotency-Key", "256"}},
		{withBody("POST /publish/a", "{\"data\":1}", ndjson, "Idempotency-Key: 1"), 400, []string{"Idempotency-Key", "line"}},
		{withBody("POST /publish?key=1", "topic=a&data=x", form), 400, []string{"key", "form"}},
		{withBody("POST /publish/a?data=x", "x"), 400, []string{"data", "unknown"}},
		{withBody("POST /publish/a?mode=x", "x"), 400, []string{"mode", "unknown"}},
		{withBody("POST /publish/a?_=%", "x"), 400, []string{"escape"}},
		{withBody("POST /publish/a", "a\xffb"), 400, []string{"UTF-8", "0xff"}},
		{withBody("POST /publish/a", big), 413, []string{"--max-event-size", "65536", "frame"}},
		{withBody("POST /publish/a", big+"x"), 413, []string{"--max-event-size", "65536"}},
		{withBody("POST /publish/a,b,c,d,e", big[:60<<10]), 413, []string{"--max-batch-size", "5 topics"}},
		{withBody("POST /publish/a", strings.Repeat(packed(big), 100), gzipd), 413, []string{"--max-event-size", "unpacked"}},
		{withBody("POST /publish/a", "x", gzipd), 400, []string{"gzip"}},
		{withBody("POST /publish/a", packed("hello")[:20], gzipd), 400, []string{"gzip"}},
		{withBody("POST /publish/a", packed("hello")+"x", gzipd), 400, []string{"gzip"}},
		{withBody("POST /publish/a", "x", "Content-Encoding: br"), 400, []string{"br", "gzip"}},
		{withBody("POST /publish/a", "x", gzipd, gzipd), 400, []string{"Content-Encoding", "twice"}},

		{withBody("POST /publish/a", "", ndjson), 400, []string{"no event"}},
		{withBody("POST /publish/a", "\n\n \n", ndjson), 400, []string{"no event"}},
		{withBody("POST /publish", `{"data":1}`, ndjson), 400, []string{"line 1", "no topic"}},
		{withBody("POST /publish/a", "{\"data\":1}\n\n{\"data\":1", ndjson), 400, []string{"line 3", "byte"}},
		{withBody("POST /publish/a", "{\"data\":1}\n[1]", ndjson), 400, []string{"line 2", "object"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":2,\"x\":1}", ndjson), 400, []string{"line 2", `\"x\"`, "unknown"}},
		{withBody("POST /publish/a", "{\"data\":1,\"data\":2}", ndjson), 400, []string{"line 1", "data", "twice"}},
		{withBody("POST /publish/a", "{\"topic\":\"b\"}", ndjson), 400, []string{"line 1", "data", "required"}},
		{withBody("POST /publish/a", "{\"data\":1,\"key\":\"\"}", ndjson), 400, []string{"line 1", "key", "empty"}},
		{withBody("POST /publish/a", "{\"data\":1,\"key\":7}", ndjson), 400, []string{"line 1", "key", "string"}},
		{withBody("POST /publish/a", "{\"data\":1,\"close\":\"true\"}", ndjson), 400, []string{"line 1", "close", "true or false"}},
		{withBody("POST /publish/a", "{\"close\":false}", ndjson), 400, []string{"line 1", "data", "required"}},
		{withBody("POST /publish/a?close=true", "{\"data\":1}", ndjson), 400, []string{"close", "line"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":1,\"topic\":\"b c\"}", ndjson), 400, []string{"line 2", "byte"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":1,\"topic\":\"$x\"}", ndjson), 403, []string{"line 2", "$"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":1,\"topic\":\"\"}", ndjson), 400, []string{"line 2", "empty"}},
		{withBody("POST /publish/a,b", "\n{\"data\":1}\n\n{\"data\":1,\"topic\":\"c\"}\n{\"data\":1,\"event\":\"gap\"}", ndjson), 400, []string{"line 5", "gap"}},
		{withBody("POST /publish/a", "{\"data\":1,\"event\":\"a\\nb\"}", ndjson), 400, []string{"line 1", "event type"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":\"a\xff\"}", ndjson), 400, []string{"line 2", "UTF-8"}},
		{withBody("POST /publish/a", "{\"data\":\"\\ud83d\"}", ndjson), 400, []string{"line 1", "d83d", "half"}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":\""+big+"\"}", ndjson), 413, []string{"line 2", "frame"}},
		{withBody("POST /publish/a", strings.Repeat("{\"data\":1}\n", 30_000), ndjson), 413, []string{"--max-batch-size"}},
		{withBody("POST /publish/a", packed(strings.Repeat("{\"data\":1}\n", 30_000)), ndjson, gzipd), 413, []string{"--max-batch-size"}},
		{withBody("POST /publish/a,b,c,d,e", strings.Repeat("{\"data\":1}\n", 2_000), ndjson), 413, []string{"line", "--max-batch-size"}},
		{withBody("POST /publish/a?event=x", "{\"data\":1}", ndjson), 400, []string{"event", "line"}},

		{withBody("POST /publish", "", form), 400, []string{"no topic"}},
		{withBody("POST /publish", "data=x", form), 400, []string{"no topic"}},
		{withBody("POST /publish", "topic=a", form), 400, []string{"no data"}},
		{withBody("POST /publish", "topic=a&data=x&data=y", form), 400, []string{"data", "twice"}},
		{withBody("POST /publish", "topic=a&data=%f", form), 400, []string{"form", "escape"}},
		{withBody("POST /publish", "topic=a&data=%ff", form), 400, []string{"UTF-8"}},
		{withBody("POST /publish", "topic=a&data=x&mode=y", form), 400, []string{"mode", "unknown"}},
		{withBody("POST /publish", "topic=a&data=x&key=y&key=y", form), 400, []string{"key", "twice"}},
		{withBody("POST /publish", "topic=$a&data=x", form), 403, []string{"$"}},
		{withBody("POST /publish?event=x", "topic=a&data=x", form), 400, []string{"form"}},
		{withBody("POST /publish?close=true", "topic=a&data=x", form), 400, []string{"form"}},
		{withBody("POST /publish", "topic=a&close=false", form), 400, []string{"no data"}},
	} {
		a := start(t)
		what := c.request[:min(len(c.request), 150)]
		an := long(t, a, c.request)
		an.want(t, what, c.status, c.words...)
		an.text(t)
		if got := a.o.Sequencer.Stats().Events; got != 0 {
			t.Errorf("%q: %d events were published", what, got)
		}
	}
}

// Who may publish without a token: only this machine, by its own name, without a proxy.
func TestPublishingWithoutATokenIsForThisMachineAlone(t *testing.T) {
	local := start(t)
	public := start(t, func(o *Options) { o.Loopback = []bool{false} })
	open := start(t, func(o *Options) {
		o.Loopback = []bool{false}
		o.Policy, _ = auth.New(auth.Options{Insecure: true})
	})
	for _, c := range []struct {
		host  string
		lines []string
		ok    bool
	}{
		{"localhost", nil, true}, {"localhost:8080", nil, true}, {"LocalHost:1", nil, true}, {"127.0.0.1:8080", nil, true}, {"127.0.0.1", nil, true},
		{"[::1]", nil, true}, {"[::1]:8080", nil, true},
		{"127.0.0.2", nil, false}, {"evil.example:8080", nil, false}, {"localhost.evil.example", nil, false},
		{"localhost", []string{"Forwarded: for=1.2.3.4"}, false}, {"localhost", []string{"X-Forwarded-For: 1.2.3.4"}, false},
		{"localhost", []string{"x-forwarded-anything: 1"}, false}, {"localhost", []string{"Via: 1.1 proxy"}, false},
		{"localhost", []string{"X-Real-IP: 1.2.3.4"}, true},
	} {
		request := "POST /publish/a HTTP/1.1\r\nHost: " + c.host + "\r\nContent-Length: 1\r\n" + strings.Join(append(c.lines, ""), "\r\n") + "\r\nx"
		an := long(t, local, request)
		if ok := an.status == 200; ok != c.ok {
			t.Errorf("%s %q: status %d %s", c.host, c.lines, an.status, an.body)
		}
		if !c.ok {
			an.want(t, c.host, 401, "token", "loopback")
			if an.header["Www-Authenticate"] != `Bearer realm="penstock"` {
				t.Errorf("%s: WWW-Authenticate %q", c.host, an.header["Www-Authenticate"])
			}
		}
		an = long(t, public, request)
		an.want(t, "public "+c.host, 401)
		an = long(t, open, request)
		an.want(t, "insecure "+c.host, 200)
	}
	an := long(t, local, "POST http://evil.example/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
	an.want(t, "the target's authority counts", 401)
}

// A configured token is asked of everybody, loopback included.
func TestPublishTokenIsAskedOfEverybody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, func(o *Options) { o.Policy, _ = auth.New(auth.Options{TokenFile: file}) })
	for _, c := range []struct {
		line      string
		status    int
		challenge string
	}{
		{"X-A: b", 401, `Bearer realm="penstock"`},
		{"Authorization:", 401, `Bearer realm="penstock"`},
		{"Authorization: Basic czNjcmV0", 401, `Bearer realm="penstock"`},
		{"Authorization: Bearer", 401, `Bearer realm="penstock"`},
		{"Authorization: Bearer wrong", 401, `Bearer realm="penstock", error="invalid_token"`},
		{"Authorization: Bearer s3cret2", 401, `Bearer realm="penstock", error="invalid_token"`},
		{"Authorization: Bearer s3cret", 200, ""},
		{"Authorization: bearer  s3cret", 200, ""},
		{"Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret", 400, ""},
	} {
		an := long(t, a, withBody("POST /publish/a", "x", c.line))
		an.want(t, c.line, c.status)
		if an.header["Www-Authenticate"] != c.challenge {
			t.Errorf("%s: WWW-Authenticate %q, want %q", c.line, an.header["Www-Authenticate"], c.challenge)
		}
		if strings.Contains(an.body, "s3cret") {
			t.Errorf("%s: the answer shows a token: %s", c.line, an.body)
		}
	}
}

// A publisher that comes while the server drains hears 503 and when to come back.
func TestPublishWhileDrainingIsA503(t *testing.T) {
	a := start(t)
	a.o.Sequencer.Drain()
	for _, request := range []string{withBody("POST /publish/a", "x"), withBody("POST /publish/a,b", "x"), withBody("POST /publish/a", "{\"data\":1}\n{\"data\":2}", ndjson)} {
		an := long(t, a, request)
		an.want(t, request, 503, "drain")
		if an.header["Retry-After"] == "" {
			t.Errorf("%q: no Retry-After", request)
		}
	}
}

// A publisher that outruns a shard hears 503 after its wait, and nothing was published.
func TestPublishersThatOutrunTheShardsGet503(t *testing.T) {
	a := startOn(t, topic.Options{RingSize: 1 << 20, MaxEventSize: 64 << 10, PublishWait: time.Millisecond})
	a.o.Sequencer.Follow(func() {}) // a shard that never reads
	request := withBody("POST /publish/a", strings.Repeat("x", 20<<10))
	published := uint64(0)
	for range 100 {
		an := long(t, a, request)
		if an.status == 200 {
			published++
			continue
		}
		an.want(t, "a publish too many", 503, "nothing was published")
		if an.header["Retry-After"] == "" {
			t.Errorf("no Retry-After: %v", an.header)
		}
		if n := a.o.Sequencer.Stats().Events; n != published {
			t.Errorf("%d events published, %d were answered", n, published)
		}
		return
	}
	t.Error("a hundred publishes, and no shard read one")
}

// When no topic can be forgotten for a new one, the publisher hears that it may try later.
func TestOneTopicTooManyIsA503(t *testing.T) {
	a := startOn(t, topic.Options{RingSize: 1 << 20, MaxEventSize: 64 << 10, MaxTopics: 1})
	an := long(t, a, withBody("POST /publish/a", "x"))
	an.want(t, "the first topic", 200)
	for _, request := range []string{withBody("POST /publish/b", "x"), withBody("POST /publish", "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":1}", ndjson)} {
		an = long(t, a, request)
		an.want(t, "the second topic", 503, "topics")
		if an.header["Retry-After"] == "" {
			t.Errorf("no Retry-After: %v", an.header)
		}
	}
}

// Packed bodies in hand are bounded by what they may grow to.
func TestPackedBodiesAreBoundedTogether(t *testing.T) {
	a := start(t)
	request := withBody("POST /publish/a", packed("x"), gzipd)
	a.unpacked.Store(a.live().BodyMemory)
	an := long(t, a, request)
	an.want(t, "no room to unpack", 503, "packed")
	an = long(t, a, withBody("POST /publish/a", "x"))
	an.want(t, "one that is not packed", 200)
	a.unpacked.Store(0)
	for range 3 {
		an = long(t, a, request)
		an.want(t, "room again", 200)
	}
	an = long(t, a, withBody("POST /publish/a", "x", gzipd))
	an.want(t, "a bad one", 400)
	if n := a.unpacked.Load(); n != 0 {
		t.Errorf("%d bytes stay reserved", n)
	}
}

// Scratch that is used again carries nothing from one publish to the next.
func TestPublishesDoNotSeeEachOther(t *testing.T) {
	a := start(t)
	var want []string
	for i := range 50 {
		name := fmt.Sprintf("t%d", i%7)
		long(t, a, withBody("POST /publish/"+name+"?event=e&retry=5", "bad \xff"))
		long(t, a, withBody("POST /publish", fmt.Sprintf("{\"topic\":%q,\"data\":\"\\u00e9%d\"}\n{\"topic\":\"u\",\"data\":[%d, 1],\"event\":\"k\"}", name, i, i), ndjson))
		long(t, a, withBody("POST /publish/"+name, fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("%s data: é%d\n", name, i), fmt.Sprintf("u event: k\ndata: [%d,1]\n", i), fmt.Sprintf("%s data: %d\n", name, i))
	}
	if got := events(t, a); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// quickly asks Quick about a request, as accept would.
func quickly(t testing.TB, a *API, request string) (is accept.Quickness, an answer) {
	t.Helper()
	var ctx fasthttp.RequestCtx
	ctx.Init2(&memoryConn{in: strings.NewReader("")}, nil, false)
	if err := ctx.Request.Read(bufio.NewReader(strings.NewReader(request))); err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	if is = a.Quick(&ctx); is == accept.Answered {
		an = answer{status: ctx.Response.StatusCode(), body: string(ctx.Response.Body()), header: map[string]string{}}
		for name, value := range ctx.Response.Header.All() {
			an.header[string(name)] = string(value)
		}
	}
	return is, an
}

// A publish of one event is answered on the quick way as on the long one; whatever else comes, or
// is refused, is left to the long way, and has published nothing.
func TestQuickPublishIsLikeAnyOther(t *testing.T) {
	for _, c := range []struct {
		request string
		want    accept.Quickness
	}{
		{withBody("POST /publish/a", "it works"), accept.Answered},
		{withBody("POST /publish/a?event=trade&retry=3000&_=1", "x", form), accept.Answered},
		{withBody("POST /publish", "topic=a&data=x", form), accept.Answered},
		{withBody("POST /publish", `{"topic":"a","data":1}`, ndjson), accept.Answered},
		{withBody("POST /publish/a", "x", "Origin: http://localhost:8080"), accept.Answered},
		{withBody("POST /publish/a?close=true", "bye"), accept.Answered},
		{withBody("POST /publish/a", packed("x"), gzipd), accept.NotQuick},
		{withBody("POST /publish/a,b", "x"), accept.NotQuick},
		{withBody("POST /publish/a?key=1", "x"), accept.NotQuick},
		{withBody("POST /publish", `{"topic":"a","data":1}`+"\n"+`{"topic":"a","data":2}`, ndjson), accept.NotQuick},
		{withBody("POST /publish/a..b", "x"), accept.NotQuick},
		{withBody("POST /publish/a?nonsense=1", "x"), accept.NotQuick},
		{withBody("POST /publish/$a", "x"), accept.NotQuick},
		{withBody("POST /publish/a", "a\xffb"), accept.NotQuick},
		{withBody("POST /publish/a", "x", "Origin: http://elsewhere"), accept.NotQuick},
		{withBody("POST /events", "topic=a", form), accept.NotQuick},
		{withBody("POST /nowhere", "x"), accept.NotQuick},
	} {
		a := start(t)
		is, an := quickly(t, a, c.request)
		if is != c.want {
			t.Errorf("%q: %d, want %d", c.request, is, c.want)
			continue
		}
		got := events(t, a)
		if is != accept.Answered {
			if len(got) != 0 {
				t.Errorf("%q: published %q, and was not answered", c.request, got)
			}
			continue
		}
		other := start(t)
		want := long(t, other, c.request)
		if an.status != want.status || withoutIDs(an.body) != withoutIDs(want.body) || an.header["Content-Type"] != want.header["Content-Type"] ||
			an.header["Access-Control-Allow-Origin"] != want.header["Access-Control-Allow-Origin"] {
			t.Errorf("%q: %+v, on the long way %+v", c.request, an, want)
		}
		if on := events(t, other); !reflect.DeepEqual(got, on) {
			t.Errorf("%q: published %q, on the long way %q", c.request, got, on)
		}
	}
}

// While a shard is too far behind nobody waits on the accept thread.
func TestQuickPublishDoesNotWait(t *testing.T) {
	a := start(t)
	follower := a.o.Sequencer.Follow(func() {})
	request := withBody("POST /publish/a", strings.Repeat("x", 1000))
	for range 1000 {
		if is, _ := quickly(t, a, request); is != accept.Answered {
			if is != accept.MustWait {
				t.Errorf("%d, want MustWait", is)
			}
			published := len(events(t, a))
			if is, _ = quickly(t, a, request); is != accept.MustWait || len(events(t, a)) != published {
				t.Errorf("again: %d, published %d more", is, len(events(t, a))-published)
			}
			follower.Done(a.o.Sequencer.Ring().Head(), 0)
			// The API's own shard may also be behind, for a moment.
			deadline := time.Now().Add(10 * time.Second)
			for is != accept.Answered && time.Now().Before(deadline) {
				runtime.Gosched()
				is, _ = quickly(t, a, request)
			}
			if is != accept.Answered {
				t.Errorf("caught up: %d, want Answered", is)
			}
			return
		}
	}
	t.Error("never had to wait for a shard that reads nothing")
}
