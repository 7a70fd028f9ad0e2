// Package servertest is a whole server on a free loopback port, with subscribers that wait on
// conditions. Everything is real: the sockets, the ways in, the shards.
//
// A wait that takes too long fails the test with the stream so far. Everything is cleaned up when
// the test ends.
package servertest

// The server of a test, and its publishers. The test's goroutine; Publish any goroutine.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"penstock/server"
)

// patience is how long a test waits for what must come. Long enough for a machine that is busy
// with everything else; a test that passes never waits it out.
const patience = 30 * time.Second

// A Server is a running server. The embedded one's methods are the program's.
type Server struct {
	*server.Server
	URL   string // http://127.0.0.1:port
	Admin string // the admin address, or ""
	http  http.Client
}

// An Option changes a setting before the server starts.
type Option func(*server.Config)

// RingSize sets --ring-size, in bytes, and --max-event-size to what fits: a quarter of it.
func RingSize(bytes int) Option {
	return func(c *server.Config) {
		c.RingSize = server.Size(bytes)
		c.MaxEventSize = min(c.MaxEventSize, c.RingSize/4)
	}
}

// Shards sets --shards.
func Shards(n int) Option { return func(c *server.Config) { c.Shards = n } }

// Listen adds an address to --listen.
func Listen(address string) Option {
	return func(c *server.Config) { c.Listen = append(c.Listen, address) }
}

// Config returns the settings of a test's server, before its own options: the defaults, a free
// loopback port, a small ring, and nothing that makes a test wait.
func Config() server.Config {
	c := server.DefaultConfig()
	c.Listen = []string{"127.0.0.1:0"}
	c.RingSize = 8 << 20
	c.DrainTime = 0
	return c
}

// Start starts a server that is drained and closed when the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	c := Config()
	for _, o := range options {
		o(&c)
	}
	inner, err := server.New(c, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	s := &Server{Server: inner, URL: "http://" + inner.Addr().String()}
	if a := inner.AdminAddr(); a != nil {
		s.Admin = "http://" + a.String()
	}
	s.http.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- inner.Run(ctx) }()
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("servertest: Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("servertest: the server did not end within %s", patience)
		}
	})
	return s
}

// Publish publishes an event over HTTP and returns its id. Any goroutine.
func (s *Server) Publish(t testing.TB, topic, data string) uint64 {
	t.Helper()
	id, err := s.TryPublish(topic, data)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// PublishLines publishes a batch, a line of NDJSON each, and returns the last one's id.
func (s *Server) PublishLines(t testing.TB, lines ...string) uint64 {
	t.Helper()
	resp, err := s.http.Post(s.URL+"/publish", "application/x-ndjson", strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var answer struct{ LastID string }
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		t.Fatalf("publish a batch: %s: %s", resp.Status, body)
	}
	id, _ := strconv.ParseUint(answer.LastID, 10, 64)
	return id
}

// End ends a topic.
func (s *Server) End(t testing.TB, topic string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodDelete, s.URL+"/topics/"+topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("end %s: %s", topic, resp.Status)
	}
}

// TryPublish is Publish for goroutines that are not the test's, which may not end it.
func (s *Server) TryPublish(topic, data string) (uint64, error) {
	resp, err := s.http.Post(s.URL+"/publish/"+topic, "text/plain", strings.NewReader(data))
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", topic, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", topic, err)
	}
	var answer struct{ ID string }
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		return 0, fmt.Errorf("publish to %s: %s: %s", topic, resp.Status, body)
	}
	return strconv.ParseUint(answer.ID, 10, 64)
}

// A Span is a stretch of ids, both ends included.
type Span struct{ First, Last uint64 }

// PublishUntilLapped publishes to the topic until the subscriber, who has stopped reading, has
// fallen off the ring. It returns ids that she can get no more: they were published when her
// socket was full, and the ring no longer has them.
func (s *Server) PublishUntilLapped(t testing.TB, topic string, who *Subscriber) Span {
	t.Helper()
	data := strings.Repeat("x", 4000)
	var span Span
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		id := s.Publish(t, topic, data)
		switch {
		case span.First == 0:
			if s.lags(who) {
				// The next one can't be in her socket any more.
				span.First = s.Publish(t, topic, data)
			}
		case s.BeforeID() > id:
			panic("servertest: the ring's tail is ahead of its head")
		case s.BeforeID() > span.First:
			span.Last = span.First
			return span
		}
	}
	t.Fatalf("servertest: %s did not fall off the ring within %s", who, patience)
	return span
}

// lags tells whether the subscriber's stream is behind its audience.
func (s *Server) lags(who *Subscriber) bool {
	for _, info := range s.Laggards(1000) {
		if info.Address.String() == who.address && info.Lag > 0 {
			return true
		}
	}
	return false
}

// WaitUntil waits for a condition of the server's own, which nothing announces: it asks every
// millisecond. The test fails with what is missing.
func WaitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("servertest: not within %s: %s", patience, what)
		case <-again.C:
		}
	}
}
