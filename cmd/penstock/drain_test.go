package main

// The way down, with the real program and its defaults: how long it takes at the worst.

import (
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With its defaults the server is down within the ten seconds that docker leaves between SIGTERM
// and SIGKILL, whoever hangs on: streams that do not read and stand within a frame, streams whose
// clients do not hang up, a publisher that stops within its body, a head that never ends.
func TestDrainWithDefaultsEndsWithinTenSeconds(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	address := strings.TrimPrefix(s.url, "http://")
	open := func(text string) net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range 20 {
		open("GET /events/flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
		open("GET /events/quiet HTTP/1.1\r\nHost: localhost\r\n\r\n")
		open("GET /events/news HTTP/1.1\r\nHost: localhost\r\nX-Half: ")
		open("POST /publish/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nhalf")
		open("POST /publish/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\ndone")
	}
	data := strings.Repeat("x", 500<<10)
	poll(t, "sockets are full", func() bool {
		resp, err := http.Post(s.url+"/publish/flood", "text/plain", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		_, streams := s.get("/stats")
		return !strings.Contains(streams, `"lag":{"streams":0,`)
	})
	began := time.Now()
	if code := s.end(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d; it said:\n%s", code, s.said())
	}
	took := time.Since(began)
	t.Logf("down after %s", took.Round(10*time.Millisecond))
	if took > 9500*time.Millisecond {
		t.Errorf("down after %s; docker kills after 10 s. It said:\n%s", took, s.said())
	}
}
