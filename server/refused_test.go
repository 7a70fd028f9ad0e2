package server_test

// Each limit, as a whole server holds it: who is refused and how, that nobody else is, that it
// shows, and that there is room again.

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"penstock/server"
	"penstock/server/servertest"
)

// refusals are the counts of /stats by limit.
func refusals(t testing.TB, srv *servertest.Server) (counts map[string]uint64, limits map[string]float64) {
	t.Helper()
	at := srv.URL
	if srv.Admin != "" {
		at = srv.Admin
	}
	resp, err := http.Get(at + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all struct {
		Refusals map[string]uint64
		Limits   map[string]float64
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all.Refusals, all.Limits
}

// told tells what a request got: its status, and whether it is an order to come back.
func told(w *wire) (status int, comeBack bool) {
	w.t.Helper()
	resp, body := w.answer()
	comeBack = resp.StatusCode == 200 && strings.HasPrefix(body, "retry: ")
	if !comeBack && resp.Header.Get("Retry-After") == "" {
		w.t.Errorf("%s without Retry-After: %s", resp.Status, body)
	}
	return resp.StatusCode, comeBack
}

// The streams and connections of one address are counted until they end, however they do.
func TestStreamsOfOneAddressAreCountedUntilTheyEnd(t *testing.T) {
	srv := servertest.Start(t, func(c *server.Config) { c.MaxConnectionsPerIP, c.AdminListen = 3, "127.0.0.1:0" })
	streams := []*wire{}
	for range 2 {
		w := dialTo(t, srv).send(head("GET /events/news HTTP/1.1"))
		w.begin(false)
		streams = append(streams, w)
	}
	kept := dialTo(t, srv).send(post("/publish/news", "x"))
	kept.answer()
	one := func() (int, bool) {
		w := dialTo(t, srv).send(head("GET /events/news HTTP/1.1", "Accept: text/event-stream"))
		defer w.Close()
		return told(w)
	}
	if status, comeBack := one(); status != 200 || !comeBack {
		t.Errorf("an EventSource too many got %d", status)
	}
	w := dialTo(t, srv).send(post("/publish/news", "x"))
	if status, _ := told(w); status != 429 {
		t.Errorf("a publisher too many got %d", status)
	}
	w.Close()
	kept.send(post("/publish/news", "y")) // whoever is in is served on
	if resp, body := kept.answer(); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
	kept.Close()
	for i, s := range streams {
		servertest.WaitUntil(t, "room", func() bool {
			w := dialTo(t, srv).send(head("GET /healthz HTTP/1.1"))
			w.answer()
			w.Close()
			w = dialTo(t, srv).send(head("GET /events/news HTTP/1.1", "Accept: text/event-stream", "X: "+strings.Repeat("x", 5000*i)))
			if !strings.Contains(w.until("\r\n\r\n"), "chunked") {
				w.Close()
				return false
			}
			t.Cleanup(func() { w.Close() })
			return true
		})
		if i == 0 {
			s.reset()
		}
	}
	counts, limits := refusals(t, srv)
	if counts["connections_per_ip"] < 2 || limits["max-connections-per-ip"] != 3 {
		t.Errorf("/stats says %v, %v", counts, limits)
	}
}

// A topic has its subscribers, and no more until one leaves; other topics and patterns have theirs.
func TestMaxSubscribersPerTopic(t *testing.T) {
	srv := servertest.Start(t, func(c *server.Config) { c.MaxSubscribersPerTopic = 2 })
	first := dialTo(t, srv).send(head("GET /events/news HTTP/1.1"))
	first.begin(false)
	second := dialTo(t, srv).send(head("GET /events?topic=other,news HTTP/1.1"))
	second.begin(false)
	for _, c := range []struct {
		request string
		status  int
		again   bool
	}{
		{head("GET /events/news HTTP/1.1", "Accept: text/event-stream"), 200, true},
		{head("GET /events/news HTTP/1.1"), 503, false},
		{head("POST /events HTTP/1.1", "Content-Type: application/json", "Content-Length: 23") + `{"topic":["a","news"] } `[:23], 503, false},
	} {
		w := dialTo(t, srv).send(c.request)
		if status, again := told(w); status != c.status || again != c.again {
			t.Errorf("%.40q got %d, an order to come back: %v", c.request, status, again)
		}
	}
	for _, path := range []string{"/events/other", "/events/*"} {
		dialTo(t, srv).send(head("GET " + path + " HTTP/1.1")).begin(false)
	}
	first.reset()
	servertest.WaitUntil(t, "room", func() bool {
		w := dialTo(t, srv).send(head("GET /events/news HTTP/1.1"))
		return strings.HasPrefix(w.until("\r\n"), "HTTP/1.1 200")
	})
	if counts, limits := refusals(t, srv); counts["subscribers_per_topic"] < 3 || limits["max-subscribers-per-topic"] != 2 {
		t.Errorf("/stats says %v, %v", counts, limits)
	}
}

// A publisher that is too fast hears 429 and when to come back, on every way; a batch is taken as a
// whole and paid off; others publish on.
func TestPublishRateIsOfEachPublisher(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := servertest.Start(t, func(c *server.Config) { c.PublishRate, c.PublishTokenFile = 100, tokens })
	batch := strings.Repeat(`{"topic":"a","data":1}`+"\n", 400)
	w := dialTo(t, srv).send(post("/publish", batch, "Authorization: Bearer one", "Content-Type: application/x-ndjson"))
	if resp, body := w.answer(); resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	for _, request := range []string{
		post("/publish/a", "x", "Authorization: Bearer one"),
		post("/publish", batch, "Authorization: Bearer one", "Content-Type: application/x-ndjson"),
		head("POST /publish/a HTTP/1.1", "Authorization: Bearer one", "Content-Length: 1000"), // its body is not waited for
	} {
		w := dialTo(t, srv).send(request)
		resp, body := w.answer()
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != 429 || after < 2 || after > 4 || !strings.Contains(body, "--publish-rate") {
			t.Errorf("%.60q: %s, Retry-After %d, %s; want 429 and 3 s, for 400 events at 100 a second", request, resp.Status, after, body)
		}
	}
	for range 50 {
		w := dialTo(t, srv).send(post("/publish/a", "x", "Authorization: Bearer two"))
		if resp, body := w.answer(); resp.StatusCode != 200 {
			t.Fatalf("another publisher: %s %s", resp.Status, body)
		}
	}
	if counts, _ := refusals(t, srv); counts["publish_rate"] != 3 {
		t.Errorf("/stats says %v", counts)
	}
}
