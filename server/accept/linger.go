package accept

// Lingering: a socket that is closed while something waits in it to be read, or comes after, is
// reset, and a reset makes the peer forget what it has not read yet: the answer. So the answer is
// followed by a shutdown of our side, and what the client still sends is dropped until it closes
// or its time is up (RFC 9112 9.6). The accept thread.

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dropMost is how many bytes of one client are dropped before others have
	// their turn.
	dropMost = 1 << 20

	// lingerAll is how often LingerTimeout the whole may take, for one that
	// sends on and on.
	lingerAll = 6

	// lingerClosing bounds LingerTimeout once the Acceptor closes.
	lingerClosing = time.Second
)

// finish ends our side of an answered connection and lingers.
func (a *Acceptor) finish(fd, at int32) {
	shut(fd, unix.SHUT_WR)
	if over := dropSome(fd); over {
		a.leave(fd, at)
		return
	}
	timeout := int64(a.lingerTimeout())
	var errno syscall.Errno
	if at == nowhere {
		at, _ = a.places.take(fd)
		errno = a.set.add(fd, readable, at)
	} else {
		a.unlist(at)
		errno = a.set.change(fd, readable, at)
	}
	p := &a.places.all[at]
	p.is, p.deadline, p.end = lingering, a.now+timeout, a.now+lingerAll*timeout
	a.places.push(&a.places.lingering, at)
	a.count.lingering.Add(1)
	if errno != 0 {
		a.count.errors.Add(1)
		a.leave(fd, at)
	}
}

// lingerOn drops what came.
func (a *Acceptor) lingerOn(p *place, at int32) {
	if dropSome(p.fd) || a.now >= p.end {
		a.leave(p.fd, at)
		return
	}
	a.places.pull(&a.places.lingering, at)
	p.deadline = a.now + int64(a.lingerTimeout())
	a.places.push(&a.places.lingering, at)
}

// dropSome reads and drops what waits. It tells whether the connection is over: the client has
// closed its side, or is gone.
func dropSome(fd int32) (over bool) {
	for left := dropMost; left > 0; {
		n, errno := drop(fd, left)
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno == syscall.EINTR:
		case errno != 0 || n == 0:
			return true
		}
		left -= max(n, 1)
	}
	return false
}

func (a *Acceptor) lingerTimeout() time.Duration {
	if a.closeAt != 0 {
		return min(a.o.LingerTimeout, lingerClosing)
	}
	return a.o.LingerTimeout
}
