package accept

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unixStart starts an Acceptor at a unix socket and a TCP address.
func unixStart(t *testing.T, change ...func(*Options)) (*server, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	return start(t, append([]func(*Options){func(o *Options) { o.Listen = []string{"unix:" + path, "127.0.0.1:0"} }}, change...)...), path
}

// unixClient is one at a unix socket. What TCP alone has must not be asked of it.
func unixClient(t *testing.T, path string) *client {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{conn: c.(*net.UnixConn), t: t, r: bufio.NewReader(c)}
}

// A unix socket serves all that TCP does: streams on every way, publishes, answers, and what a
// client sends beyond its request.
func TestUnixSocketServesEverything(t *testing.T) {
	s, path := unixStart(t)
	for _, pad := range []string{"", "X-Pad: " + strings.Repeat("p", shortMost) + "\r\n"} {
		c := unixClient(t, path)
		c.send("GET /events/a HTTP/1.1\r\nHost: a\r\n" + pad + "\r\nand more")
		c.stream("a")
	}
	if n := s.shards.unread(); n != 0 {
		t.Errorf("%d bytes behind a head are left in a stream's socket", n)
	}
	c := unixClient(t, path)
	for range 2 {
		body := strings.Repeat("b", 100_000)
		c.send(post("/echo", len(body), "") + body)
		if a := c.answer(); a.status != 200 || a.body != "POST /echo "+body {
			t.Fatalf("publish: status %d, %d bytes", a.status, len(a.body))
		}
	}
	c.send("GET /large/3000000 HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := c.answer(); len(a.body) != 3_000_000 {
		t.Errorf("%d bytes of 3,000,000", len(a.body))
	}
	c = unixClient(t, path)
	c.send("GET /events/refused HTTP/1.1\r\nHost: a\r\n\r\n" + strings.Repeat("x", 100_000))
	if a := c.answer(); a.status != 404 {
		t.Errorf("%+v", a)
	}
	c = unixClient(t, path)
	c.send("nonsense\r\n\r\n")
	if a := c.answer(); a.status != 400 {
		t.Errorf("%+v", a)
	}
	c = unixClient(t, path)
	c.send("GET /events/b HT")
	eventually(t, "half a head to wait", func() bool { return s.Stats().Waiting == 1 })
	c.send("TP/1.1\r\nHost: a\r\n\r\n")
	c.stream("b")
}

// The Handler is told which address a connection came by, on every way; a unix socket's client has
// no address of its own.
func TestHandlerHearsTheAddress(t *testing.T) {
	s, path := unixStart(t)
	for _, request := range []string{"GET /events/a HTTP/1.1\r\nHost: a\r\n\r\n", post("/echo", 0, ""), "GET /events/a HTTP/1.1\r\nHost: a\r\nX-Pad: " + strings.Repeat("p", shortMost) + "\r\n\r\n"} {
		for listener, c := range []*client{unixClient(t, path), dial(t, s.Addrs()[1])} {
			c.send(request[:10])
			eventually(t, "the head to be waited for", func() bool { return s.Stats().Waiting == 1 })
			c.send(request[10:])
			c.answer()
			s.house.mu.Lock()
			from := s.house.froms[len(s.house.froms)-1]
			s.house.mu.Unlock()
			if int(from.Listener) != listener || from.Remote.IsValid() != (listener == 1) {
				t.Errorf("%.20q at address %d: from %+v", request, listener, from)
			}
			c.Close()
			eventually(t, "the connection to be over", func() bool { return s.Stats().Open == 0 })
		}
	}
}

// The socket's file has the mode that was asked for, and goes with the Acceptor; unless another one
// has taken its name since.
func TestSocketFileComesAndGoes(t *testing.T) {
	s, path := unixStart(t, func(o *Options) { o.SocketMode = 0o606 })
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o606 {
		t.Fatalf("%v, %v", info, err)
	}
	s.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
	s, path = unixStart(t)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's file is gone: %v", err)
	}
}

// What a killed server left behind makes place; what is somebody's does not.
func TestStaleSocketMakesPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	at := func(o *Options) { o.Listen = []string{"unix:" + path} }
	s := start(t, at)
	c := unixClient(t, path)
	c.send("GET /events/a HTTP/1.1\r\nHost: a\r\n\r\n")
	c.stream("a")

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{path: syscall.EADDRINUSE.Error(), file: "no socket", dir + "/none/sock": "no such file", "@x": "abstract"} {
		a, err := Listen(Options{Listen: []string{"127.0.0.1:0", "unix:" + path}, Handler: newHouse()})
		if err == nil {
			a.Close()
			t.Errorf("%s: listens", path)
		} else if !strings.Contains(err.Error(), "unix:"+path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "kept" {
		t.Error("a file that is no socket is gone")
	}
	unixClient(t, path)
	s.Close()
}

// Who comes by a unix socket has no address: a limit of connections for each does not count them.
func TestLimitForAnAddressLeavesUnixSocketsOut(t *testing.T) {
	s, path := unixStart(t, func(o *Options) { o.Limits.MaxPerAddress = 1 })
	for range 3 {
		c := unixClient(t, path)
		c.send(get + "\r\n")
		c.stream("a.b")
	}
	c := dial(t, s.Addrs()[1])
	c.send(get + "\r\n")
	c.stream("a.b")
	c = dial(t, s.Addrs()[1])
	c.send(get + "\r\n")
	if a := c.answer(); a.status != 429 {
		t.Errorf("a second one of an address: %+v", a)
	}
}
