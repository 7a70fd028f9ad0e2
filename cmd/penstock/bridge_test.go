package main

// publish and subscribe as they are typed, against servers that speak as a Penstock does.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// typed is what came of a command line.
type typed struct {
	code           int
	stdout, stderr string
}

func (r typed) String() string {
	return fmt.Sprintf("exit code %d, stdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

// enter runs a command line.
func enter(t *testing.T, stdin io.Reader, args ...string) typed {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(&runContext{Ctx: t.Context(), Stdin: stdin, Stdout: &stdout, Stderr: &stderr}, args)
	return typed{code, stdout.String(), stderr.String()}
}

// A publishing is what POST /publish got.
type publishing struct {
	mu     sync.Mutex
	lines  []string
	header http.Header
}

func (p *publishing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	p.header = r.Header
	for line := range strings.Lines(string(body)) {
		var e struct{ Topic string }
		if json.Unmarshal([]byte(line), &e) != nil || strings.Contains(e.Topic, "..") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":%q}`, fmt.Sprintf("line 1: topic %q: empty token", e.Topic))
			return
		}
	}
	first := len(p.lines) + 1
	p.lines = append(p.lines, strings.Split(strings.TrimSpace(string(body)), "\n")...)
	fmt.Fprintf(w, `{"count":%d,"firstId":"%d","lastId":"%d"}`, len(p.lines)-first+1, first, len(p.lines))
}

// penstocks is a server with both ends; events are what a subscriber gets.
func penstocks(t *testing.T, events string) (*httptest.Server, *publishing) {
	t.Helper()
	p := new(publishing)
	mux := http.NewServeMux()
	mux.Handle("POST /publish", p)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") == "4" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "retry: 100\nid: 1\n\n")
		fmt.Fprint(w, strings.ReplaceAll(events, "TOPICS", strings.Join(r.URL.Query()["topic"], "+")))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s, p
}

const threeEvents = "data: TOPICS\nid: 2\n\n" +
	"event: gap\ndata: {\"topics\":[\"a\"],\"after\":\"2\",\"before\":\"3\",\"reason\":\"lag\"}\nid: 2\n\n" +
	"event: trade\ndata: {\"x\": 1}\ndata: 2\nid: 3\n\n" +
	"data:\nid: 4\n\n"

func TestPublishOne(t *testing.T) {
	s, p := penstocks(t, "")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := enter(t, nil, "publish", s.URL, "hello", "-d", "it works", "-e", "note", "--token-file", token, "-H", "X-A: b, c")
	if r.code != 0 || r.stdout != "1\n" || r.stderr != "" {
		t.Errorf("%v", r)
	}
	if want := `{"topic":"hello","event":"note","data":"it works"}`; len(p.lines) != 1 || p.lines[0] != want {
		t.Errorf("published %q, want %s", p.lines, want)
	}
	if p.header.Get("Authorization") != "Bearer secret" || p.header.Get("X-A") != "b, c" {
		t.Errorf("sent %v", p.header)
	}
}

// Refused lines are named, the others published, and the exit code is 1.
func TestPublishLinesNamesTheBadOnes(t *testing.T) {
	s, p := penstocks(t, "")
	r := enter(t, strings.NewReader("{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"a..b\",\"data\":2}\nnonsense\n{\"topic\":\"c\",\"data\":3}\n"), "publish", s.URL+"/", "--format=ndjson")
	if r.code != 1 || r.stdout != "" || len(p.lines) != 2 {
		t.Errorf("%v\npublished %q", r, p.lines)
	}
	for _, want := range []string{
		`penstock: line 2: 400 Bad Request: topic "a..b": empty token`,
		`penstock: line 3: "nonsense" is no JSON object`,
		"penstock: 2 published (ids 1 to 2), 2 refused\n",
		"penstock: publish: not everything was published\n",
	} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
		}
	}
}

func TestPublishCSV(t *testing.T) {
	s, p := penstocks(t, "")
	r := enter(t, strings.NewReader("t,sym,price\n1600000000,A,1.50\n1600000000.5,B,2\n"), "publish", s.URL, "trades", "-f", "csv", "--topic-field", "sym", "--replay", "--time-field", "t", "--speed", "1000")
	want := `{"topic":"trades.A","data":"{\"t\":1600000000,\"sym\":\"A\",\"price\":1.50}"}` + "\n" + `{"topic":"trades.B","data":"{\"t\":1600000000.5,\"sym\":\"B\",\"price\":2}"}`
	if r.code != 0 || strings.Join(p.lines, "\n") != want {
		t.Errorf("%v\npublished\n%s\nwant\n%s", r, strings.Join(p.lines, "\n"), want)
	}
}

// What subscribe writes as NDJSON, publish takes: a bridge in one line. A gap is told on the way
// and is no event of the topic that it leads to.
func TestBridge(t *testing.T) {
	from, _ := penstocks(t, threeEvents)
	to, p := penstocks(t, "")
	r := enter(t, nil, "subscribe", from.URL+"/events?topic=x", "-o", "ndjson", "--count=3")
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	r = enter(t, strings.NewReader(r.stdout), "publish", to.URL, "news")
	want := `{"topic":"news","data":"x"}` + "\n" + `{"topic":"news","event":"trade","data":"{\"x\": 1}\n2"}` + "\n" + `{"topic":"news","data":""}`
	if got := strings.Join(p.lines, "\n"); r.code != 0 || got != want {
		t.Errorf("%v\npublished\n%s\nwant\n%s", r, got, want)
	}
	if !strings.Contains(r.stderr, "3 published (ids 1 to 3), 1 skipped") || !strings.Contains(r.stderr, "line 2: not published: the stream it came from lost events") {
		t.Errorf("stderr:\n%s", r.stderr)
	}
}

// A Penstock and topics: until it says that there is no more.
func TestSubscribeTopics(t *testing.T) {
	s, _ := penstocks(t, threeEvents)
	r := enter(t, nil, "subscribe", s.URL, "a", "b.c", "-o", "ndjson")
	if r.code != 0 || strings.Count(r.stdout, "\n") != 4 || !strings.HasPrefix(r.stdout, `{"data":"a+b.c","id":"2",`) {
		t.Errorf("%v", r)
	}
	for _, want := range []string{
		"penstock: gap (lag): events after 2 and before 3 are lost on a\n",
		"penstock: the stream has ended; asking for more in 1",
		"penstock: the server has no more (204)\n",
	} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
		}
	}
	r = enter(t, nil, "subscribe", s.URL, "a", "-o", "ndjson", "-n1", "-q")
	if r.code != 0 || !strings.HasPrefix(r.stdout, `{"topic":"a","data":"a","id":"2",`) || r.stderr != "" {
		t.Errorf("%v", r)
	}
	r = enter(t, nil, "subscribe", s.URL, "a", "--last-event-id", "4")
	if r.code != 0 || r.stdout != "" {
		t.Errorf("%v", r)
	}
	r = enter(t, nil, "subscribe", s.URL, "a", "-o", "raw", "--event=trade", "--count", "1")
	if want := "retry: 100\nid: 1\n\nevent: gap\ndata: {\"topics\":[\"a\"],\"after\":\"2\",\"before\":\"3\",\"reason\":\"lag\"}\nid: 2\n\nevent: trade\ndata: {\"x\": 1}\ndata: 2\nid: 3\n\n"; r.code != 0 || r.stdout != want {
		t.Errorf("%v", r)
	}
}

// What a stream is asked for goes to the server as it was typed; another URL has its own query.
func TestSubscribeAsksForWhatWasTyped(t *testing.T) {
	c := subscribeCmd{URL: "http://localhost:8080", Topic: []string{"a", "b.*"}, Rewind: "10", Snapshot: true, Mode: "latest", Interval: "250ms"}
	want := "http://localhost:8080/events?interval=250ms&mode=latest&rewind=10&snapshot=true&topic=a&topic=b.%2A"
	if got, err := c.target(); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	c = subscribeCmd{URL: "http://localhost:8080/events?topic=a"}
	if got, err := c.target(); err != nil || got != c.URL {
		t.Errorf("%s, %v", got, err)
	}
}

func TestSubscribeToSomethingElse(t *testing.T) {
	s, _ := penstocks(t, "")
	r := enter(t, nil, "subscribe", s.URL)
	if r.code != 1 || !strings.Contains(r.stderr, "the answer is text/html, no event stream; for a Penstock name a topic behind the URL") {
		t.Errorf("%v", r)
	}
}

// Whoever reads the pipe may leave: that is no error.
func TestSubscribeToAClosedPipe(t *testing.T) {
	s, _ := penstocks(t, "data: x\nid: 2\n\n")
	var stderr bytes.Buffer
	rc := &runContext{Ctx: t.Context(), Stdout: full{syscall.EPIPE}, Stderr: &stderr}
	if code := run(rc, []string{"subscribe", s.URL, "a"}); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr.String())
	}
	rc.Stdout = full{syscall.ENOSPC}
	if code := run(rc, []string{"subscribe", s.URL, "a"}); code != 1 || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr.String())
	}
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, os.NewSyscallError("write", f.err) }

// Ctrl-C ends subscribe with 0.
func TestSubscribeEndsWithItsContext(t *testing.T) {
	s, _ := penstocks(t, threeEvents)
	ctx, cancel := context.WithCancel(t.Context())
	rc := &runContext{Ctx: ctx, Stdout: io.Discard, Stderr: cancelWriter{cancel}} // at the first note, "the stream has ended"
	if code := run(rc, []string{"subscribe", s.URL, "a"}); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

type cancelWriter struct{ cancel context.CancelFunc }

func (w cancelWriter) Write(p []byte) (int, error) { w.cancel(); return len(p), nil }

// Wrong usage is 2, and says what is allowed.
func TestPublishAndSubscribeUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"publish", "<url>"},
		{"publish localhost:8080 t", "did you mean http://localhost:8080?"},
		{"publish ftp://x t", "it takes http://host:port"},
		{"publish http://x?a=b t", "has no query"},
		{"publish http://x -f lines", "no topic"},
		{"publish http://x -f ndjson -d x", "no topic"},
		{"publish http://x t --format=xml", "lines"},
		{"publish http://x t --rate=fast", "30/m"},
		{"publish http://x t --replay", "--time-field"},
		{"publish http://x t --time-field=t", "--replay"},
		{"publish http://x t --replay --time-field=t --rate=1", "exclude"},
		{"publish http://x t --replay --time-field=t --speed=0", "above 0"},
		{"publish http://x t --speed=5", "--replay"},
		{"publish http://x t -d x --rate=1", "one event"},
		{"publish http://x t --columns=a,b", "csv"},
		{"publish http://x t -d x -e gap", "reserved"},
		{"publish http://x t --header=x", "NAME:VALUE"},
		{"publish http://x t --token-file=/does/not/exist", "/does/not/exist"},
		{"subscribe", "<url>"},
		{"subscribe x t", "http://"},
		{"subscribe http://x?a=b t", "no query"},
		{"subscribe http://x t --output=xml", "ndjson"},
		{"subscribe http://x/events/t --snapshot", "--snapshot is for a Penstock"},
		{"subscribe http://x t --count=-1", "from 1"},
		{"subscribe http://x t --idle-timeout=-1s", "1s"},
	} {
		r := enter(t, strings.NewReader(""), strings.Fields(c.line)...)
		if r.code != 2 || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: %v\nwant %q", c.line, r, c.want)
		}
	}
}
