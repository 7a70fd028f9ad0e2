package server_test

// Each limit, as a whole server holds it: who is refused and how, that nobody else is, that it
// shows, and that there is room again.

import (
	"encoding/json"
	"net/http"
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
