package accept

// The system calls, and how a listening socket is opened.
//
// Calls that never block go through RawSyscall6, which does not tell Go's scheduler: telling
// costs more than it gives. The functions around them are not inlined, so that their stack
// checks are places where the world can stop. Only the wait in epoll gives its processor away.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// deferAccept is how many seconds a connection without a byte stays out of
	// the accept thread's sight (TCP_DEFER_ACCEPT).
	deferAccept = 1

	newSocket = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
)

// listen opens a listening socket. What is set on it, the accepted sockets inherit.
func listen(o *Options) (int, *net.TCPAddr, error) {
	fd, addr, err := listenOn(o)
	if err != nil {
		return -1, nil, fmt.Errorf("listen on %s: %w; --listen takes host:port, port 0 for any free one", o.Listen, err)
	}
	return fd, addr, nil
}

func listenOn(o *Options) (int, *net.TCPAddr, error) {
	at, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return -1, nil, err
	}
	family := unix.AF_INET6
	if at.IP.To4() != nil {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|newSocket, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) && at.IP == nil {
		// Every address of this machine, which has no IPv6.
		family = unix.AF_INET
		fd, err = unix.Socket(family, unix.SOCK_STREAM|newSocket, 0)
	}
	if err != nil {
		return -1, nil, os.NewSyscallError("socket", err)
	}
	addr, err := bind(fd, family, at, o)
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, addr, nil
}

// bind makes fd a listening socket at an address.
func bind(fd, family int, at *net.TCPAddr, o *Options) (*net.TCPAddr, error) {
	type option struct{ level, name, value int }
	options := []option{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAccept},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout / time.Millisecond)},
	}
	if o.NotSent > 0 {
		options = append(options, option{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, o.NotSent})
	}
	if family == unix.AF_INET6 && at.IP == nil {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0})
	}
	for _, s := range options {
		if err := unix.SetsockoptInt(fd, s.level, s.name, s.value); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(at, family)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, o.Backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	var ip netip.Addr
	var port int
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		ip, port = netip.AddrFrom4(b.Addr), b.Port
	case *unix.SockaddrInet6:
		ip, port = netip.AddrFrom16(b.Addr).WithZone(at.Zone), b.Port
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
}

func sockaddr(at *net.TCPAddr, family int) unix.Sockaddr {
	if family == unix.AF_INET {
		to := &unix.SockaddrInet4{Port: at.Port}
		copy(to.Addr[:], at.IP.To4())
		return to
	}
	to := &unix.SockaddrInet6{Port: at.Port}
	copy(to.Addr[:], at.IP.To16())
	if i, err := net.InterfaceByName(at.Zone); err == nil {
		to.ZoneId = uint32(i.Index)
	}
	return to
}

// A peer is the room for one address of the kernel's, which accept4 fills.
type peer struct {
	raw unix.RawSockaddrInet6 // the longest that a TCP socket has
	len uint32
}

// accept takes one connection from fd's queue.
//
//go:noinline
func (p *peer) accept(fd int) (int32, syscall.Errno) {
	p.len = uint32(unsafe.Sizeof(p.raw))
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&p.raw)), uintptr(unsafe.Pointer(&p.len)), newSocket, 0, 0)
	return int32(n), errno
}

// addr is the address that accept found, without allocation. IPv4 in IPv6 is IPv4; a zone is
// left out.
func (p *peer) addr() netip.AddrPort {
	port := uint16(p.raw.Port<<8 | p.raw.Port>>8) // in network order
	switch p.raw.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&p.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(p.raw.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// peek reads what waits in fd and leaves it there. 0 without an error is the end.
//
//go:noinline
func peek(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// receive takes what waits in fd. 0 without an error is the end.
//
//go:noinline
func receive(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// drop takes at most most bytes from fd without looking at them: with MSG_TRUNC TCP does not
// even copy them. 0 without an error is the end.
//
//go:noinline
func drop(fd int32, most int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(most), unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// send gives b to fd's socket; the kernel may take a part.
//
//go:noinline
func send(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// shut ends one or both directions of fd's connection.
//
//go:noinline
func shut(fd int32, how int) {
	syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
}

// closeSocket gives fd back. What still waits in it to be read makes this a reset.
//
//go:noinline
func closeSocket(fd int32) {
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// epoll is an epoll set. data comes back with the events.
type epoll int

func (e epoll) add(fd int32, events uint32, data int32) syscall.Errno {
	return e.control(unix.EPOLL_CTL_ADD, fd, events, data)
}

func (e epoll) change(fd int32, events uint32, data int32) syscall.Errno {
	return e.control(unix.EPOLL_CTL_MOD, fd, events, data)
}

func (e epoll) remove(fd int32) { e.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

//go:noinline
func (e epoll) control(op int, fd int32, events uint32, data int32) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: data}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(e), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// wait waits at most ms milliseconds, for ever below 0. An interrupted wait is a short one.
func (e epoll) wait(events []unix.EpollEvent, ms int) int {
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// ring makes an eventfd readable. Any goroutine.
func ring(bell int) {
	one := uint64(1)
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(bell), uintptr(unsafe.Pointer(&one)), 8)
}
