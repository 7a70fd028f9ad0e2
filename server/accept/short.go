package accept

// The short way: a complete head of a plain GET or HEAD, judged where it was found. A stream's
// socket goes to a shard; anything else is answered and the connection closed. The accept thread.

import (
	"bufio"
	"bytes"
	"syscall"

	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// takeMost is how many bytes are taken out of a socket before a stream: what waits there behind the
// head belongs to the stream and is dropped.
const takeMost = 64 << 10

// short is what the short way uses again and again.
type short struct {
	header fasthttp.RequestHeader
	bytes  bytes.Reader
	reader *bufio.Reader
	answer []byte // empty, with room
}

func (s *short) init() {
	s.reader = bufio.NewReaderSize(&s.bytes, 2*shortMost)
	s.answer = make([]byte, 0, 4096)
}

// parse reads a head that the strict look let pass.
func (s *short) parse(head []byte) error { return s.parseInto(&s.header, head) }

func (s *short) parseInto(h *fasthttp.RequestHeader, head []byte) error {
	s.bytes.Reset(head)
	s.reader.Reset(&s.bytes)
	return h.Read(s.reader)
}

// goShort judges the head that the strict look has let pass; n bytes have come with it, which lie in
// buf. full says that there is no room for it, why where. Heads that turn out to need the long way go
// there.
func (a *Acceptor) goShort(fd int32, from From, at int32, n int, full bool, why Full) {
	s := &a.short
	if err := s.parse(a.buf[:a.head.size]); err != nil {
		a.count.badHeads.Add(1)
		a.refuse(fd, at, bad("the request's head can't be taken: %v", err))
		return
	}
	if full {
		a.count.refused.Add(1)
		a.answer(fd, at, a.o.Handler.Busy(s.answer[:0], &s.header, from, why))
		return
	}
	sub, answer, long := a.judge(from)
	switch {
	case long:
		a.goLongWith(fd, from, at, n)
	case sub == nil:
		a.count.short.Add(1)
		a.answer(fd, at, answer)
	default:
		a.count.short.Add(1)
		if n == len(a.buf) {
			drop(fd, takeMost)
		}
		a.depart(fd, at)
		ticket := a.o.Addresses.lift(fd)
		sub.Ticket = ticket
		if err := a.o.Shards.Enlist(int(fd), sub); err != nil {
			a.o.Addresses.restore(fd, ticket)
			a.count.unjoined.Add(1)
			a.answer(fd, nowhere, a.o.Handler.Busy(s.answer[:0], &s.header, from, FullShards))
			return
		}
		a.enlisted = true
		a.count.shortStreams.Add(1)
		a.count.open.Add(-1)
	}
}

// judge asks the Handler.
func (a *Acceptor) judge(from From) (sub *fanout.Subscription, answer []byte, long bool) {
	s := &a.short
	defer func() {
		// One request's bug must not end everybody's streams.
		if r := recover(); r != nil {
			a.caught(r, s.header.RequestURI())
			sub, answer, long = nil, a.o.Handler.Error(s.answer[:0], &s.header, mistake.status, mistake.text), false
		}
	}()
	return a.o.Handler.Short(s.answer[:0], &s.header, from)
}

// answer sends the last bytes of a connection that the accept thread has, and lingers.
func (a *Acceptor) answer(fd, at int32, answer []byte) {
	if n, errno := send(fd, answer); errno != 0 || n < len(answer) {
		// The peer is gone, or takes less than a page at the very beginning.
		if errno != syscall.EAGAIN {
			a.count.resets.Add(1)
		}
		a.leave(fd, at)
		return
	}
	a.finish(fd, at)
}

// turnAway answers a connection that is far over a limit of connections, by what has come with it, and
// closes it: even those who wait to hear that there is no room are too many. Health is heard all
// the same, or a storm of connections would look like a server that is ill.
func (a *Acceptor) turnAway(fd int32, from From, why Full) {
	var h *fasthttp.RequestHeader
	if n, errno := peek(fd, a.buf[:]); errno == 0 && n > 0 {
		var s scan
		size, no := s.end(a.buf[:n])
		if no == nil && size > 0 && a.head.parse(a.buf[:n], &s, size) == nil {
			if a.o.Handler.Room(a.head.path()) == Health && a.excess() <= 2*overMost {
				a.look(fd, from, nowhere, false)
				return
			}
			if a.short.parse(a.buf[:size]) == nil {
				h = &a.short.header
			}
		}
	}
	a.count.refused.Add(1)
	send(fd, a.o.Handler.Busy(a.short.answer[:0], h, from, why))
	shut(fd, unix.SHUT_WR)
	drop(fd, takeMost)
	a.close(fd)
}
