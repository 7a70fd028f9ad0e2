package server_test

// Compressed streams end to end: real clients, and proxies on the way.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

const clientPatience = 30 * time.Second

// A lines is what a client shows, line by line.
type lines struct {
	*bufio.Scanner
}

// until reads to the line that is wanted.
func (l lines) until(t *testing.T, want string) {
	t.Helper()
	for l.Scan() {
		if l.Text() == want {
			return
		}
	}
	t.Fatalf("the stream ended before %q: %v", want, l.Err())
}

// talk publishes through bad times, and waits after each event until the client has shown it: events of several
// sizes, others that come and go, and heartbeats of the server's own time.
func talk(t *testing.T, srv *servertest.Server, show lines) {
	t.Helper()
	show.until(t, "") // the first block
	gzip := servertest.WithHeader("Accept-Encoding", "gzip")
	for i := range 60 {
		if i%10 == 0 {
			srv.Subscribe(t, "a", gzip)
		}
		if i%15 == 14 {
			srv.Subscribe(t, "a", gzip).Cut()
		}
		data := fmt.Sprintf("event %d %s", i, strings.Repeat("of many words ", i%7*i))
		srv.Publish(t, "a", data)
		show.until(t, "data: "+data)
	}
}

// share2 keeps a window from two subscribers on, and heartbeats come often.
func share2(c *server.Config) { c.CompressShare, c.Heartbeat = 2, time.Second }

// Go's client asks for gzip by itself, shows each event at once, and takes the end for one.
func TestGoClientReadsACompressedStream(t *testing.T) {
	srv := servertest.Start(t, share2)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(srv.URL + "/events/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !resp.Uncompressed {
		t.Errorf("not compressed: %v", resp.Header)
	}
	show := lines{bufio.NewScanner(resp.Body)}
	talk(t, srv, show)
	go srv.Drain()
	for show.Scan() {
	}
	if err := show.Err(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// Heartbeats of a compressed stream are seen by whoever listens for comments.
func TestHeartbeatsOfACompressedStreamAreSeen(t *testing.T) {
	srv := servertest.Start(t, share2)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(srv.URL + "/events/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	show := lines{bufio.NewScanner(resp.Body)}
	show.until(t, ":")
	id := srv.Publish(t, "other", "x")
	show.until(t, fmt.Sprint("id: ", id))
}

// run starts a client that prints what it reads, and returns its output. At the end it must have
// succeeded.
func run(t *testing.T, name string, args ...string) (show lines, end func()) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	show = lines{bufio.NewScanner(out)}
	return show, func() {
		t.Helper()
		for show.Scan() {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", name, err, &stderr)
		}
	}
}

func TestCurlReadsACompressedStream(t *testing.T) {
	srv := servertest.Start(t, share2)
	show, end := run(t, "curl", "-sSN", "-D", "-", "--compressed", srv.URL+"/events/a")
	show.until(t, "Content-Encoding: gzip")
	show.until(t, "") // the header's end
	talk(t, srv, show)
	go srv.Drain()
	end()
}

// HTTP/1.0 has no chunks: the trailer is what tells the end from a cut.
func TestCurlReadsACompressedStreamOfHTTP10(t *testing.T) {
	srv := servertest.Start(t, share2)
	show, end := run(t, "curl", "-sSN0", "-D", "-", "--compressed", srv.URL+"/events/a")
	show.until(t, "Content-Encoding: gzip")
	show.until(t, "")
	talk(t, srv, show)
	go srv.Drain()
	end()
}

func TestNodeReadsACompressedStream(t *testing.T) {
	srv := servertest.Start(t, share2)
	show, end := run(t, "node", "-e", `
fetch(process.argv[1]).then(async r => {
  if (r.headers.get("content-encoding") !== "gzip") throw new Error("not compressed");
  for await (const part of r.body) process.stdout.write(part);
}).catch(e => { console.error(e); process.exit(1); });`, srv.URL+"/events/a")
	talk(t, srv, show)
	go srv.Drain()
	end()
}

// Through a proxy each event arrives before the next is published, the first one at once,
// compressed.
func TestCompressedStreamThroughAProxy(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			srv := behind(t, share2)
			socket := p.start(t, srv)
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}}}
			resp, err := client.Get("http://penstock/events/a")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if !resp.Uncompressed {
				t.Errorf("not compressed: %v", resp.Header)
			}
			talk(t, srv, lines{bufio.NewScanner(resp.Body)})
		})
	}
}
