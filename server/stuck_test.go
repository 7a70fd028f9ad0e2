package server_test

// Readers that stop reading: what they cost, and for how long.

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/fanout"
	"penstock/server/servertest"
)

// stuck opens a stream that is not read, with a small window.
func stuck(t testing.TB, srv *servertest.Server, topic string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	c, err := d.DialContext(context.Background(), "tcp", srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, head("GET /events/"+topic+" HTTP/1.1")); err != nil {
		t.Fatal(err)
	}
	return c
}

// lagging is how many streams lag, and what is held for them.
func lagging(srv *servertest.Server) (streams int, bytes int64) {
	for _, s := range srv.ShardStats() {
		streams += s.Lagging
		bytes += s.LagBytes
	}
	return streams, bytes
}

// clientCosts are about what a connection of the test itself takes on the same heap.
const clientCosts = 800

// alive is what lives on the heap beside the ring.
func alive(srv *servertest.Server) int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) - srv.RingMemory()
}

// A thousand readers who stop reading cost the process less than a KiB each, beside the kernel's
// buffers and what --lag-memory bounds, and keep nobody waiting.
func TestThousandStuckReadersCostLittle(t *testing.T) {
	const many = 1000
	srv := servertest.Start(t, servertest.RingSize(4<<20), servertest.Shards(1))
	reader := dialTo(t, srv).send(head("GET /events/flood HTTP/1.1"))
	reader.begin(false)
	publish := func(size, n int) time.Duration {
		data := strings.Repeat("x", size)
		began := time.Now()
		for range n {
			reader.until(fmt.Sprintf("\nid: %d\n", srv.Publish(t, "flood", data)))
		}
		return time.Since(began) / time.Duration(n)
	}
	streams := 1
	crowd := func(more int) (calm time.Duration) {
		for range more {
			stuck(t, srv, "flood")
		}
		streams += more
		servertest.WaitUntil(t, "all streams", func() bool { return stats(t, srv).Connections.Streams == streams })
		servertest.WaitUntil(t, "all to lag", func() bool {
			publish(4<<10, 1)
			n, _ := lagging(srv)
			return n >= streams-1
		})
		publish(32<<10, 300) // the ring has been written anew: what they held of it has been copied out
		return publish(500, 500)
	}
	calm := crowd(10) // every pool is warm
	_, some := lagging(srv)
	before := alive(srv)
	crowded := crowd(many)
	n, held := lagging(srv)
	each := (alive(srv) - before - (held - some)) / many
	t.Logf("%d lagging streams: %d bytes each on the heap (their clients' included), %d held within --lag-memory; a publish until it is read takes %s, before %s",
		n, each, held, crowded, calm)
	if each > 1024+clientCosts {
		t.Errorf("a stuck reader costs %d bytes, want less than 1 KiB", each)
	}
	if crowded > 3*calm+time.Millisecond {
		t.Errorf("a publish until it is read takes %s beside them, %s without", crowded, calm)
	}
}

// A reader that is alive but takes not one byte is reset after --user-timeout; one that reads a
// little now and then is not. Over a unix socket the kernel keeps no such time, so that it is the
// shard's.
func TestStalledReaderIsReset(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			srv := servertest.Start(t, servertest.Shards(1), func(c *server.Config) {
				c.UserTimeout = 2 * time.Second
				c.Listen = append(c.Listen, "unix:"+path)
			})
			open := func() net.Conn {
				if network == "tcp" {
					return stuck(t, srv, "flood")
				}
				return dial(t, "unix", path).send(head("GET /events/flood HTTP/1.1")).Conn
			}
			still, slow := open(), open()
			ended := make(chan error, 1)
			go func() {
				buf := make([]byte, 1500)
				for every := time.NewTicker(50 * time.Millisecond); ; <-every.C {
					if _, err := slow.Read(buf); err != nil {
						every.Stop()
						ended <- err
						return
					}
				}
			}()
			servertest.WaitUntil(t, "both streams", func() bool { return stats(t, srv).Connections.Streams == 2 })
			data := strings.Repeat("x", 500<<10)
			servertest.WaitUntil(t, "both to lag", func() bool {
				srv.Publish(t, "flood", data)
				n, _ := lagging(srv)
				return n == 2
			})
			began := time.Now()
			servertest.WaitUntil(t, "the still one to be ended", func() bool { return stats(t, srv).Connections.Streams == 1 })
			t.Logf("ended after %s", time.Since(began))
			select {
			case err := <-ended:
				t.Errorf("the slow one was ended: %v", err)
			case <-time.After(2 * time.Second): // it is watched for as long again
			}
			stalled := uint64(0)
			for _, s := range srv.ShardStats() {
				stalled += s.Disconnects[fanout.Stalled]
			}
			if network == "unix" && stalled != 1 {
				t.Errorf("%d streams counted as stalled, want 1", stalled)
			}
			slow.Close()
			<-ended
			still.Close()
		})
	}
}
