package server_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"penstock/server"
	"penstock/server/accept"
	"penstock/server/servertest"
)

// streamSocket finds the server's end of a subscriber's connection: the socket of this process whose
// port is the server's.
func streamSocket(t *testing.T, srv *servertest.Server) int {
	t.Helper()
	port := srv.Addr().(*net.TCPAddr).Port
	for fd := range 4096 {
		peer, err := unix.Getpeername(fd)
		if err != nil || peer == nil {
			continue
		}
		if own, err := unix.Getsockname(fd); err == nil {
			if own, ok := own.(*unix.SockaddrInet4); ok && own.Port == port {
				return fd
			}
		}
	}
	t.Fatal("no socket of a stream")
	return -1
}

// What the settings say of sockets, a stream's socket has; the defaults among it.
func TestSocketSettingsReachTheKernel(t *testing.T) {
	check := func(what string, level, name, want int, options ...servertest.Option) {
		t.Helper()
		srv := servertest.Start(t, options...)
		srv.Subscribe(t, "a")
		if has, err := unix.GetsockoptInt(streamSocket(t, srv), level, name); err != nil || has != want {
			t.Errorf("%s: the socket has %d, %v; want %d", what, has, err, want)
		}
	}
	set := func(change func(*server.Config)) servertest.Option { return change }
	check("--notsent-lowat by default", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 128<<10)
	check("--user-timeout by default", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000)
	check("--nodelay by default", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	check("--keepalive by default", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	check("--notsent-lowat", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 5000, set(func(c *server.Config) { c.NotSentLowat = 5000 }))
	check("--user-timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000, set(func(c *server.Config) { c.UserTimeout = 5 * time.Second }))
	check("--nodelay=false", unix.IPPROTO_TCP, unix.TCP_NODELAY, 0, set(func(c *server.Config) { c.NoDelay = false }))
	check("--keepalive", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5, set(func(c *server.Config) { c.KeepAlive = 5 * time.Second }))
	check("--send-buffer", unix.SOL_SOCKET, unix.SO_SNDBUF, 40_000, set(func(c *server.Config) { c.SendBuffer = 20_000 }))
	check("--recv-buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, 40_000, set(func(c *server.Config) { c.RecvBuffer = 20_000 }))
	c := servertest.Config()
	c.Congestion = "none-such"
	srv, err := server.New(c, nil)
	if err == nil {
		srv.Close()
		t.Fatal("it serves with a congestion control that is not there")
	}
	if refused := (*accept.SocketError)(nil); !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "--congestion none-such: ") || !strings.Contains(err.Error(), "net.ipv4.tcp_available_congestion_control") {
		t.Error(err)
	}
}

// With Nagle's way and every bound at its least, a subscriber still gets everything in order.
func TestLeastSocketsStillDeliver(t *testing.T) {
	srv := servertest.Start(t, func(c *server.Config) {
		c.NoDelay, c.NotSentLowat, c.SendBuffer, c.RecvBuffer, c.DeferAccept, c.Pin = false, 1, 1, 1, 0, true
	})
	alice := srv.Subscribe(t, "a")
	last := uint64(0)
	for range 50 {
		last = srv.Publish(t, "a", strings.Repeat("x", 5000))
	}
	alice.WaitID(t, last)
}
