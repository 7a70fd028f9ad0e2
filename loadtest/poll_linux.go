package loadtest

// The system calls of readers and of the publisher: epoll, non-blocking sockets, raw reads.
//
// Reads and sends go through RawSyscall, which does not tell Go's scheduler: they never block.
// The functions around them are not inlined, so that their stack checks are places where the
// world can stop. Each thread has a poller of its own.

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A poller is an epoll set and room for what it reports.
type poller struct {
	fd     int
	events [512]unix.EpollEvent
	coarse bool // no epoll_pwait2 (before Linux 5.11): waits are whole milliseconds
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open an epoll set: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { unix.Close(p.fd) }

// add watches fd, edge-triggered. slot and age come back with each of its events.
func (p *poller) add(fd int32, slot int32, age int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: slot, Pad: age}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(fd), &ev)
}

// onlyReads stops reports of writability: each would wake the reader for nothing.
func (p *poller) onlyReads(fd int32, slot int32, age int32) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: slot, Pad: age}
	// It was added: the call cannot fail in a way that could be mended here.
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, int(fd), &ev)
}

// wait answers what has happened, at the latest after d.
func (p *poller) wait(d time.Duration) ([]unix.EpollEvent, error) {
	d = max(d, 0)
	var n uintptr
	var errno syscall.Errno
	if !p.coarse {
		ts := unix.NsecToTimespec(int64(d))
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
		if errno == unix.ENOSYS {
			p.coarse = true
		}
	}
	if p.coarse {
		ms := (d + time.Millisecond - 1) / time.Millisecond
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(ms), 0, 0)
	}
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("epoll_wait: %w", errno)
}

// rawRead reads what is there. 0 and no error: the other side has finished.
//
//go:noinline
func rawRead(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// rawSend sends what the socket takes.
//
//go:noinline
func rawSend(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// dial opens a non-blocking socket and begins to connect it. from is not valid: any source.
func dial(from netip.Addr, to netip.AddrPort, receiveBuffer int) (int32, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if receiveBuffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if from.IsValid() {
		// The port is chosen at connect, for the pair of addresses: 28,000 for each source address
		// and not for the machine.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return int32(fd), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connectError answers why a socket's connect failed, 0 when it did not.
func connectError(fd int32) syscall.Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.EBADF
	}
	return syscall.Errno(v)
}

// closeSocket closes a socket; abort does it by a reset, so that no port waits in TIME_WAIT.
func closeSocket(fd int32, abort bool) {
	if abort {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(int(fd))
}
