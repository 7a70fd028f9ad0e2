package accept

// What is set on an address's listening socket. Before the accept thread runs.
//
// All of it is inherited: the kernel gives an accepted socket what its listening socket has, so
// that no connection costs a call for any of it, and a stream keeps it with its shard. SO_SNDBUF
// and SO_RCVBUF are set before listen, for the window's scale is agreed on with the first packet.

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets is what the sockets of TCP addresses have; 0 stands for off, or the kernel's own. Unix
// sockets have none of it.
type Sockets struct {
	DeferAccept time.Duration // TCP_DEFER_ACCEPT: for how long a connection without a byte is kept from the accept thread; whole seconds
	FastOpen    int           // TCP_FASTOPEN: how many connections may wait whose first packet brought data
	SendBuffer  int           // SO_SNDBUF: bytes that the kernel takes for a connection
	RecvBuffer  int           // SO_RCVBUF: bytes that it holds of what was not read
	NotSent     int           // TCP_NOTSENT_LOWAT: bytes of these that may wait to be sent for the first time
	UserTimeout time.Duration // TCP_USER_TIMEOUT: for how long a peer may acknowledge nothing
	KeepAlive   time.Duration // TCP_KEEPIDLE and TCP_KEEPINTVL: after how long a silence the kernel asks; whole seconds
	NoDelay     bool          // TCP_NODELAY: small sends leave at once
	Congestion  string        // TCP_CONGESTION: the congestion control's name
}

// A SocketError is an option of Sockets that the kernel does not take. Its text names the flag, and
// the sysctl or the capability that would do.
type SocketError struct {
	Flag  string // the setting's name
	Value string
	Err   error // what the kernel said; nil where it took less without a word
	Cure  string
}

// Error names flag and value, what the kernel said, and the cure.
func (e *SocketError) Error() string {
	said := "the kernel does not take it"
	if e.Err != nil {
		said = e.Err.Error()
	}
	return fmt.Sprintf("--%s %s: %s; %s", e.Flag, e.Value, said, e.Cure)
}

// Unwrap is what the kernel said.
func (e *SocketError) Unwrap() error { return e.Err }

// set sets all of it on fd, which does not listen yet.
func (s *Sockets) set(fd int) error {
	for _, one := range []struct {
		level, name, value int
		flag               string
		wanted             bool
	}{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "listen", true},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "nodelay", s.NoDelay},
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds(s.DeferAccept), "defer-accept", s.DeferAccept > 0},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(s.UserTimeout / time.Millisecond), "user-timeout", s.UserTimeout > 0},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "keepalive", s.KeepAlive > 0},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(s.KeepAlive), "keepalive", s.KeepAlive > 0},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(s.KeepAlive), "keepalive", s.KeepAlive > 0},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, s.NotSent, "notsent-lowat", s.NotSent > 0},
	} {
		if !one.wanted {
			continue
		}
		if err := unix.SetsockoptInt(fd, one.level, one.name, one.value); err != nil {
			return &SocketError{one.flag, strconv.Itoa(one.value), err, "leave it out on this kernel"}
		}
	}
	if err := setBuffer(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, s.SendBuffer, "send-buffer", "net.core.wmem_max"); err != nil {
		return err
	}
	if err := setBuffer(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, s.RecvBuffer, "recv-buffer", "net.core.rmem_max"); err != nil {
		return err
	}
	if err := s.setFastOpen(fd); err != nil {
		return err
	}
	return s.setCongestion(fd)
}

// seconds is a duration in the unit that the kernel takes.
func seconds(d time.Duration) int { return int(d / time.Second) }

// setBuffer sets the size of a buffer. The kernel takes what is over its sysctl for that much, and
// says nothing: so it is asked what it has (twice what it was told, for its own part).
func setBuffer(fd, name, force, size int, flag, sysctl string) error {
	if size == 0 {
		return nil
	}
	for _, name := range []int{name, force} {
		// force is over the sysctl's head, and takes CAP_NET_ADMIN.
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, size)
		if has, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, nameOf(name)); err == nil && has >= 2*size {
			return nil
		}
	}
	return &SocketError{flag, strconv.Itoa(size), nil,
		"the most is " + sysctl + "=" + read("/proc/sys/"+strings.ReplaceAll(sysctl, ".", "/")) + ": raise it, or give the server CAP_NET_ADMIN"}
}

// nameOf is what a buffer's size is asked by.
func nameOf(name int) int {
	switch name {
	case unix.SO_SNDBUFFORCE:
		return unix.SO_SNDBUF
	case unix.SO_RCVBUFFORCE:
		return unix.SO_RCVBUF
	}
	return name
}

// setFastOpen lets first packets bring data. Where the sysctl forbids it to servers the kernel
// takes the option all the same.
func (s *Sockets) setFastOpen(fd int) error {
	if s.FastOpen == 0 {
		return nil
	}
	no := &SocketError{Flag: "fastopen", Value: strconv.Itoa(s.FastOpen)}
	now := read("/proc/sys/net/ipv4/tcp_fastopen")
	no.Cure = "a server takes net.ipv4.tcp_fastopen=2, or 3 with its clients' part; it is " + now
	if flags, err := strconv.Atoi(now); err == nil && flags&2 == 0 {
		return no
	}
	if no.Err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, s.FastOpen); no.Err != nil {
		return no
	}
	return nil
}

// setCongestion chooses the congestion control.
func (s *Sockets) setCongestion(fd int) error {
	if s.Congestion == "" {
		return nil
	}
	no := &SocketError{Flag: "congestion", Value: s.Congestion}
	switch no.Err = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, s.Congestion); {
	case no.Err == nil:
		return nil
	case errors.Is(no.Err, unix.EPERM):
		no.Cure = "net.ipv4.tcp_allowed_congestion_control is " + read("/proc/sys/net/ipv4/tcp_allowed_congestion_control") + ": add it there, or give the server CAP_NET_ADMIN"
	default:
		no.Cure = "net.ipv4.tcp_available_congestion_control is " + read("/proc/sys/net/ipv4/tcp_available_congestion_control") + "; modprobe tcp_" + s.Congestion + " may add it"
	}
	return no
}

// read is a sysctl's text.
func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "not to be read"
	}
	return strings.TrimSpace(string(text))
}
