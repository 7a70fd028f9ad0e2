package server_test

// Streams that are cut because their clients do not read.

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"penstock/server"
	"penstock/server/servertest"
)

// Who is cut for the memory of laggards, or because a drain does not wait for it, is reset: over
// HTTP/1.0 (nginx, as it comes) a close within a frame would be the stream's proper end.
func TestCutLaggardIsReset(t *testing.T) {
	stalled := func(t *testing.T, options ...servertest.Option) (*servertest.Server, []*wire) {
		srv := servertest.Start(t, append(options, servertest.RingSize(4<<20))...)
		var all []*wire
		for _, version := range []string{"1.0", "1.1", "1.0", "1.1"} {
			w := dialTo(t, srv)
			_ = w.tcp().SetReadBuffer(16 << 10)
			w.send(head("GET /events/news HTTP/" + version))
			w.begin(version == "1.0")
			w.block(version == "1.0")
			all = append(all, w)
		}
		return srv, all
	}
	// Far more than a socket takes at once, so that what is left of the first event is more than the
	// memory for laggards, also where one copy serves all.
	data := strings.Repeat("x", 900_000)
	// reset waits until so many of the streams have ended, each by a reset.
	reset := func(t *testing.T, all []*wire, n int) {
		t.Helper()
		ends := make(chan error, len(all))
		for _, w := range all {
			go func() {
				_, err := io.Copy(io.Discard, w.Conn)
				ends <- err
			}()
		}
		for range n {
			if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a stream that was cut ended with %v (none: as if that were all), want a reset", err)
			}
		}
		for _, w := range all {
			w.Close()
		}
	}
	t.Run("memory", func(t *testing.T) {
		srv, all := stalled(t, func(c *server.Config) { c.LagMemory = 64 << 10 })
		cut := 0
		servertest.WaitUntil(t, "one to be cut", func() bool {
			srv.Publish(t, "news", data)
			cut = metric(t, srv, `penstock_disconnects_total{reason="lag_memory"}`)
			return cut >= 1
		})
		reset(t, all, cut)
	})
	t.Run("drain", func(t *testing.T) {
		srv, all := stalled(t)
		servertest.WaitUntil(t, "all to lag", func() bool {
			srv.Publish(t, "news", data)
			return len(srv.Laggards(10)) == 4
		})
		srv.Drain()
		reset(t, all, 4)
	})
}

// metric reads one value of /metrics.
func metric(t testing.TB, srv *servertest.Server, name string) int {
	t.Helper()
	resp, err := http.Get(srv.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	m := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(name) + " (\\d+)$").FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in /metrics", name)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
