package server_test

// Many clients at once, and servers in a bad hour: floods of what can't be taken, a full server,
// one without descriptors, one that is overrun, one that goes down and comes back.

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// hostile are things that clients do. Each is done on a connection of its own.
var hostile = []struct {
	name string
	do   func(w *wire, random *rand.Rand)
}{
	{"nothing, then a reset", func(w *wire, _ *rand.Rand) { w.reset() }},
	{"half a head, then a reset", func(w *wire, random *rand.Rand) {
		text := head("GET /events/quiet HTTP/1.1")
		w.try(text[:random.IntN(len(text))])
		w.reset()
	}},
	{"half a long head, then a reset", func(w *wire, random *rand.Rand) {
		w.try(head("GET /events/quiet HTTP/1.1", "X: "+strings.Repeat("x", 6000+random.IntN(6000)))[:5900])
		w.reset()
	}},
	{"half a body, then a reset", func(w *wire, random *rand.Rand) {
		text := post("/publish/quiet", strings.Repeat("x", 100_000))
		w.try(text[:random.IntN(len(text)-1)])
		w.reset()
	}},
	{"half a chunk, then a half-close", func(w *wire, random *rand.Rand) {
		w.try(head("POST /publish/quiet HTTP/1.1", "Transfer-Encoding: chunked") + "fffff\r\n" + strings.Repeat("x", random.IntN(90_000)))
		_ = w.tcp().CloseWrite()
		w.drain()
	}},
	{"a stream, then a reset", func(w *wire, random *rand.Rand) {
		w.try(head("GET /events/news HTTP/1.1"))
		w.some(random.IntN(300))
		w.reset()
	}},
	{"a stream, then a half-close", func(w *wire, random *rand.Rand) {
		w.try(head("GET /events/news HTTP/1.0"))
		w.some(random.IntN(300))
		_ = w.tcp().CloseWrite()
		w.drain()
	}},
	{"a stream that is not read, and talks", func(w *wire, _ *rand.Rand) {
		_ = w.tcp().SetReadBuffer(4096)
		w.try(head("GET /events/news HTTP/1.1"))
		w.try(strings.Repeat(head("GET /events/news HTTP/1.1"), 500))
		w.reset()
	}},
	{"a publish and a stream on one connection, then a reset", func(w *wire, random *rand.Rand) {
		w.try(post("/publish/quiet", "x") + head("GET /events/news HTTP/1.1") + "more")
		w.some(random.IntN(600))
		w.reset()
	}},
	{"a publish, gone before its answer", func(w *wire, _ *rand.Rand) {
		w.try(post("/publish/quiet", "x"))
		w.Close()
	}},
	{"a smuggled publish", func(w *wire, _ *rand.Rand) {
		inner := post("/publish/news", "smuggled")
		w.try(head("GET /events/quiet HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(inner))) + inner + inner)
		w.some(200)
		w.reset()
	}},
	{"a publish smuggled behind a chunked one", func(w *wire, _ *rand.Rand) {
		w.try(head("POST /publish/quiet HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 4") + "0\r\n\r\n" + post("/publish/news", "smuggled"))
		w.drain()
	}},
	{"a megabyte of header", func(w *wire, _ *rand.Rand) {
		w.try(head("GET /events/quiet HTTP/1.1", "X: "+strings.Repeat("x", 1<<20)))
		w.drain()
	}},
	{"bare LF", func(w *wire, _ *rand.Rand) {
		w.try("GET /events/news HTTP/1.1\nHost: localhost\n\n")
		w.drain()
	}},
	{"a bad Last-Event-ID", func(w *wire, random *rand.Rand) {
		w.try(head("GET /events/news HTTP/1.1", "Last-Event-ID: "+strings.Repeat("9", random.IntN(200))))
		w.some(100)
		w.Close()
	}},
	{"everything again, from the beginning", func(w *wire, random *rand.Rand) {
		w.try(head("GET /events/news HTTP/1.1", fmt.Sprintf("Last-Event-ID: %d", random.IntN(100))))
		w.some(random.IntN(20_000))
		w.reset()
	}},
}

// try sends what the server takes.
func (w *wire) try(text string) { _, _ = io.WriteString(w.Conn, text) }

// some reads at least n bytes, if they come.
func (w *wire) some(n int) { _, _ = io.CopyN(io.Discard, w.Conn, int64(n)) }

// drain reads to the end, whatever that is.
func (w *wire) drain() {
	_, _ = io.Copy(io.Discard, w.Conn)
	w.Close()
}

// Whatever hostile clients do, everybody else gets every event, in order and whole; when they have
// gone, nothing of them is left.
func TestNobodyElseNoticesHostileClients(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2), func(c *server.Config) { c.RingSize = 32 << 20 })
	srv.Publish(t, "quiet", "so that what is opened once is open")
	stats(t, srv)
	before, goroutines := descriptors(t), runtime.NumGoroutine()

	var good []*servertest.Subscriber
	for range 8 {
		good = append(good, srv.Subscribe(t, "news"))
	}
	var stop atomic.Bool
	var bad sync.WaitGroup
	var visits atomic.Int64
	for n := range 6 {
		bad.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(n)))
			for !stop.Load() {
				w, err := tryDial(t, srv)
				if err != nil {
					t.Error(err)
					return
				}
				hostile[random.IntN(len(hostile))].do(w, random)
				visits.Add(1)
			}
		})
	}
	const events = 1000
	var ids []uint64
	for i := range events {
		ids = append(ids, srv.Publish(t, "news", fmt.Sprintf("%d\n%s", i, strings.Repeat("-", i%500))))
	}
	servertest.WaitUntil(t, "each of them to have had its turns", func() bool { return visits.Load() > 1000 })
	stop.Store(true)
	bad.Wait()
	last := srv.Publish(t, "news", "last")
	for _, s := range good {
		s.WaitID(t, last)
		got := s.Events()
		if len(got) != events+1 {
			t.Fatalf("%s got %d events, want %d", s, len(got), events+1)
		}
		for i, e := range got[:events] {
			if e.ID != ids[i] || e.Data != fmt.Sprintf("%d\n%s", i, strings.Repeat("-", i%500)) {
				t.Fatalf("%s: event %d is %d %.80q, want id %d", s, i, e.ID, e.Data, ids[i])
			}
		}
		s.Cut()
	}
	servertest.WaitUntil(t, "the streams to be gone", func() bool {
		f := stats(t, srv)
		return f.Connections.Streams == 0 && f.Connections.Requests <= 2 // this one, and Publish's
	})
	http.DefaultClient.CloseIdleConnections()
	servertest.WaitUntil(t, fmt.Sprintf("no more than the %d descriptors of before", before), func() bool { return descriptors(t) <= before })
	servertest.WaitUntil(t, fmt.Sprintf("no more than the %d goroutines of before", goroutines), func() bool { return runtime.NumGoroutine() <= goroutines })
	t.Logf("%d hostile visits", visits.Load())
}

// tryDial is dialTo for goroutines that are not the test's.
func tryDial(t testing.TB, srv *servertest.Server) (*wire, error) {
	var d net.Dialer
	c, err := d.Dial("tcp", srv.Addr().String())
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(impatience))
	return &wire{Conn: c, t: t}, nil
}

// descriptors counts what this process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A full server tells each in the way that it survives, however many come at once and do not go:
// an EventSource, which a 503 would end for good, gets a stream that only says when to come back;
// others a 503; health is served. Streams go on.
func TestEventSourceSurvivesAFullServer(t *testing.T) {
	srv := servertest.Start(t, func(c *server.Config) { c.MaxConnections = 8 })
	publisher := dialTo(t, srv).send(head("GET /healthz HTTP/1.1"))
	publisher.answer()
	publisher.send(post("/publish/news", "first"))
	_, body := publisher.answer()
	var id uint64
	if _, err := fmt.Sscanf(body, `{"id":"%d"}`, &id); err != nil {
		t.Fatalf("publish: %q", body)
	}
	var alice *wire
	for range 7 {
		alice = dialTo(t, srv).send(head("GET /events/news HTTP/1.1"))
		alice.begin(false)
		alice.block(false)
	}
	// Far more than there is room for, and none hangs up.
	for range 100 {
		w := dialTo(t, srv).send(head("GET /events/news HTTP/1.1", "Accept: text/event-stream", fmt.Sprintf("Last-Event-ID: %d", id)))
		resp, body := w.answer()
		var wait int
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("an EventSource got %s %q", resp.Status, body)
		}
		if _, err := fmt.Sscanf(body, "retry: %d\n", &wait); err != nil || body != fmt.Sprintf("retry: %d\nid: %d\n\n", wait, id) {
			t.Fatalf("an EventSource got %q, want when to come back, and its own id", body)
		}
		if more := w.all(); more != "" {
			t.Fatalf("behind it came %q", more)
		}
	}
	for _, c := range []struct{ text, want string }{
		{head("GET /events/news HTTP/1.1"), "HTTP/1.1 503 "},
		{post("/publish/news", "x"), "HTTP/1.1 503 "},
		{head("GET /healthz HTTP/1.1", "Connection: close"), "HTTP/1.1 200 "},
	} {
		got := dialTo(t, srv).send(c.text).all()
		if !strings.HasPrefix(got, c.want) || strings.Contains(c.want, "503") && !strings.Contains(got, "\r\nRetry-After: ") {
			t.Errorf("%.30q got %q, want %q", c.text, got, c.want)
		}
	}
	// Who was there before can still publish, and streams go on.
	publisher.send(post("/publish/news", "still here"))
	if resp, body := publisher.answer(); resp.StatusCode != 200 {
		t.Fatalf("publish: %s %s", resp.Status, body)
	}
	if got := alice.next(false); !strings.HasPrefix(got, "data: still here\n") {
		t.Errorf("a stream got %q", got)
	}
}

// Without a descriptor left the server goes on with what it has: nothing ends the process, not
// the first connection that must wait for its next request either, and who has to wait is served
// when there is room again.
func TestNoDescriptorLeftEndsNothing(t *testing.T) {
	const child = "PENSTOCK_TEST_OUT_OF_DESCRIPTORS"
	if os.Getenv(child) == "" {
		// In a process of its own: what is opened once may be open here already, and the limit is
		// the whole process's.
		ctx, cancel := context.WithTimeout(t.Context(), 2*impatience)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNoDescriptorLeftEndsNothing$", "-test.count=1")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	srv := servertest.Start(t)
	alice := dialTo(t, srv).send(head("GET /events/news HTTP/1.1"))
	alice.begin(false)
	alice.block(false)
	prober, late := dialTo(t, srv), dialTo(t, srv)

	limit := syscall.Rlimit{Cur: 128, Max: 128}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var full []*os.File
	free := func(n int) {
		for _, f := range full[:n] {
			f.Close()
		}
		full = full[n:]
	}
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		full = append(full, f)
	}
	free(1)
	// It takes the last one, and keeps its connection.
	for range 3 {
		prober.send(head("GET /healthz HTTP/1.1"))
		if resp, _ := prober.answer(); resp.StatusCode != 200 {
			t.Fatalf("health: %s", resp.Status)
		}
	}
	prober.send(post("/publish/news", "none left"))
	if resp, body := prober.answer(); resp.StatusCode != 200 {
		t.Fatalf("publish: %s %s", resp.Status, body)
	}
	if got := alice.next(false); !strings.HasPrefix(got, "data: none left\n") {
		t.Fatalf("a stream got %q", got)
	}
	late.send(head("GET /events/news HTTP/1.0"))
	free(len(full))
	late.begin(true)
}

// Everything that a publisher was told is published arrives before a drain ends the streams, at a
// frame's border, however the server is hurried; afterwards publishers hear 503 and when to come
// back.
func TestDrainWhileStreamingAndPublishing(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2), func(c *server.Config) {
		c.RingSize = 32 << 20
		c.DrainTime = 200 * time.Millisecond
	})
	var chunked []*servertest.Subscriber
	var plain []*wire
	for range 20 {
		chunked = append(chunked, srv.Subscribe(t, "news"))
		w := dialTo(t, srv).send(head("GET /events/news HTTP/1.0"))
		w.begin(true)
		w.block(true)
		plain = append(plain, w)
	}
	var mu sync.Mutex
	var acknowledged []uint64
	var told atomic.Int64
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for {
				id, err := srv.TryPublish("news", strings.Repeat("x", 100))
				if err != nil {
					if !strings.Contains(err.Error(), "503") {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				mu.Unlock()
				told.Add(1)
			}
		})
	}
	servertest.WaitUntil(t, "events to flow", func() bool { return told.Load() > 200 })
	drained := make(chan struct{})
	go func() { srv.Drain(); close(drained) }()
	publishers.Wait()
	resp, body := dialTo(t, srv).send(post("/publish/news", "late")).answer()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("a publish while draining got %s, %v, %s", resp.Status, resp.Header, body)
	}
	resp, body = dialTo(t, srv).send(head("GET /events/news HTTP/1.1", "Accept: text/event-stream")).answer()
	if resp.StatusCode != 200 || !strings.HasPrefix(body, "retry: ") {
		t.Errorf("an EventSource while draining got %s %q", resp.Status, body)
	}
	slices.Sort(acknowledged)
	for _, s := range chunked {
		if err := s.WaitEnd(t); err != nil {
			t.Errorf("%s ended with %v, want the last chunk", s, err)
		}
		var got []uint64
		for _, e := range s.Events() {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, acknowledged) {
			t.Fatalf("%s got %d events, want the %d that were acknowledged", s, len(got), len(acknowledged))
		}
	}
	for _, w := range plain {
		got := w.all()
		if n := strings.Count(got, "\nid: "); !strings.HasSuffix(got, "\n\n") || n != len(acknowledged) {
			t.Errorf("a stream of HTTP/1.0 ended with %.60q after %d events, want a frame's end and %d", got[max(0, len(got)-60):], n, len(acknowledged))
		}
		w.Close()
	}
	<-drained
}

// Whoever comes back after a restart is told so, once, and goes on from there without a gap.
func TestRestartIsToldAsAGap(t *testing.T) {
	one := servertest.Start(t)
	alice := one.Subscribe(t, "news")
	id := one.Publish(t, "news", "before")
	alice.WaitID(t, id)
	one.Drain()
	if err := alice.WaitEnd(t); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	two := servertest.Start(t)
	bob := two.SubscribeAll(t, []string{"news", "weather"}, servertest.After(id))
	gap := bob.NextGap(t)
	if gap.After != id || gap.Reason != "restart" || gap.Before <= id || !slices.Equal(gap.Topics, []string{"news", "weather"}) {
		t.Fatalf("gap %+v; want restart after %d", gap, id)
	}
	live := two.Publish(t, "weather", "after")
	if e := bob.Next(t); e.ID != live || e.Data != "after" {
		t.Errorf("then came %+v, want id %d", e, live)
	}
	bob.Resume(t)
	last := two.Publish(t, "news", "last")
	if e := bob.Next(t); e.ID != last {
		t.Errorf("after a resume came %+v, want id %d and no gap", e, last)
	}
}

// A connection that has published a hundred times becomes a stream as if it were new; a publisher
// that half-closes is answered; crumbs are as good as a whole request.
func TestRequestsInAnyPieces(t *testing.T) {
	srv := servertest.Start(t)
	w := dialTo(t, srv)
	for i := range 100 {
		w.send(post("/publish/other", fmt.Sprint(i)))
		if resp, body := w.answer(); resp.StatusCode != 200 {
			t.Fatalf("publish %d: %s %s", i, resp.Status, body)
		}
	}
	w.send(strings.Repeat(post("/publish/other", "pipelined"), 20) + head("GET /events/news HTTP/1.1") + post("/publish/news", "belongs to the stream, and is dropped"))
	for range 20 {
		w.until("\r\n\r\n{\"id\":\"")
		w.until("\"}\n")
	}
	w.begin(false)
	w.block(false)

	crumbs := dialTo(t, srv)
	_ = crumbs.tcp().SetNoDelay(true)
	for _, c := range []byte(head("GET /events/news HTTP/1.1")) {
		crumbs.send(string(c))
	}
	crumbs.begin(false)
	crumbs.block(false)

	publisher := dialTo(t, srv)
	_ = publisher.tcp().SetNoDelay(true)
	for _, c := range []byte(head("POST /publish/news HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nin pi\r\n3;x=y\r\nece\r\n1\r\ns\r\n0\r\n\r\n") {
		publisher.send(string(c))
	}
	_ = publisher.tcp().CloseWrite()
	if got := publisher.all(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("a publisher that half-closed got %q", got)
	}
	for _, s := range []*wire{w, crumbs} {
		if got := s.next(false); !strings.HasPrefix(got, "data: in pieces\n") {
			t.Errorf("a stream got %q", got)
		}
	}
	_ = crumbs.tcp().CloseWrite()
	servertest.WaitUntil(t, "the half-closed stream to be dropped", func() bool { return stats(t, srv).Connections.Streams == 1 })
}
