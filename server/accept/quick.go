package accept

// The quick way: a small whole request that needs not wait, a publish above all, answered where
// it was found. The connection stays on the accept thread, which looks for its next request
// itself: no goroutine, no netpoll object and no hop between threads. The accept thread.
//
// What is not quick after all (larger, in pieces, pipelined, waiting for shards) goes the long
// way, with the bytes that were taken out of its socket, and stays there. So does what comes when
// this thread has answered quickMost requests in one round of events: with many publishers at
// once their requests spread over netpoll's pollers and all cores, and the thread stays free to
// accept.

import (
	"syscall"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// quickMost is how many requests are answered in one round of events.
const quickMost = 32

// quick is what the quick way uses again and again.
type quick struct {
	ctx  fasthttp.RequestCtx
	conn quickConn
	left int // requests that may still be answered in this round

	// The request in question would have been quick, but has to wait: its connection comes back
	// once the long way has answered.
	waits bool
}

// A kept is a connection that comes back from the long way.
type kept struct {
	fd   int32
	from From
}

// A quickConn stands for the connection in fasthttp's context.
type quickConn struct {
	*long // only for its addresses: it has no socket
}

func (q *quick) init(a *Acceptor) {
	q.conn.long = &long{a: a, fd: -1}
	q.ctx.Init2(&q.conn, silent{}, false)
}

// quickly answers b, whose head the strict look has let pass, if it is one whole request that the
// Handler answers at once.
func (a *Acceptor) quickly(from From, b []byte) (answer []byte, ok bool) {
	h, q := &a.head, &a.quick
	if q.left == 0 || h.length < 0 || h.size+int(h.length) != len(b) || len(b) > shortMost || h.http10 || h.expects || h.closes || a.draining.Load() {
		return nil, false
	}
	ctx := &q.ctx
	ctx.Request.Reset()
	ctx.Response.Reset()
	if a.short.parseInto(&ctx.Request.Header, b[:h.size]) != nil {
		return nil, false // the long way will say what is wrong
	}
	ctx.Request.SetBodyRaw(b[h.size:])
	q.conn.from = from
	if is := a.askQuick(ctx); is != Answered {
		q.waits = is == MustWait
		return nil, false
	}
	q.left--
	resp := &ctx.Response
	if a.o.Server != "" {
		resp.Header.SetServer(a.o.Server)
	}
	body := resp.Body()
	resp.Header.SetContentLength(len(body))
	return append(append(a.short.answer[:0], resp.Header.Header()...), body...), true
}

// askQuick asks the Handler.
func (a *Acceptor) askQuick(ctx *fasthttp.RequestCtx) (is Quickness) {
	defer func() {
		// One request's bug must not end everybody's streams. The long way answers it.
		if r := recover(); r != nil {
			a.caught(r, ctx.Request.Header.RequestURI())
			is = NotQuick
		}
	}()
	return a.o.Handler.Quick(ctx)
}

// answerQuick sends an answer and keeps the connection for its next request.
func (a *Acceptor) answerQuick(fd int32, from From, at int32, answer []byte) {
	a.count.quick.Add(1)
	a.count.requests.Add(1)
	if n, errno := send(fd, answer); errno != 0 || n < len(answer) {
		// The peer is gone, or has asked and asked and not read: an answer is some hundred bytes.
		if errno != syscall.EAGAIN {
			a.count.resets.Add(1)
		}
		a.leave(fd, at)
		return
	}
	a.keep(fd, from, at)
}

// keep keeps a connection for its next request.
func (a *Acceptor) keep(fd int32, from From, at int32) {
	var errno syscall.Errno
	if at == nowhere {
		at, _ = a.places.take(fd)
		errno = a.set.add(fd, readable|unix.EPOLLET, at)
	} else {
		a.unlist(at)
	}
	p := &a.places.all[at]
	p.remote, p.listener = from.Remote, from.Listener
	p.is, p.deadline = idle, a.now+int64(a.o.IdleTimeout)
	a.places.push(&a.places.idle, at)
	if errno != 0 {
		a.count.errors.Add(1)
		a.leave(fd, at)
	}
}

// again reads what has come on a connection that has been answered. ended says that the client
// will send nothing more.
func (a *Acceptor) again(fd int32, from From, at int32, ended bool) {
	n, errno := receive(fd, a.buf[:])
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case errno != 0 || n == 0:
		a.leave(fd, at)
		return
	}
	b := a.buf[:n]
	a.quick.waits = false
	if !ended && n < len(a.buf) {
		var s scan
		if size, no := s.end(b); no == nil && size > 0 && a.head.parse(b, &s, size) == nil {
			if answer, ok := a.quickly(from, b); ok {
				a.answerQuick(fd, from, at, answer)
				return
			}
		}
	}
	a.goLongAgain(fd, from, at, n)
}

// endIdleHere closes the connections between two requests that the accept thread has.
func (a *Acceptor) endIdleHere() {
	for at := a.places.idle.oldest; at != nowhere; at = a.places.idle.oldest {
		a.leave(a.places.all[at].fd, at)
	}
}
