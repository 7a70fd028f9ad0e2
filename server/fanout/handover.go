package fanout

// Handing over: descriptors in a message over a unix socket (SCM_RIGHTS), to another descriptor
// table of this process or to another process.
//
// Both calls are raw and never block, so that a shard's thread may make them as well as any other.
// The descriptors are numbers of the calling thread's own table, which is not always the process's.

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostFiles is how many descriptors a message takes: the kernel's SCM_MAX_FD.
const mostFiles = 253

// A parcel is the room for one message. Its zero value is ready, and is used again and again by
// one goroutine at a time; nothing of a message stays in it.
type parcel struct {
	header  unix.Msghdr
	vector  unix.Iovec
	control [(unix.SizeofCmsghdr + 4*mostFiles + 7) / 8]uint64 // aligned as a Cmsghdr has to be
}

// send sends data, at least a byte, and at most mostFiles descriptors in one message over the unix
// socket to. On a socket that keeps messages apart (SOCK_SEQPACKET, SOCK_DGRAM) that is all or nothing.
//
// The descriptors stay open here. Once there is no error the receiver's end holds them too, and
// they may be closed; until then the message may never have been. EAGAIN: the socket is full, wait
// until it takes something. ETOOMANYREFS: so many descriptors are in flight for this user (its limit
// of open files) that somebody has to receive some first.
//
//go:noinline
func (p *parcel) send(to int32, data []byte, fds []int32) syscall.Errno {
	p.set(data)
	if len(fds) > 0 {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&p.control))
		h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
		h.SetLen(unix.CmsgLen(4 * len(fds)))
		copy(p.files()[:len(fds)], fds)
		p.attach(unix.CmsgSpace(4 * len(fds)))
	}
	_, errno := p.call(unix.SYS_SENDMSG, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return errno
}

// receive takes one message from the unix socket from: its bytes into data, which must have room for
// all, and its descriptors, appended to fds, closed on exec. No bytes and no error is the other side's end.
//
// cut says that there were more descriptors than came: this thread's table had no room for them, and
// the kernel has closed them. Those that came are the message's first ones. EAGAIN: nothing is there.
//
//go:noinline
func (p *parcel) receive(from int32, data []byte, fds []int32) (n int, _ []int32, cut bool, _ syscall.Errno) {
	p.set(data)
	p.attach(len(p.control) * 8)
	n, errno := p.call(unix.SYS_RECVMSG, from, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return 0, fds, false, errno
	}
	if p.header.Controllen >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&p.control))
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_RIGHTS {
			fds = append(fds, p.files()[:(int(h.Len)-unix.CmsgLen(0))/4]...)
		}
	}
	return n, fds, p.header.Flags&unix.MSG_CTRUNC != 0, 0
}

// files is where a message's descriptors stand.
func (p *parcel) files() []int32 {
	return unsafe.Slice((*int32)(unsafe.Add(unsafe.Pointer(&p.control), unix.CmsgLen(0))), mostFiles)
}

// set begins a message without descriptors.
func (p *parcel) set(data []byte) {
	p.vector.Base = unsafe.SliceData(data)
	p.vector.SetLen(len(data))
	p.header = unix.Msghdr{Iov: &p.vector}
	p.header.SetIovlen(1)
}

// attach gives the message n bytes of control.
func (p *parcel) attach(n int) {
	p.header.Control = (*byte)(unsafe.Pointer(&p.control))
	p.header.SetControllen(n)
}

func (p *parcel) call(number uintptr, socket int32, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(number, uintptr(socket), uintptr(unsafe.Pointer(&p.header)), flags)
		if errno != syscall.EINTR {
			runtime.KeepAlive(p.vector.Base)
			p.vector.Base = nil
			return int(n), errno
		}
	}
}

// sendSockets sends descriptors over the unix socket to, which keeps messages apart, and waits where
// it is full. With each message goes the number of its first descriptor, counted from first on. The
// error is os.ErrDeadlineExceeded when that takes too long.
func sendSockets(to int32, first int, fds []int32, until time.Time) error {
	var p parcel
	var number [8]byte
	for len(fds) > 0 {
		n := min(len(fds), mostFiles)
		binary.LittleEndian.PutUint64(number[:], uint64(first))
		switch errno := p.send(to, number[:], fds[:n]); errno {
		case 0:
			first += n
			fds = fds[n:]
		case syscall.EAGAIN:
			if err := await(to, unix.POLLOUT, until); err != nil {
				return err
			}
		case syscall.ETOOMANYREFS, syscall.ENOBUFS, syscall.ENOMEM:
			if err := await(-1, 0, until); err != nil {
				return err
			}
		default:
			return fmt.Errorf("send sockets: %w", errno)
		}
	}
	return nil
}

// SendSockets sends sockets of this thread's table, which ReceiveSockets takes, and waits where that is
// slower. They stay open here. Any goroutine.
func SendSockets(to int, sockets []int32, until time.Time) error {
	return sendSockets(int32(to), 0, sockets, until)
}

// await waits until a socket is ready for something, a millisecond where there is none.
func await(fd int32, events int16, until time.Time) error {
	left := time.Until(until)
	if left <= 0 {
		return fmt.Errorf("send or receive sockets: %w", os.ErrDeadlineExceeded)
	}
	if fd < 0 {
		left = time.Millisecond
	}
	// Negative descriptors are passed over. In steps, so that the end of the time is never missed.
	_, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: events}}, int(min(left, 100*time.Millisecond).Milliseconds())+1)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("send or receive sockets: %w", err)
	}
	return nil
}

// ReceiveSockets receives n sockets that SendSockets, or Give of another process's Shards, sends over the
// unix socket from, in the order in which they were given to it. The descriptors are of this thread's
// table. With an error none is left open. Any goroutine.
func ReceiveSockets(from, n int, until time.Time) (_ []int32, err error) {
	sockets := make([]int32, n)
	for i := range sockets {
		sockets[i] = -1
	}
	defer func() {
		if err != nil {
			for _, fd := range sockets {
				if fd >= 0 {
					unix.Close(int(fd))
				}
			}
		}
	}()
	var p parcel
	var number [8]byte
	var fds []int32
	for got := 0; got < n; {
		size, some, cut, errno := p.receive(int32(from), number[:], fds[:0])
		fds = some
		first := binary.LittleEndian.Uint64(number[:])
		misplaced := errno == 0 && (size != len(number) || first > uint64(n) || int(first)+len(fds) > n)
		for i, fd := range fds {
			if misplaced || sockets[int(first)+i] >= 0 {
				misplaced = true
				unix.Close(int(fd))
				continue
			}
			sockets[int(first)+i] = fd
		}
		got += len(fds)
		switch {
		case errno == syscall.EAGAIN:
			if err := await(int32(from), unix.POLLIN, until); err != nil {
				return nil, err
			}
		case errno != 0:
			return nil, fmt.Errorf("receive sockets: %w", errno)
		case size == 0:
			return nil, fmt.Errorf("receive sockets: %d of %d have come: %w", got, n, io.ErrUnexpectedEOF)
		case cut:
			return nil, fmt.Errorf("receive sockets: no room for %d descriptors in one table: %w", n, syscall.EMFILE)
		case misplaced:
			return nil, fmt.Errorf("receive sockets: a message that can't be, of %d bytes", size)
		}
	}
	return sockets, nil
}
