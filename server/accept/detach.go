package accept

// Where the long way ends: netpoll and fasthttp let go of the socket, for a shard or for the
// accept thread, or netpoll closes it.
//
// The order: Detach is called inside onRequest, so that it takes effect when onRequest has
// returned, on the same goroutine, whatever netpoll's poller sees meanwhile. netpoll takes the
// descriptor out of its epoll set and runs the close callbacks, the newest first. Ours is the
// newest. After it nothing of netpoll's touches the descriptor, which was marked as detached;
// and fasthttp has returned from ServeConn before.

import (
	"net"
	"net/netip"

	"penstock/server/fanout"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// leaving is what closed does with a socket.
type leaving uint8

const (
	staying  leaving = iota // netpoll closes it
	toShard                 // it becomes a stream
	toLinger                // the accept thread has it again
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
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(noop)
}

func noop(net.Conn) {}

// Remote is the address of the client whose request it is. Handler.Serve calls it.
func Remote(ctx *fasthttp.RequestCtx) netip.AddrPort { return ctx.Conn().(*long).remote }

// detach ends the connection for netpoll, once onRequest returns. What came and was not read is
// forgotten.
func (l *long) detach(to leaving) {
	l.leaving = to
	l.np.Reader().Skip(l.np.Reader().Len())
	l.np.Reader().Release()
	l.np.(interface{ Detach() error }).Detach()
}

// linger ends our side of the connection and leaves the rest to the accept thread.
func (l *long) linger() {
	shut(l.fd, unix.SHUT_WR)
	l.detach(toLinger)
}

// closed is netpoll's close callback. It runs once, and no onRequest with or after it.
func (l *long) closed(netpoll.Connection) error {
	l.mu.Lock()
	was := l.phase
	l.phase = gone
	l.mu.Unlock()
	a := l.a
	half := len(l.held) > 0
	a.held.Add(-int64(len(l.held)))
	l.held = nil
	switch l.leaving {
	case toShard:
		if err := a.o.Shards.Join(int(l.fd), l.sub); err == nil {
			a.count.longStreams.Add(1)
			a.count.open.Add(-1)
			break
		}
		// The answer's moment has passed with the request's head. An end without
		// one is what makes an EventSource come back.
		a.count.unjoined.Add(1)
		fallthrough
	case toLinger:
		shut(l.fd, unix.SHUT_WR)
		if !a.mail.leave(func(m *mail) { m.linger = append(m.linger, l.fd) }) {
			a.close(l.fd)
		}
	case staying:
		if was == partial && half {
			a.count.badHeads.Add(1)
			send(l.fd, a.o.Handler.Error(nil, halfHead.status, halfHead.text))
		}
		a.count.open.Add(-1)
	}
	a.longs.remove(l)
	return nil
}
