package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Each way a server can fail to be an event stream has a reason of its own, counted for each stream.
func TestWhatIsNoStreamIsNamed(t *testing.T) {
	t.Parallel()
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) { io.WriteString(c, text) }
	}
	for name, f := range map[string]struct {
		serve  func(net.Conn)
		reason string
	}{
		"not found":       {answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "status 404"},
		"a page":          {answer("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>"), `content type "text/html; charset=utf-8"`},
		"compressed":      {answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"), `content coding "gzip"`},
		"no HTTP":         {answer("220 mail.example ESMTP\r\n"), "no HTTP/1 answer"},
		"hangs up":        {func(net.Conn) {}, "the server hung up before it answered"},
		"an endless head": {answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20_000)), "an answer's head of more than 16384 bytes"},
		"bad chunks":      {answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "not an event stream: chunked body"},
		"ends":            {answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "stream ended by the server"},
		"is cut":          {answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), "without the last chunk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Read(make([]byte, 4096))
					f.serve(c)
					c.Close()
				}
			}()
			defer func() { l.Close(); <-done }()
			cfg := quick("http://" + l.Addr().String() + "/stream")
			cfg.Subscribers, cfg.Duration = 5, 100*time.Millisecond
			r := mustRun(t, cfg)
			if r.OK() || len(r.Errors) != 1 {
				t.Fatalf("errors %v, want one reason", r.Errors)
			}
			for reason, n := range r.Errors {
				if !strings.Contains(reason, f.reason) || n != 5 {
					t.Errorf("%d times %q, want 5 times %q", n, reason, f.reason)
				}
			}
		})
	}
}

func TestUnreachableServerIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	cfg := quick("http://" + l.Addr().String())
	r := mustRun(t, cfg)
	if r.Streams.Failed != 10 || r.Errors["connect: connection refused"] != 10 {
		t.Errorf("%d failed, errors %v", r.Streams.Failed, r.Errors)
	}
}

// A head that comes byte by byte is the same head.
func TestAnswerInPieces(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n") {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
		c.Read(make([]byte, 1)) // until the other side closes
	}))
	defer s.Close()
	cfg := quick(s.URL + "/x")
	cfg.Duration = 100 * time.Millisecond
	r := mustRun(t, cfg)
	if !r.OK() || r.Streams.Foreign != 10 {
		t.Errorf("%d events of others, want 10; errors %v", r.Streams.Foreign, r.Errors)
	}
}

// A refused publish uses no number: nobody counts it as lost.
func TestRefusedPublishesAreNotLost(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	n := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if n++; n%5 == 0 { // one publisher: one after the other
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			}
		}
		s.ServeHTTP(w, r)
	}))
	defer front.Close()
	defer front.CloseClientConnections()
	r := mustRun(t, quick(front.URL))
	if r.Publish.Refused != 40 || r.Errors["publish: status 503"] != r.Publish.Refused || r.Streams.missing() != 0 || r.Streams.Events != 10*r.Publish.Published {
		t.Errorf("%+v, %d lost, %d delivered, errors %v", r.Publish, r.Streams.missing(), r.Streams.Events, r.Errors)
	}
}

// A connection that breaks before its answer leaves a number of unknown fate: not lost, whether it was published or not.
func TestUnknownFateIsNotLost(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	n := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			switch n++; {
			case n%20 == 5:
				panic(http.ErrAbortHandler)
			case n%20 == 15:
				s.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		}
		s.ServeHTTP(w, r)
	}))
	defer front.Close()
	defer front.CloseClientConnections()
	r := mustRun(t, quick(front.URL))
	if r.Publish.Unknown != 20 || r.Streams.Lost != 0 || r.Streams.Doubled != 0 || r.Streams.Events <= 10*r.Publish.Published {
		t.Errorf("%+v, %d lost, %d delivered", r.Publish, r.Streams.Lost, r.Streams.Events)
	}
}

// Wrong settings are named with their flag and what is allowed.
func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--subscribers -1: 0 to":               func(c *Config) { c.Subscribers = -1 },
		"--topics 0: 1 to":                     func(c *Config) { c.Topics = 0 },
		"--size 10: 80 to 1048576":             func(c *Config) { c.Size = 10 },
		"--watch 2: 1 to 1":                    func(c *Config) { c.Watch = 2 },
		"--source \"10.0.0.0/8\": more than":   func(c *Config) { c.Source = "10.0.0.0/8" },
		"--source \"loop\"":                    func(c *Config) { c.Source = "loop" },
		"https is not spoken":                  func(c *Config) { c.URL = "https://127.0.0.1/x" },
		"scheme \"ftp\"":                       func(c *Config) { c.URL = "ftp://127.0.0.1/x" },
		"no URL":                               func(c *Config) { c.URL = "" },
		"no comparison":                        func(c *Config) { c.FailIf = []string{"p99"} },
		"figure \"p98\" is not known; p50":     func(c *Config) { c.FailIf = []string{"p98>1s"} },
		"it takes a duration like 250ms":       func(c *Config) { c.FailIf = []string{"p99>250"} },
		"--publish-body without":               func(c *Config) { c.PublishBody = "x" },
		"--header \"a b: c\"":                  func(c *Config) { c.SubscribeH = []string{"a b: c"} },
		"--topic-name \"a b\": byte 0x20 at 1": func(c *Config) { c.TopicName = "a b" },
		"--pid 999999999: no such process":     func(c *Config) { c.PID = 999999999 },
		"--duration 1ms: 100ms to":             func(c *Config) { c.Duration = time.Millisecond },
		"--rate max with --bursts":             func(c *Config) { c.Rate, c.Bursts = AsAcknowledged, true },
	} {
		cfg := quick("http://127.0.0.1:1")
		change(&cfg)
		_, err := Run(t.Context(), cfg, Options{})
		if _, usage := errors.AsType[*UsageError](err); !usage || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a usage error with %q", err, want)
		}
	}
}

// An interrupted run reports what it found by then.
func TestInterruptedRunReports(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.deliver = func(subscriber, n int, frame string) []string {
		if n == 50 {
			cancel()
		}
		return []string{frame}
	}
	cfg := quick(s.URL)
	cfg.Duration, cfg.Events = time.Hour, 0
	r, err := Run(ctx, cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Streams.Events != 10*r.Publish.Published || r.Publish.Published < 50 || r.Streams.missing() != 0 {
		t.Errorf("interrupted %v, %d published, %d delivered, %d missing", r.Interrupted, r.Publish.Published, r.Streams.Events, r.Streams.missing())
	}
}

// Conditions hold as they say; a figure that is not known does not pass.
func TestConditions(t *testing.T) {
	r := &Report{Latency: Percentiles{Count: 1, P99: 250_001}, Streams: Tally{Lost: 3}}
	for text, missed := range map[string]bool{
		"p99>250ms": true, "p99 > 251ms": false, "lost>0": true, "lost>=4": false, "lost!=3": false, "lost==3": true,
		"connect-p99>1h": true, "memory>1GB": true, "streams<1": true, "deliveries<0": false,
	} {
		c, err := parseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.missed(r); (got != "") != missed {
			t.Errorf("%s: %q, want missed %v", text, got, missed)
		}
	}
}

// A template's marks are replaced wherever they stand.
func TestTargets(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:1/sub?topic={topic}":          "/sub?topic=a&topic=b",
		"http://127.0.0.1:1/sub?x=1&topic={topic}&y=2":  "/sub?x=1&topic=a&topic=b&y=2",
		"http://127.0.0.1:1/sub/{topic}/x":              "/sub/a,b/x",
		"http://127.0.0.1:1/sub":                        "/sub",
		"127.0.0.1:1/a%20b?q={topic}":                   "/a%20b?q=a&q=b",
		"http://127.0.0.1:1/q?cf={\"c\":[\"{topic}\"]}": "/q?cf={\"c\":[\"a,b\"]}",
	} {
		target, err := parseTarget(t.Context(), "URL", raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := target.withTopics([]string{"a", "b"}); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
	got := string(appendLine(nil, `{"topic":"{topic}","data":"{data}"}{`, "T", []byte("D")))
	if want := `{"topic":"T","data":"D"}{`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func ExampleScenarios() {
	names, _ := Scenarios()
	fmt.Println(strings.Join(names, " "))
	// Output: idle broadcast ticker watchlists churn storm slow publish mixed
}
