package accept

// One request on the long way: judged by its head while its body is still to come, given a place,
// served by fasthttp, refused where there is no room. The goroutine in the connection.

import (
	"bytes"
	"errors"
	"net"
	"runtime/debug"
	"sync"

	"penstock/encode"

	"github.com/valyala/fasthttp"
)

// request serves the request whose head is at hand.
func (l *long) request() {
	a, h := l.a, &l.head
	if l.bodyMost = int64(a.o.MaxBodySize); l.bodyComes() {
		if answer := l.admit(); answer != nil {
			a.count.unadmitted.Add(1)
			l.last(answer)
			return
		}
		if l.slow = a.slow.enter(l.from.Remote.Addr(), a.slowMost()); !l.slow {
			l.busy(FullShare)
			return
		}
		defer l.came()
	}
	l.room = a.o.Handler.Room(h.path())
	l.bodyEnd = a.clock() + bodyAll*int64(a.o.BodyTimeout)
	if !a.enter(l.room) {
		l.busy(FullRequests)
		return
	}
	defer a.exit(l.room)
	server := a.small
	switch {
	case h.size > mediumMost:
		server = a.large
	case h.size > smallMost:
		server = a.medium
	}
	l.bodyLeft, l.bodyCame, l.chunks = max(h.length, 0), 0, encode.Dechunker{}
	l.keep, l.mute, l.sub = false, false, nil
	switch {
	case h.length > l.bodyMost:
		a.count.badBody.Add(1)
		l.no = bodyTooLarge(l.bodyMost)
		l.answer = l.refusal(l.atHand())
		l.refuse()
		return
	case h.length > freeBody && !l.reserve(h.length):
		l.busy(FullBodies)
		return
	}
	defer l.release()
	if l.asked = nil; h.origin && (h.chunked || h.length > 0) {
		l.asked = bytes.Clone(l.ahead(headMost)[:h.size])
	}
	h.method, h.target, h.host = nil, nil, nil
	server.ServeConn(l)
	l.requests++
	if l.no != nil {
		l.refuse()
		return
	}
	a.count.requests.Add(1)
	switch {
	case l.sub != nil:
		l.leave(toShard)
	case !l.keep || !l.readAll():
		l.leave(toLinger)
	default:
		l.began = a.clock()
	}
}

// bodyComes tells whether the request has a body of which a part is still to come.
func (l *long) bodyComes() bool {
	h := &l.head
	if !h.chunked {
		return h.length > int64(l.here()-h.size)
	}
	if l.here() > peekMost {
		return true // a long one; looking for its end would cost more than asking does
	}
	var chunks encode.Dechunker
	for rest := l.ahead(peekMost)[h.size:]; len(rest) > 0 && !chunks.Done(); {
		_, next, err := chunks.Next(rest)
		if err != nil {
			return false // it will be told so
		}
		rest = next
	}
	return !chunks.Done()
}

// admit asks the Handler about a request whose body is still to come.
func (l *long) admit() (answer []byte) {
	j := judges.Get().(*short)
	defer judges.Put(j)
	if l.head.size > smallMost {
		j = new(short)
		j.reader = bufioReader(headMost)
	}
	if j.parse(l.ahead(headMost)[:l.head.size]) != nil {
		return nil // fasthttp will say what is wrong
	}
	defer func() {
		// One request's bug must not end everybody's streams.
		if r := recover(); r != nil {
			l.a.caught(r, j.header.RequestURI())
			answer = l.a.o.Handler.Error(nil, &j.header, mistake.status, mistake.text)
		}
	}()
	length := l.head.length
	if l.head.chunked {
		length = -1
	}
	answer, most := l.a.o.Handler.Admit(nil, &j.header, length, l.from)
	l.bodyMost = min(l.bodyMost, most)
	return answer
}

// judges are used to parse heads ahead of fasthttp.
var judges = sync.Pool{New: func() any {
	s := new(short)
	s.reader = bufioReader(2 * smallMost)
	return s
}}

// slowMost is an address's share of requests whose bodies are still to come.
func (a *Acceptor) slowMost() int { return max(1, a.limits().MaxRequests/slowShare) }

// came gives the part of the address's share back: the body is there, or will not be.
func (l *long) came() {
	if l.slow {
		l.slow = false
		l.a.slow.exit(l.from.Remote.Addr())
	}
}

// enter takes a place in a room; false when it is full.
func (a *Acceptor) enter(r Room) bool {
	most := healthRoom
	if r != Health {
		most = a.limits().MaxRequests
	}
	if a.count.inHand[r].Add(1) > int64(most) {
		a.count.inHand[r].Add(-1)
		return false
	}
	return true
}

func (a *Acceptor) exit(r Room) { a.count.inHand[r].Add(-1) }

// reserve counts n bytes of body; false when there is no room for them.
func (l *long) reserve(n int64) bool {
	if l.a.bodies.Add(n) > l.a.limits().BodyMemory {
		l.a.bodies.Add(-n)
		return false
	}
	l.reserved += n
	return true
}

func (l *long) release() {
	l.a.bodies.Add(-l.reserved)
	l.reserved, l.asked = 0, nil
}

// refuse answers with what no says, and ends the connection.
func (l *long) refuse() {
	if l.no.full() {
		l.a.count.busy.Add(1)
	}
	if l.answer == nil {
		var h *fasthttp.RequestHeader // fasthttp has forgotten it
		if l.asked != nil {
			h = parsed(l.asked)
		}
		l.answer = l.refusal(h)
	}
	l.last(l.answer)
}

// refusal is the answer that no calls for, to a request with this head; nil where there is none.
func (l *long) refusal(h *fasthttp.RequestHeader) []byte {
	switch {
	case l.no == noHeads:
		return l.a.o.Handler.Busy(nil, h, l.from, FullHeads)
	case l.no.full():
		return l.a.o.Handler.Busy(nil, h, l.from, FullBodies)
	}
	return l.a.o.Handler.Error(nil, h, l.no.status, l.no.text)
}

// busy answers a request that there is no room for, and ends the connection.
func (l *long) busy(why Full) {
	l.a.count.busy.Add(1)
	l.last(l.a.o.Handler.Busy(nil, l.atHand(), l.from, why))
}

// atHand parses the head that is at hand and was not read yet; nil where it can't be.
func (l *long) atHand() *fasthttp.RequestHeader { return parsed(l.ahead(headMost)[:l.head.size]) }

func parsed(head []byte) *fasthttp.RequestHeader {
	var s short
	s.reader = bufioReader(headMost)
	if s.parse(head) != nil {
		return nil
	}
	return &s.header
}

// last sends the last answer of a connection and lingers.
func (l *long) last(answer []byte) {
	l.mute = false
	l.Write(answer)
	l.leave(toLinger)
}

// serve is fasthttp's handler.
func (a *Acceptor) serve(ctx *fasthttp.RequestCtx) {
	l := ctx.Conn().(*long)
	l.handling.Store(true)
	defer func() {
		l.handling.Store(false)
		// One request's bug must not end everybody's streams.
		if r := recover(); r != nil {
			a.caught(r, ctx.Request.Header.RequestURI())
			l.mute, l.sub, l.no = true, nil, mistake
			l.answer = l.refusal(&ctx.Request.Header)
		}
		// fasthttp would keep a large body's memory for the next request.
		ctx.Request.ReleaseBody(freeBody)
	}()
	a.o.Handler.Serve(ctx)
	if l.head.closes || a.draining.Load() {
		// fasthttp knows "close" in lower case and alone only.
		ctx.SetConnectionClose()
	}
}

var mistake = &refusal{500, "the server has made a mistake; its log tells which"}

// caught tells the log of a panic in the Handler.
func (a *Acceptor) caught(r any, target []byte) {
	a.o.Log.Error("panic while a request was answered", "panic", r, "target", string(target), "stack", string(debug.Stack()))
}

// received is called by fasthttp between a head and its body.
func (a *Acceptor) received(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if expect := h.Peek(fasthttp.HeaderExpect); len(expect) > 0 {
		// The strict look let 100-continue alone pass, in any case (RFC 9110
		// 10.1.1); fasthttp knows it in lower case, and in HTTP/1.0 as well.
		h.Del(fasthttp.HeaderExpect)
		if h.IsHTTP11() {
			h.Set(fasthttp.HeaderExpect, "100-continue")
		}
	}
	return c
}

// state is told by fasthttp where it is with a connection.
func state(c net.Conn, s fasthttp.ConnState) {
	if s == fasthttp.StateIdle {
		c.(*long).keep = true
	}
}

// failed is called by fasthttp in place of the handler when a request can't be read. What it
// would answer is thrown away, and the Handler's error sent in its place.
func failed(ctx *fasthttp.RequestCtx, err error) {
	l := ctx.Conn().(*long)
	l.mute = true
	switch {
	case l.no != nil:
		// Reading has failed, and knows why.
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		l.no = bodyTooLarge(l.bodyMost)
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		l.no = longTrailer // the head was measured before
	default:
		l.no = bad("the request can't be taken: %v", err)
	}
	ctx.Request.ReleaseBody(freeBody)
	if l.no != lateBody && !l.no.full() {
		l.a.count.badBody.Add(1)
	}
}
