package accept

// Moving to another process: the listening sockets, so that the port never closes and whoever
// waits in the kernel's queue is served there, and the connections between two requests.
//
// What is exported: one goroutine, and not the accept thread; the rest runs on that.

import (
	"bytes"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"penstock/server/handover"
)

// Moved is what an Acceptor hands to another process: sockets, by descriptors of this process.
type Moved struct {
	Doors       []MovedDoor
	Connections []MovedConnection
}

// A MovedDoor is a listening socket.
type MovedDoor struct {
	Address string // as in Options.Listen
	FD      int32  // it does not travel
}

// A MovedConnection is one on which no request is in hand: what its client has sent is still in the
// socket, but for part of a first head.
type MovedConnection struct {
	FD   int32 // it does not travel
	From From
	Idle bool   // it has been answered before
	Half []byte // what has come of its first head
}

// Code writes or reads all but the descriptors.
func (m *Moved) Code(c *handover.Coder) {
	c.Word("connections")
	handover.List(c, &m.Doors, func(d *MovedDoor) { c.String(&d.Address) })
	handover.List(c, &m.Connections, func(n *MovedConnection) {
		remote := n.From.Remote.String()
		c.String(&remote)
		n.From.Remote, _ = netip.ParseAddrPort(remote) // of a unix socket there is none
		handover.Num(c, &n.From.Listener)
		c.Bool(&n.Idle)
		c.Bytes(&n.Half)
		if len(n.Half) >= shortMost {
			c.Fail(fmt.Errorf("%d bytes of a head that is not whole; less than %d", len(n.Half), shortMost))
		}
	})
}

// moving is the part of an Acceptor that has to do with it. The accept thread.
type moving struct {
	frozen  bool
	back    []kept            // came back from the long way since
	adopted []MovedConnection // to be begun with by the thaw
}

// ask has the accept thread do something, and waits until it has; at once if the thread has ended.
func (a *Acceptor) ask(do func()) {
	done := make(chan struct{})
	if !a.mail.leave(func(m *mail) { m.asked = append(m.asked, func() { do(); close(done) }) }) {
		return
	}
	select {
	case <-done:
	case <-a.stopped:
	}
}

// Freeze stops taking connections and beginning with requests, until Thaw or LetGo: who comes waits
// in the kernel. Requests in hand are finished.
func (a *Acceptor) Freeze() {
	a.ask(func() {
		a.frozen = true
		for i := range a.doors {
			a.set.remove(int32(a.doors[i].fd))
		}
		a.eachResting(func(p *place, _ int32) { a.set.remove(p.fd) })
	})
}

// Moved tells what a frozen Acceptor has to hand over.
func (a *Acceptor) Moved() (m Moved) {
	a.ask(func() {
		for i := range a.doors {
			m.Doors = append(m.Doors, MovedDoor{a.o.Listen[i], int32(a.doors[i].fd)})
		}
		a.eachResting(func(p *place, at int32) {
			m.Connections = append(m.Connections, MovedConnection{p.fd, p.from(), p.is == idle, bytes.Clone(a.halves.of(at))})
		})
		for _, k := range a.back {
			m.Connections = append(m.Connections, MovedConnection{k.fd, k.from, true, nil})
		}
	})
	return m
}

// eachResting calls do for each socket that waits for a request.
func (a *Acceptor) eachResting(do func(p *place, at int32)) {
	for _, l := range []*list{&a.places.heads, &a.places.idle} {
		for at := l.oldest; at != nowhere; {
			p := &a.places.all[at]
			next := p.newer
			do(p, at)
			at = next
		}
	}
}

// Adopt makes connections of another process this one's, once it is thawed. The Acceptor must have
// been made Frozen. Their listeners are this one's.
func (a *Acceptor) Adopt(all []MovedConnection) {
	a.ask(func() {
		a.adopted = append(a.adopted, all...)
		a.count.open.Add(int64(len(all)))
		for _, c := range all {
			a.o.Addresses.enter(c.FD, c.From.Remote.Addr(), a.limits().MaxPerAddress)
		}
	})
}

// Thaw goes on with what there is, and begins with what was adopted.
func (a *Acceptor) Thaw() {
	a.ask(func() {
		a.frozen = false
		a.now = a.clock()
		a.resume()
		a.eachResting(func(p *place, at int32) {
			// What has come meanwhile is told now.
			if errno := a.set.add(p.fd, readable|unix.EPOLLET, at); errno != 0 {
				a.count.errors.Add(1)
				a.leave(p.fd, at)
			}
		})
		back, adopted := a.back, a.adopted
		a.back, a.adopted = nil, nil
		for _, k := range back {
			a.keep(k.fd, k.from, nowhere)
		}
		for _, c := range adopted {
			if c.Idle {
				a.keep(c.FD, c.From, nowhere)
			} else {
				a.lookOn(c.FD, c.From, nowhere, copy(a.buf[:], c.Half), false)
			}
		}
	})
}

// LetGo closes what was handed over: another process has it, so that nobody notices. Requests in
// hand are finished, and no more are taken: Close is next.
func (a *Acceptor) LetGo() {
	a.draining.Store(true)
	a.ask(func() {
		a.frozen = false
		for i := range a.doors {
			a.doors[i].file = nil // it is the other's now
		}
		a.closeDoors()
		a.eachResting(func(p *place, at int32) { a.leave(p.fd, at) })
		for _, k := range a.back {
			a.close(k.fd)
		}
		for _, c := range a.adopted {
			a.close(c.FD)
		}
		a.back, a.adopted = nil, nil
	})
}
