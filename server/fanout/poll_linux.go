package fanout

// The real system: raw, non-blocking calls, an epoll set and an eventfd a shard.
//
// Sends go through RawSyscall6, which does not tell Go's scheduler: they never
// block, and telling costs more than it gives. So that a flush over thousands of
// subscribers still can be stopped for the collector, the functions around them are not
// inlined and their stack checks are the places where the world can stop. Only a
// wait that may block gives its processor away.

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"penstock/server/thread"

	"golang.org/x/sys/unix"
)

// bellSlot marks the bell's own events.
const bellSlot = ^uint32(0)

// epoll is the system of a live shard.
type epoll struct {
	set    int // -1 until opened
	bell   int
	pair   *pair // nil where all shards use the process's descriptor table
	events [512]unix.EpollEvent
	scrap  [4096]byte
	coarse bool // the kernel has no epoll_pwait2 (before 5.11): waits are whole milliseconds
}

// A pair is the way of sockets into a shard's own descriptor table.
type pair struct {
	door, out int32 // what is sent into door, from the process's table, comes out in the shard's
	in        parcel
	thread    int // whose table it is
	files     int // descriptors in the table before there is a stream
	limit     int // most that there may be
}

// newEpoll opens a bell, and a pair for a table of the shard's own. An epoll set is missing yet.
func newEpoll(apart bool) (*epoll, error) {
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open an eventfd: %w", err)
	}
	p := &epoll{set: -1, bell: bell}
	if apart {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			unix.Close(bell)
			return nil, fmt.Errorf("open a pair of sockets: %w", err)
		}
		p.pair = &pair{door: int32(fds[0]), out: int32(fds[1])}
	}
	return p, nil
}

// open opens the epoll set, in the calling thread's descriptor table.
func (p *epoll) open() error {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open an epoll set: %w", err)
	}
	p.set = set
	// Edge-triggered: a ring need not be read back, and so costs one call less.
	if errno := p.control(unix.EPOLL_CTL_ADD, int32(p.bell), unix.EPOLLIN|unix.EPOLLET, bellSlot); errno != 0 {
		unix.Close(set)
		p.set = -1
		return fmt.Errorf("watch an eventfd: %w", errno)
	}
	return nil
}

func (p *epoll) now() time.Time { return time.Now() }

//go:noinline
func (p *epoll) send(fd int32, b []byte) (int, syscall.Errno) {
	sent := 0
	for sent < len(b) {
		n, errno := rawSend(fd, b[sent:])
		switch errno {
		case 0:
			sent += n
			if sent < len(b) {
				// The kernel takes less than all only when the socket is full
				// now; asking again costs a call to hear so.
				return sent, syscall.EAGAIN
			}
		case syscall.EINTR:
		default:
			return sent, errno
		}
	}
	return sent, 0
}

//go:noinline
func rawSend(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

func (p *epoll) discard(fd int32) {
	for range 16 {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p.scrap)), uintptr(len(p.scrap)), syscall.MSG_DONTWAIT, 0, 0)
		if errno != 0 || int(n) < len(p.scrap) {
			return
		}
	}
}

func (p *epoll) finish(fd int32) {
	syscall.RawSyscall(syscall.SYS_SHUTDOWN, uintptr(fd), syscall.SHUT_WR, 0)
}

func (p *epoll) close(fd int32) {
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
}

func (p *epoll) reset(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	p.close(fd)
}

func (p *epoll) unsent(fd int32) int32 {
	var n int32
	syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	return n
}

func (p *epoll) peer(fd int32) netip.AddrPort {
	sa, err := unix.Getpeername(int(fd))
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// EPOLLRDHUP without EPOLLIN: what a subscriber sends after its request is never
// read. Edge-triggered: what is told is kept until a pass has served it, and a rest would be none
// if the kernel told it again and again meanwhile.
const hangUp = unix.EPOLLRDHUP | unix.EPOLLET

func (p *epoll) watch(fd int32, slot uint32) syscall.Errno {
	return p.control(unix.EPOLL_CTL_ADD, fd, hangUp, slot)
}

func (p *epoll) writable(fd int32, slot uint32, on bool) syscall.Errno {
	if on {
		// Edge-triggered: it stays armed, and the socket of a subscriber that
		// is live again is writable nearly always.
		return p.control(unix.EPOLL_CTL_MOD, fd, hangUp|unix.EPOLLOUT, slot)
	}
	return p.control(unix.EPOLL_CTL_MOD, fd, hangUp, slot)
}

func (p *epoll) unwatch(fd int32) { p.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (p *epoll) control(op int, fd int32, events uint32, slot uint32) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: int32(slot)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(p.set), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

func (p *epoll) wait(events []event, atMost time.Duration) []event {
	n := p.poll(atMost)
	for _, ev := range p.events[:n] {
		if slot := uint32(ev.Fd); slot != bellSlot {
			events = append(events, event{
				slot:     slot,
				gone:     ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
				writable: ev.Events&unix.EPOLLOUT != 0,
			})
		}
	}
	return events
}

// poll fills p.events. An interrupted wait is a short one.
func (p *epoll) poll(atMost time.Duration) int {
	var n uintptr
	var errno syscall.Errno
	first, room := uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events))
	switch {
	case atMost <= 0:
		n, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.set), first, room, 0, 0, 0)
	case p.coarse:
		ms := (atMost + time.Millisecond - 1) / time.Millisecond
		n, _, errno = thread.Block6(syscall.SYS_EPOLL_PWAIT, uintptr(p.set), first, room, uintptr(ms), 0, 0)
	default:
		ts := unix.NsecToTimespec(int64(atMost))
		n, _, errno = thread.Block6(unix.SYS_EPOLL_PWAIT2, uintptr(p.set), first, room, uintptr(unsafe.Pointer(&ts)), 0, 0)
		if errno == syscall.ENOSYS {
			p.coarse = true
			return p.poll(atMost)
		}
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (p *epoll) give(to int32, first int, fds []int32, until time.Time) error {
	return sendSockets(to, first, fds, until)
}

func (p *epoll) ring() {
	one := uint64(1)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.bell), uintptr(unsafe.Pointer(&one)), 8)
}

func (p *epoll) receive(fds []int32) (uint64, []int32, bool) {
	var l label
	before := len(fds)
	_, fds, _, errno := p.pair.in.receive(p.pair.out, l[:], fds)
	switch errno {
	case 0:
	case syscall.EAGAIN:
		return 0, fds, false
	default:
		panic("fanout: receive: " + errno.Error()) // there is nothing else to fail
	}
	first, count := l.read()
	for len(fds)-before < count {
		fds = append(fds, -1)
	}
	return first, fds, true
}

// release closes what is this thread's alone. The bell is that where the table is the process's.
func (p *epoll) release() {
	if p.set >= 0 {
		unix.Close(p.set)
	}
	if p.pair == nil {
		unix.Close(p.bell)
	}
}

// shut closes what the process's table holds of a shard with a table of its own, whose thread has
// ended. Any goroutine.
func (p *epoll) shut() {
	unix.Close(p.bell)
	unix.Close(int(p.pair.door))
	unix.Close(int(p.pair.out))
}
