package server_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// socketPath is where a test's unix socket may be: a path must be short.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "listen")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "penstock.sock")
}

// by asks by way of one of the server's addresses.
func by(t *testing.T, at net.Addr, method, target, body string) (status int, text string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, at.Network(), at.String())
	}}
	request, err := http.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: transport, Timeout: 20 * time.Second}
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// Each address keeps its own rule: what loopback allows, no other address does, whatever Host says:
// a unix socket brings a proxy's world, and so does an address for all.
func TestEachAddressHasItsOwnRule(t *testing.T) {
	srv := servertest.Start(t, servertest.Listen("unix:"+socketPath(t)), servertest.Listen("0.0.0.0:0"))
	everywhere := srv.Addrs()[2].(*net.TCPAddr)
	everywhere = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: everywhere.Port}
	for _, c := range []struct {
		at                    net.Addr
		publish, look, health int
	}{
		{srv.Addrs()[0], 200, 200, 200},
		{srv.Addrs()[1], 401, 404, 200},
		{everywhere, 401, 404, 200},
	} {
		if status, text := by(t, c.at, "POST", "/publish/a", "x"); status != c.publish {
			t.Errorf("%s: publish: %d %s", c.at, status, text)
		}
		if status, text := by(t, c.at, "GET", "/topics", ""); status != c.look {
			t.Errorf("%s: look: %d %s", c.at, status, text)
		}
		if status, text := by(t, c.at, "GET", "/healthz", ""); status != c.health {
			t.Errorf("%s: health: %d %s", c.at, status, text)
		}
	}
	var facts strings.Builder
	for _, f := range srv.Facts() {
		facts.WriteString(f.Name + " " + f.Value + "\n")
	}
	for _, want := range []string{"also at unix:" + srv.Addrs()[1].String() + ", http://localhost:", "look " + srv.URL, "by others nobody"} {
		if !strings.Contains(facts.String(), want) {
			t.Errorf("the facts don't say %q:\n%s", want, facts.String())
		}
	}
}

// A reader that stops at a unix socket lags, and gets everything when it goes on; /streams shows it.
func TestUnixSocketLagsAndCatchesUp(t *testing.T) {
	srv := servertest.Start(t, servertest.Listen("unix:"+socketPath(t)))
	c, err := net.Dial("unix", srv.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for line := ""; !strings.HasPrefix(line, "id: "); {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	const events = 100
	data := strings.Repeat("x", 10_000)
	for range events {
		srv.Publish(t, "a", data)
	}
	servertest.WaitUntil(t, "the reader to lag", func() bool {
		infos := srv.Laggards(10)
		return len(infos) == 1 && infos[0].Lag > 0
	})
	if _, text := by(t, srv.Addrs()[0], "GET", "/streams", ""); !strings.Contains(text, `"address":"unix"`) {
		t.Errorf("/streams: %s", text)
	}
	for n := 0; n < events; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d of %d events: %v", n, events, err)
		}
		if line == "data: "+data+"\n" {
			n++
		}
	}
}

// An address that can't be had takes the others down with it, and leaves no file behind.
func TestOneBadAddressIsAnError(t *testing.T) {
	path := socketPath(t)
	c := servertest.Config()
	c.Listen = []string{"unix:" + path, "192.0.2.1:0"}
	if srv, err := server.New(c, nil); err == nil {
		srv.Close()
		t.Fatal("it serves")
	} else if !strings.Contains(err.Error(), "--listen") || !strings.Contains(err.Error(), "192.0.2.1:0") {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket's file: %v", err)
	}
}
