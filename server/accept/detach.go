package accept

// Where the long way ends: netpoll and fasthttp let go of the socket, for a shard or for the
// accept thread, or it is closed.
//
// The order: fasthttp has returned from ServeConn before. Detach is called where no close
// callback can run meanwhile: inside onRequest, whose goroutine runs them when it has returned,
// whatever netpoll's poller sees; or while onRequest is not set yet, when Detach itself runs them
// and nobody else does. netpoll takes the descriptor out of its epoll set and runs the close
// callbacks, the newest first. Ours is the newest. After it nothing of netpoll's touches the
// descriptor, which is marked as detached.

import (
	"penstock/server/fanout"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// leaving is where a socket goes.
type leaving uint8

const (
	staying      leaving = iota // it does not; or netpoll closes it
	toShard                     // it becomes a stream
	toLinger                    // the accept thread has it again, answered for good
	toIdle                      // the accept thread has it again, for its next request
	toClose                     // it is closed
	closedBefore                // it was
)

// Stream makes a stream of the request's connection: once Handler.Serve has returned, the socket
// leaves HTTP and goes to a shard with sub, which must not be changed any more. Nothing that the
// handler has written to ctx is sent. Handler.Serve calls it, at most once for a request.
func Stream(ctx *fasthttp.RequestCtx, sub *fanout.Subscription) {
	l := ctx.Conn().(*long)
	if l.a.o.Shards == nil {
		panic("accept: Stream: this address has no shards")
	}
	l.sub = sub
	l.mute = true
	// Not Hijack, which would cost a goroutine: what fasthttp answers is not sent, and it returns.
	ctx.SetConnectionClose()
}

// IsStream tells whether Stream was called for the request. Handler.Serve calls it.
func IsStream(ctx *fasthttp.RequestCtx) bool {
	l, ok := ctx.Conn().(*long)
	return ok && l.sub != nil
}

// Source is where the request's connection has come from; the zero From where that is none of an
// Acceptor's. Handler.Serve calls it.
func Source(ctx *fasthttp.RequestCtx) (from From) {
	switch c := ctx.Conn().(type) {
	case *long:
		from = c.from
	case *quickConn:
		from = c.from
	}
	return from
}

// leave says where the connection goes once the goroutine in it is done. Nothing more is written.
func (l *long) leave(to leaving) {
	if l.leaving == staying {
		l.leaving = to
	}
}

// depart ends the connection on the long way. What came and was not read is forgotten.
func (l *long) depart() {
	if !l.attached.Load() {
		l.away()
		return
	}
	l.np.Reader().Skip(l.np.Reader().Len())
	l.np.Reader().Release()
	l.np.(interface{ Detach() error }).Detach()
}

// closed is netpoll's close callback. It runs once, and no onRequest with or after it.
func (l *long) closed(netpoll.Connection) error {
	l.away()
	return nil
}

// away hands the socket over to whom it leaves for. netpoll has nothing of it any more, or is
// about to close it.
func (l *long) away() {
	l.mu.Lock()
	was := l.phase
	l.phase = gone
	l.mu.Unlock()
	a := l.a
	half := len(l.held) > 0
	a.held.Add(-int64(len(l.held)))
	l.forgetHeld()
	switch l.leaving {
	case toShard:
		if !l.emptied {
			drop(l.fd, takeMost)
		}
		ticket := a.o.Addresses.lift(l.fd)
		l.sub.Ticket = ticket
		if err := a.o.Shards.Join(int(l.fd), l.sub); err == nil {
			a.count.longStreams.Add(1)
			a.count.open.Add(-1)
			break
		}
		a.o.Addresses.restore(l.fd, ticket)
		// The answer's moment has passed with the request's head. An end without
		// one is what makes an EventSource come back.
		a.count.unjoined.Add(1)
		fallthrough
	case toLinger:
		shut(l.fd, unix.SHUT_WR)
		if !a.mail.leave(func(m *mail) { m.linger = append(m.linger, l.fd) }) {
			a.gone(l.fd)
		}
	case toIdle:
		if !a.mail.leave(func(m *mail) { m.idle = append(m.idle, kept{l.fd, l.from}) }) {
			a.gone(l.fd)
		}
	case toClose:
		a.gone(l.fd)
	case closedBefore:
		a.o.Addresses.leave(l.fd)
		a.count.open.Add(-1)
	case staying:
		// netpoll closes it next.
		if was == partial && half {
			a.count.badHeads.Add(1)
			send(l.fd, a.o.Handler.Error(nil, nil, halfHead.status, halfHead.text))
		}
		a.o.Addresses.leave(l.fd)
		a.count.open.Add(-1)
	}
	a.longs.remove(l)
}
