package accept

// The system calls.
//
// Calls that never block go through RawSyscall6, which does not tell Go's scheduler: telling
// costs more than it gives. The functions around them are not inlined, so that their stack
// checks are places where the world can stop. Only the wait in epoll gives its processor away.

import (
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"penstock/server/thread"

	"golang.org/x/sys/unix"
)

const newSocket = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC

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
// left out. Who comes by a unix socket has none.
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
	if errno == syscall.EFAULT {
		return dropCopied(fd, most)
	}
	return int(n), errno
}

// dropCopied is drop for a unix socket, whose bytes have to go somewhere.
func dropCopied(fd int32, most int) (dropped int, errno syscall.Errno) {
	var scrap [4096]byte
	for dropped < most {
		n, errno := receive(fd, scrap[:min(len(scrap), most-dropped)])
		if errno != 0 || n == 0 {
			if dropped > 0 {
				return dropped, 0
			}
			return n, errno
		}
		dropped += n
	}
	return dropped, 0
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

// wait waits at most so long, for ever below 0. An interrupted wait is a short one.
//
// It looks first: under load there nearly always is something, and giving the thread's P away and
// getting one back costs more than a look.
//
//go:noinline
func (e epoll) wait(events []unix.EpollEvent, atMost time.Duration) int {
	first, room := uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events))
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e), first, room, 0, 0, 0)
	if errno == 0 && n > 0 || atMost == 0 {
		return max(0, int(n))
	}
	var until *unix.Timespec
	if atMost > 0 {
		ts := unix.NsecToTimespec(int64(atMost))
		until = &ts
	}
	n, _, errno = thread.Block6(unix.SYS_EPOLL_PWAIT2, uintptr(e), first, room, uintptr(unsafe.Pointer(until)), 0, 0)
	if errno == syscall.ENOSYS || errno == syscall.EPERM {
		// Before Linux 5.11, or behind a container's filter that does not know it: whole milliseconds.
		ms := -1
		if atMost > 0 {
			ms = int((atMost + time.Millisecond - 1) / time.Millisecond)
		}
		n, _, errno = thread.Block6(unix.SYS_EPOLL_PWAIT, uintptr(e), first, room, uintptr(ms), 0, 0)
	}
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
