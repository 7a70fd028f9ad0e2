package server_test

// Proxies in front, as they are configured by most: nginx, which speaks HTTP/1.0 to what is behind
// it unless told otherwise, HAProxy and Caddy. Skipped where they are not installed.

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// A proxy is one that can be put in front of a server, which also listens on a unix socket.
type proxy struct {
	name    string
	program string
	args    func(config string) []string
	config  string // with {socket} to listen on, {server} or {unix} behind it and {dir} for files
}

const nginxConfig = `
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/log;
events { worker_connections 256; }
http {
	access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
	upstream penstock { server {server}; keepalive 8; }
	server {
		listen unix:{socket};
		location / { proxy_pass http://penstock; proxy_set_header Host $http_host; {more} }
	}
}`

func nginxArgs(config string) []string { return []string{"-p", filepath.Dir(config), "-c", config} }

var proxies = []proxy{
	{"nginx", "nginx", nginxArgs, strings.Replace(nginxConfig, "{more}", "", 1)},
	{"nginx with HTTP 1.1", "nginx", nginxArgs, strings.Replace(nginxConfig, "{more}",
		`proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For 192.0.2.1;`, 1)},
	{"nginx by a unix socket", "nginx", nginxArgs, strings.NewReplacer("{server}", "{unix}", "{more}", "").Replace(nginxConfig)},
	{"HAProxy", "haproxy", func(config string) []string { return []string{"-db", "-f", config} }, `
defaults
	mode http
	option http-no-delay
	timeout connect 10s
	timeout client 60s
	timeout server 60s
listen penstock
	bind unix@{socket}
	http-request set-header X-Forwarded-For 192.0.2.1
	server penstock {server}
`},
	{"Caddy", "caddy", func(config string) []string { return []string{"run", "--adapter", "caddyfile", "--config", config} }, `
{
	admin off
	auto_https off
	persist_config off
	storage file_system {dir}
}
http:// {
	bind unix/{socket}
	reverse_proxy {server}
}
`},
}

// start puts the proxy in front of a server and returns the socket that it listens on.
func (p *proxy) start(t *testing.T, srv *servertest.Server) (socket string) {
	t.Helper()
	program := servertest.Program(t, p.program)
	dir, err := os.MkdirTemp("", "proxy") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "socket")
	config := filepath.Join(dir, "config")
	text := strings.NewReplacer("{socket}", socket, "{server}", srv.Addr().String(), "{unix}", "unix:"+srv.Addrs()[1].String(), "{dir}", dir).Replace(p.config)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	servertest.RunProxy(t, program, dir, p.args(config)...)
	return socket
}

// behind starts a server that a proxy may be put in front of.
func behind(t *testing.T, options ...servertest.Option) *servertest.Server {
	t.Helper()
	return servertest.Start(t, append([]servertest.Option{servertest.Listen("unix:" + socketPath(t))}, options...)...)
}

// inFront runs a test with each proxy.
func inFront(t *testing.T, test func(t *testing.T, srv *servertest.Server, dial func() *wire), options ...servertest.Option) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			srv := behind(t, options...)
			socket := p.start(t, srv)
			test(t, srv, func() *wire { return dial(t, "unix", socket) })
		})
	}
}

// stream asks for a stream through a proxy and reads its head, whose order is the proxy's, and its
// first block.
func (w *wire) stream(target string, headers ...string) (first string) {
	w.t.Helper()
	w.send(head("GET "+target+" HTTP/1.1", headers...))
	got := strings.ToLower(w.until("\r\n\r\n"))
	for _, want := range []string{"http/1.1 200 ", "content-type: text/event-stream\r\n", "transfer-encoding: chunked\r\n", "cache-control: no-cache, no-store, no-transform\r\n"} {
		if !strings.Contains(got, want) {
			w.t.Fatalf("the stream's head is %q, want %q in it", got, want)
		}
	}
	return w.proxied()
}

// proxied reads the next block that is no heartbeat. Where the proxy's chunks end is the proxy's
// business: a block may lie in several, and several blocks in one.
func (w *wire) proxied() string {
	w.t.Helper()
	for {
		end := strings.Index(w.blocks, "\n\n") + len("\n\n")
		if end < len("\n\n") {
			w.chunk()
			continue
		}
		block := w.blocks[:end]
		w.blocks = w.blocks[end:]
		if block != ":\n\n" && !idAlone.MatchString(block) {
			return block
		}
	}
}

// chunk reads one chunk of a proxy's.
func (w *wire) chunk() {
	w.t.Helper()
	var size int
	if _, err := fmt.Sscanf(w.until("\r\n"), "%x", &size); err != nil || size == 0 {
		w.t.Fatalf("a chunk of %d bytes, or none (%v); behind it %q", size, err, w.rest)
	}
	w.blocks += strings.TrimSuffix(w.take(size+2), "\r\n")
}

// Events pass as they are published, a resume goes on where the stream was cut, and a client that
// goes takes its stream with it.
func TestStreamsPassProxies(t *testing.T) {
	inFront(t, func(t *testing.T, srv *servertest.Server, dial func() *wire) {
		start := srv.Publish(t, "news", "before")
		w := dial()
		if got := w.stream("/events/news"); !strings.HasSuffix(got, fmt.Sprintf("\nid: %d\n\n", start)) {
			t.Fatalf("first block %q, want id %d", got, start)
		}
		var last uint64
		for i := range 20 {
			last = srv.Publish(t, "news", fmt.Sprint(i))
			if got, want := w.proxied(), fmt.Sprintf("data: %d\nid: %d\n\n", i, last); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		w.Close()
		servertest.WaitUntil(t, "the stream to be gone", func() bool { return stats(t, srv).Connections.Streams == 0 })

		missed := srv.Publish(t, "news", "missed")
		w = dial()
		got := w.stream("/events/news", fmt.Sprintf("Last-Event-ID: %d", last))
		if !strings.Contains(got, "data: missed\n") {
			got += w.proxied()
		}
		if !strings.HasSuffix(got, fmt.Sprintf("\nid: %d\n\ndata: missed\nid: %d\n\n", last, missed)) {
			t.Errorf("after a resume got %q", got)
		}
		w = dial().send(head("GET /events/a..b HTTP/1.1", "Connection: close"))
		if resp, body := w.answer(); resp.StatusCode != 400 || !strings.HasPrefix(body, `{"error":"topic`) {
			t.Errorf("a bad topic got %s %q", resp.Status, body)
		}
	}, func(c *server.Config) { c.Heartbeat = time.Second })
}

// A proxy that says it is one does not open publishing and looking to whoever reaches it.
func TestProxiesDoNotOpenTheServer(t *testing.T) {
	inFront(t, func(t *testing.T, srv *servertest.Server, dial func() *wire) {
		if strings.HasSuffix(t.Name(), "/nginx") {
			t.Skip("this nginx does not say that it is one")
		}
		if resp, body := dial().send(post("/publish/news", "x")).answer(); resp.StatusCode != 401 {
			t.Errorf("publish: %s %s", resp.Status, body)
		}
		if resp, body := dial().send(head("GET /stats HTTP/1.1")).answer(); resp.StatusCode != 404 {
			t.Errorf("stats: %s %s", resp.Status, body)
		}
		if resp, _ := dial().send(head("GET /healthz HTTP/1.1")).answer(); resp.StatusCode != 200 {
			t.Errorf("health: %s", resp.Status)
		}
	})
}

var comeBack = regexp.MustCompile(`^retry: \d{4}\n\n$`)

// A drain ends the streams behind a proxy at a frame's border and with the last chunk.
func TestDrainPassesProxies(t *testing.T) {
	inFront(t, func(t *testing.T, srv *servertest.Server, dial func() *wire) {
		w := dial()
		w.stream("/events/news")
		id := srv.Publish(t, "news", "the last")
		srv.Drain()
		if got, want := w.proxied(), fmt.Sprintf("data: the last\nid: %d\n\n", id); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := w.proxied(); !comeBack.MatchString(got) {
			t.Errorf("the last block is %q, want retry: alone", got)
		}
		if got := w.until("0\r\n\r\n"); got != "0\r\n\r\n" {
			t.Errorf("the stream ended with %q, want the last chunk", got)
		}
		resp, body := dial().send(head("GET /events/news HTTP/1.1", "Accept: text/event-stream")).answer()
		if resp.StatusCode != 200 || !strings.HasPrefix(body, "retry: ") {
			t.Errorf("an EventSource while draining got %s %q", resp.Status, body)
		}
	})
}

// A client behind a proxy that does not read holds nobody up; what it has lost is told when it
// reads again.
func TestLaggardBehindProxyGetsAGap(t *testing.T) {
	inFront(t, func(t *testing.T, srv *servertest.Server, dial func() *wire) {
		w := dial()
		w.stream("/events/news")
		// What proxies and the kernel hold is megabytes, and Caddy asks for gzip by itself.
		noise := make([]byte, 11_000)
		rand.NewChaCha8([32]byte{1}).Read(noise)
		data := base64.StdEncoding.EncodeToString(noise)
		deadline := time.Now().Add(impatience)
		for far := false; !far; {
			if time.Now().After(deadline) {
				t.Fatal("the stream never fell off the ring")
			}
			for range 100 {
				srv.Publish(t, "news", data)
			}
			for _, info := range srv.Laggards(1) {
				far = info.Lag > 2*64<<10
			}
		}
		gap := w.proxied()
		for !strings.HasPrefix(gap, "event: gap\n") {
			gap = w.proxied()
		}
		if !strings.Contains(gap, `"topics":["news"]`) {
			t.Errorf("the gap is %q", gap)
		}
		srv.Publish(t, "news", "live")
		for !strings.HasPrefix(w.proxied(), "data: live\n") {
		}
	}, servertest.RingSize(64<<10))
}
