package accept

// The long way: fasthttp parses and answers requests, netpoll waits for them.
//
// fasthttp's ServeConn is called for one request at a time, when its head is whole, with that
// request's bytes and no others (wire.go): it has nothing to wait for, and nothing to
// misunderstand, between two requests. A connection begins with what the accept thread has taken
// out of its socket, on a goroutine of its own (hands.go); many have no second request, and most of
// these never meet netpoll. netpoll gets a connection once there is something to wait for: the rest of a head
// or of a body, or the next request (attach). From then on a goroutine of netpoll's pool comes
// with bytes (onRequest) and goes when the whole requests among them are answered. What is left
// then, part of a head, is held in memory of our own: netpoll would call for ever while its
// buffer has bytes.
//
// request.go is one request; detach.go is how a connection leaves. The accept thread keeps the time
// (sweep.go) and says when one is over.

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"penstock/encode"
	"penstock/server/fanout"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
)

const (
	// smallMost is the largest head that goes to the fasthttp server with small
	// buffers, mediumMost to the next one. The last one's are as large as the largest head.
	smallMost  = 4 << 10
	mediumMost = 16 << 10

	// peekMost is how much of netpoll's buffer is looked at for a head before
	// the bytes are held.
	peekMost = 8 << 10

	// heldMost bounds what all half heads together hold.
	heldMost = 64 << 20

	// freeBody is the largest body that BodyMemory does not count.
	freeBody = 64 << 10

	// bodyAll is how often BodyTimeout a body may take, for one that comes in
	// crumbs.
	bodyAll = 10

	// floodMost is how many bytes beyond a body may wait in netpoll's buffer,
	// which has no bound, while a request is in hand.
	floodMost = 1 << 20
)

// longWay is the part of an Acceptor that requests' goroutines use.
type longWay struct {
	small, medium, large *fasthttp.Server

	longs  longs
	bodies atomic.Int64 // bytes of bodies in hand
	held   atomic.Int64 // bytes of half heads
	slow   shares       // of requests whose bodies are still to come
	hands  hands
}

func (w *longWay) init(a *Acceptor) {
	server := func(buffer int) *fasthttp.Server {
		return &fasthttp.Server{
			Handler:                      a.serve,
			ErrorHandler:                 failed,
			HeaderReceived:               a.received,
			ConnState:                    state,
			Name:                         a.o.Server,
			NoDefaultServerHeader:        true,
			Concurrency:                  1 << 30, // rooms bound it
			ReadBufferSize:               buffer,
			MaxRequestBodySize:           a.o.MaxBodySize,
			DisablePreParseMultipartForm: true, // it would write files
			SecureErrorLogMessage:        true,
			Logger:                       silent{},
		}
	}
	w.small, w.medium, w.large = server(smallMost), server(mediumMost), server(headMost)
	w.hands.next = make(chan *long)
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// A long is a connection on the long way: what netpoll calls, and what fasthttp takes for its
// connection.
//
// phase is guarded by mu, so that the accept thread can end a connection that no goroutine is in.
// What stands below it belongs to the goroutine in it, of which there is at most one: the first
// request's until it sets onRequest, then netpoll's.
type long struct {
	a    *Acceptor
	fd   int32 // open until away has run
	from From

	older, newer *long // in Acceptor.longs

	np       netpoll.Connection // written before attached, once
	attached atomic.Bool        // netpoll has the descriptor

	mu       sync.Mutex
	phase    phase
	deadline atomic.Int64 // what the phase may last until, on the acceptor's clock; 0: no limit
	expired  atomic.Bool  // the deadline of a body or an answer is over
	handling atomic.Bool  // in the Handler: nobody reads what comes
	writing  atomic.Bool  // waiting for a client that does not read; nobody reads what comes either

	scan     scan
	held     []byte // bytes that were read and not yet used: part of a head, and what came with its end
	store    *store // where these lie while a goroutine is in it; nil: elsewhere
	began    int64  // when the first byte of the head in question came, or the connection
	requests int    // answered so far

	head     head  // the request in hand; its slices are gone once fasthttp reads
	headLeft int   // bytes of the head that fasthttp has not read
	bodyLeft int64 // bytes of a body with a Content-Length that fasthttp has not read
	bodyCame int64 // bytes of a chunked body that it has
	bodyMost int64 // bytes that the body may have
	bodyEnd  int64 // when it is late, however much still comes
	chunks   encode.Dechunker
	reserved int64 // of BodyMemory
	room     Room
	back     bool // goes back to the quick way when it is answered
	emptied  bool // nothing was left in the socket when held was taken out of it, and nobody has read on since
	slow     bool // holds a part of its address's share: the body is still to come

	no      *refusal // why the connection is answered and closed
	answer  []byte   // what no answers, where that was made while there was a head
	asked   []byte   // a copy of the head whose body is read, where a page asks: it may read why not
	keep    bool     // fasthttp is done and waits for the next request
	mute    bool     // what fasthttp writes is thrown away
	sub     *fanout.Subscription
	leaving leaving
}

// A phase is what a connection on the long way is at.
type phase uint8

const (
	between phase = iota // no goroutine, nothing of a request
	partial              // no goroutine, part of a head is held
	serving              // a goroutine is in it
	ended                // answered for good by the accept thread, or about to be closed
	gone                 // away has run: fd may be somebody else's
)

// goLongWith sends a connection the long way, with the first n bytes of buf, which have been taken out
// of its socket: the beginning of its first request. The accept thread.
func (a *Acceptor) goLongWith(fd int32, from From, at int32, n int) { a.goLong(fd, from, at, n, 0) }

// goLongAgain is goLongWith for a connection that was answered before.
func (a *Acceptor) goLongAgain(fd int32, from From, at int32, n int) { a.goLong(fd, from, at, n, 1) }

func (a *Acceptor) goLong(fd int32, from From, at int32, n int, requests int) {
	l := spareLongs.Get().(*long)
	*l = long{a: a, fd: fd, from: from, began: a.now, requests: requests, phase: serving, back: a.quick.waits}
	// The connection takes buf along, which so is not copied.
	l.store, l.held, l.emptied = a.buf, a.buf[:n], n < len(a.buf)
	a.buf = stores.Get().(*store)
	a.held.Add(int64(n))
	a.sendLong(l, at)
	a.lend(l)
}

// spareLongs are connections that have left the long way, and that netpoll never had: nobody knows
// them any more. They are made new when they are taken, on the accept thread, which may still look at
// one that has just left.
var spareLongs = sync.Pool{New: func() any { return new(long) }}

// sendLong counts a connection in on the long way, and has the accept thread keep its time.
func (a *Acceptor) sendLong(l *long, at int32) {
	a.depart(l.fd, at)
	a.count.long.Add(1)
	a.longs.add(l)
	if a.sweepAt == 0 {
		a.sweepAt = a.now + int64(a.sweepEvery())
	}
}

// openPollers has netpoll open its pollers now. It would with its first connection, and where no
// descriptor is left then, that ends the process.
func openPollers() (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("open netpoll's pollers: no descriptors or memory left")
		}
	}()
	netpoll.Initialize()
	return nil
}

// attach gives the connection to netpoll; false when that is not possible, and the socket closed.
func (l *long) attach() bool {
	np, err := netpoll.NewFDConnection(int(l.fd))
	if err != nil {
		// No memory for an epoll item. It has closed the descriptor.
		l.mu.Lock()
		l.phase = gone
		l.mu.Unlock()
		l.a.count.errors.Add(1)
		l.leaving = closedBefore
		return false
	}
	np.AddCloseCallback(l.closed)
	l.np, l.emptied = np, false
	l.attached.Store(true)
	return true
}

// hear has netpoll call onRequest from now on, perhaps before hear returns.
func (l *long) hear() {
	np := l.np
	np.SetOnRequest(l.onRequest)
	if !np.IsActive() {
		// A hang-up that netpoll has seen before leaves the closing to us.
		np.Close()
	}
}

// taken serves what the accept thread has taken out of the socket, without netpoll.
func (l *long) taken() {
	l.answerAll()
	l.waitForMore()
}

// waitForMore gives the connection to netpoll, which has nothing of it yet, unless it ends or goes
// back to the quick way.
func (l *long) waitForMore() {
	if l.back && l.leaving == staying && !l.attached.Load() && len(l.held) == 0 {
		l.leave(toIdle)
	}
	if l.leaving == staying && (l.attached.Load() || l.attach()) {
		l.rest()
		l.hear()
	} else {
		l.depart()
	}
}

// onRequest is called by netpoll when bytes have come, by one goroutine at a time.
func (l *long) onRequest(context.Context, netpoll.Connection) error {
	if l.begin() {
		l.answerAll()
	} else {
		l.leave(toLinger)
	}
	if l.leaving == staying {
		l.rest()
	} else {
		l.depart()
	}
	return nil
}

// answerAll serves the requests that have come whole, and ends the connection where that is due.
func (l *long) answerAll() {
	for l.nextHead() {
		l.request()
		if l.leaving != staying {
			return
		}
	}
	switch {
	case l.no != nil:
		if !l.no.full() {
			l.a.count.badHeads.Add(1)
		}
		l.refuse()
	case l.a.draining.Load() && len(l.held) == 0:
		l.leave(toLinger)
	}
}

// begin takes the connection from the accept thread's hands; false when it is over.
func (l *long) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == ended {
		return false
	}
	l.phase = serving
	l.deadline.Store(0)
	return true
}

// rest gives the connection back to netpoll, and its time to the accept thread.
func (l *long) rest() {
	l.moveHeld()
	now := l.a.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.held) > 0:
		l.phase = partial
		l.deadline.Store(l.began + int64(l.a.o.HandshakeTimeout))
	case l.requests == 0:
		l.phase = between
		l.deadline.Store(l.began + int64(l.a.o.HandshakeTimeout))
	default:
		l.phase = between
		l.deadline.Store(now + int64(l.a.o.IdleTimeout))
	}
}

// nextHead tells whether a whole head that can be taken is at hand. Where one can't, it sets no.
// All that netpoll has has been taken from it when there is none.
func (l *long) nextHead() bool {
	for l.no == nil {
		p := l.ahead(peekMost)
		if len(p) == 0 {
			return false
		}
		size, no := l.scan.end(p)
		if no == nil && size > 0 {
			no = l.head.parse(p, &l.scan, size)
		}
		switch {
		case no != nil:
			l.no = no
		case size > 0:
			l.scan = scan{}
			l.headLeft = size
			return true
		case blank(p):
			l.scan = scan{}
			l.skip(len(p))
		case !l.hold():
			return false
		}
	}
	return false
}
