package accept

// From the kernel's queue to a connection: taking what waits there, leaving it there where there
// are no descriptors or it comes too fast, and turning away what is too much. The accept thread.

import (
	"math"
	"net"
	"syscall"
)

// acceptSome takes connections until there are none, or others have waited long enough.
func (a *Acceptor) acceptSome(listener uint8) {
	if int(listener) >= len(a.doors) || a.frozen {
		return // closed or frozen since, in this round
	}
	rate := a.limits().AcceptRate
	for range acceptMost {
		if wait := a.meter.wait(a.now, rate); wait > 0 {
			a.count.slowed.Add(1)
			a.pauseUntil(a.now + wait)
			return
		}
		fd, errno := a.take(listener)
		switch errno {
		case 0:
			a.meter.took(a.now, rate)
			a.count.accepted.Add(1)
			a.count.open.Add(1)
			a.came++
			a.accepted(fd, From{a.peer.addr(), listener})
		case syscall.EAGAIN:
			return
		case syscall.EINTR, syscall.ECONNABORTED, syscall.EPERM:
			// One that was there and is no more, or may not be (a firewall).
		case syscall.EPROTO, syscall.ENOPROTOOPT, syscall.ENETDOWN, syscall.ENETUNREACH,
			syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENONET, syscall.EOPNOTSUPP:
			// Linux passes a connection's own trouble on (accept(2)).
			a.count.errors.Add(1)
		default:
			a.count.errors.Add(1)
			a.pauseFor(errno, a.addrs[listener])
			return
		}
	}
	a.more = true
}

// gather rests after a round of events that has emptied the kernel's queue of a crowd: those who come
// meanwhile are taken by one round, and their shard is woken once for all of them. Woken for each few,
// this thread, the shard's and the runtime's monitor would spend as much on being woken as on what they
// do for a stream. Whatever else there is to do wakes the thread all the same, and who comes alone waits
// for nothing.
func (a *Acceptor) gather() {
	if a.came < gatherFrom || a.more || a.resumeAt != 0 {
		return
	}
	now := a.clock()
	a.pauseUntil(now + min(gatherTimes*(now-a.now), int64(gatherMost)))
}

// take takes one connection from a listening socket's queue.
func (a *Acceptor) take(listener uint8) (int32, syscall.Errno) {
	if a.o.refuse != nil {
		if errno := a.o.refuse(); errno != 0 {
			return -1, errno
		}
	}
	return a.peer.accept(a.doors[listener].fd)
}

// pauseFor leaves the listening sockets alone: they would wake the thread again and again, and
// there is nothing to do about it but wait.
func (a *Acceptor) pauseFor(errno syscall.Errno, at net.Addr) {
	if a.told == 0 || a.now-a.told > int64(quiet) {
		a.told = max(a.now, 1)
		why := "no memory for connections"
		if errno == syscall.EMFILE || errno == syscall.ENFILE {
			why = "out of descriptors"
		}
		a.o.Log.Warn("connections have to wait: "+why, "address", at.String(), "error", errno, "open", a.count.open.Load())
	}
	a.pauseUntil(a.now + int64(pause))
}

// pauseUntil has whoever comes wait in the kernel's queue.
func (a *Acceptor) pauseUntil(at int64) {
	if a.resumeAt == 0 {
		for i := range a.doors {
			a.set.remove(int32(a.doors[i].fd))
		}
	}
	a.resumeAt = at
}

// resume takes the listening sockets back.
func (a *Acceptor) resume() {
	a.resumeAt = 0
	if a.frozen {
		return
	}
	if errno := a.watchDoors(); errno != 0 {
		a.resumeAt = a.now + int64(pause)
	}
}

// accepted begins with a new connection.
func (a *Acceptor) accepted(fd int32, from From) {
	a.o.Addresses.enter(fd, from.Remote.Addr(), a.limits().MaxPerAddress)
	if most := a.limits().MaxConnections; a.excess() > heard(most) {
		a.turnAway(fd, from, FullConnections)
		return
	}
	if a.o.Addresses.crowds(fd) {
		a.turnAway(fd, from, FullAddress)
		return
	}
	a.look(fd, from, nowhere, false)
}

// heard is how many over a limit of connections are let in all the same, to hear what they ask and
// to answer them in their way.
func heard(most int) int { return min(most/16+16, overMost) }

// full tells whether the connection is one too many, and of what.
func (a *Acceptor) full(fd int32) (why Full, full bool) {
	if a.excess() > 0 {
		return FullConnections, true
	}
	return FullAddress, a.o.Addresses.over(fd)
}

// excess is how many connections there are too many: over MaxConnections, streams included, or over
// MaxHere. At most 0: there is room.
func (a *Acceptor) excess() int {
	open := int(a.count.open.Load())
	over := math.MinInt
	if most := a.limits().MaxConnections; most > 0 {
		over = open - most
		if a.o.Shards != nil {
			over += a.o.Shards.Streams()
		}
	}
	if most := a.o.MaxHere; most > 0 {
		if a.o.Shards != nil {
			open += a.o.Shards.Enlisted()
		}
		over = max(over, open-most)
	}
	return over
}
