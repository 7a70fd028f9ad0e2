package fanout

// The ways out of a stream. Everything here runs on the shard's thread, and
// nobody else ever closes a subscriber's socket.

import (
	"time"

	"penstock/encode"
)

var lastChunk = []byte(encode.LastChunk)

// leave closes m's socket and forgets m.
func (sh *shard) leave(m *subscriber, why Disconnect) {
	if m.state == gone {
		return
	}
	sh.sys.unwatch(m.fd)
	switch {
	case m.state == ending:
		sh.sys.discard(m.fd) // or close would be a reset, and eat what the client has not read
		sh.sys.close(m.fd)
	case why == ClientGone || why == JoinFailed:
		sh.part(m)
		add(&sh.stats.disconnects[why], 1)
		sh.sys.close(m.fd)
	default:
		// Its socket takes nothing more, or the kernel has failed it, and what it took may end
		// within a frame: over HTTP/1.0 a close would call that the end. What the kernel still
		// holds for it, megabytes, goes with the reset.
		sh.part(m)
		add(&sh.stats.disconnects[why], 1)
		sh.sys.reset(m.fd)
	}
	m.state = gone
	// The slot may still be named by an event that this pass has in hand.
	sh.slots[m.slot] = nil
	sh.leftSlots = append(sh.leftSlots, m.slot)
	sh.stats.streams.Add(-1)
	if m.ticket != 0 {
		sh.gone(m.ticket)
	}
}

// part takes m out of its audience and the laggards.
func (sh *shard) part(m *subscriber) {
	if m.lag != nil {
		sh.dropLag(m)
	}
	sh.remove(m)
	m.audience = nil
}

const (
	// How long a client has to hang up after the last byte of its stream.
	lingerTime = 2 * time.Second
	// How long, when a drain is otherwise over: a service manager counts its own
	// ten seconds meanwhile.
	lastLinger = 500 * time.Millisecond
)

// end ends m's stream in good order: when to come back, the last chunk, the end
// of sending, then the wait for the client's own end. So no reset eats what is
// still on its way. m must stand at a frame's border.
func (sh *shard) end(m *subscriber, why Disconnect) {
	// A stream that was never opened has no chunks either.
	if m.lag == nil || m.lag.opening == nil {
		if last := sh.lastBytes(m, why); len(last) > 0 {
			if n, _ := sh.sys.send(m.fd, last); n < len(last) {
				sh.leave(m, why)
				return
			}
		}
	}
	sh.sys.finish(m.fd)
	sh.part(m)
	add(&sh.stats.disconnects[why], 1)
	m.state = ending
	until := sh.clock.Add(lingerTime)
	if d := &sh.draining; !d.from.IsZero() {
		over := d.from.Add(d.spread + lingerTime + lastLinger)
		if least := sh.clock.Add(lastLinger); over.Before(least) {
			over = least
		}
		if until.After(over) {
			until = over
		}
	}
	sh.lingering = append(sh.lingering, lingerer{m, until})
}

// lastBytes are what a stream ends with: the time after which its client should
// come back, if it should, each its own; the end of its gzip stream; the last chunk.
func (sh *shard) lastBytes(m *subscriber, why Disconnect) []byte {
	a, last := m.audience, lastChunk
	if a.is(http10) {
		last = nil
	}
	sh.plain = sh.plain[:0]
	if why != TopicsEnded {
		sh.plain = encode.AppendStart(sh.plain, sh.retry(), 0, false)
	}
	p := a.packed
	if p == nil && len(sh.plain) == 0 {
		return last
	}
	if p != nil {
		p.out(m)
	}
	buf, _ := sh.begin(a, nil)
	sh.shared.audience = nil
	if p == nil {
		buf = append(buf, sh.plain...)
	} else {
		place := &p.places[m.at]
		if len(sh.plain) > 0 {
			buf = encode.AppendDeflate(buf, sh.plain, nil, encode.Stored)
			place.Add(sh.plain)
		}
		buf = place.AppendEnd(buf)
	}
	sh.scratch = buf
	return append(seal(buf, 0, a.is(http10)), last...)
}

// isOver tells whether all of a's topics have ended, as far as the shard has read.
// A pattern never ends.
func (sh *shard) isOver(a *audience) bool {
	if a.wild != nil {
		return false
	}
	for _, t := range a.topics {
		if id, ok := t.Ended(); !ok || id > sh.readID {
			return false
		}
	}
	return true
}

// endOver ends the streams all of whose topics have ended in this pass. Those that
// lag are ended when they have been told (settle).
func (sh *shard) endOver() {
	for i, a := range sh.ended {
		sh.ended[i] = nil
		if len(a.members) == 0 || !sh.isOver(a) {
			continue
		}
		a.set(over, true)
		for j := len(a.members) - 1; j >= 0; j-- { // from the end: see remove
			if m := a.members[j]; m.state == live && sh.position(a) == sh.read {
				sh.end(m, TopicsEnded)
			}
		}
	}
	sh.ended = sh.ended[:0]
}

// A lingerer waits for the other end's end, or for its time.
type lingerer struct {
	subscriber *subscriber
	until      time.Time
}

// linger closes those whose time is up: the oldest come first.
func (sh *shard) linger() {
	n := 0
	for n < len(sh.lingering) && (sh.lingering[n].subscriber.state == gone || !sh.clock.Before(sh.lingering[n].until)) {
		sh.leave(sh.lingering[n].subscriber, Draining)
		n++
	}
	rest := copy(sh.lingering, sh.lingering[n:])
	clear(sh.lingering[rest:])
	sh.lingering = sh.lingering[:rest]
}

// A drain ends all streams of the shard, spread over some time.
type drain struct {
	from   time.Time
	spread time.Duration
	next   int // the slot that is ended next
	of     int // how many slots there were
	told   bool
}

// drainSome ends the streams whose turn has come.
func (sh *shard) drainSome() {
	d := &sh.draining
	var due int
	if since := sh.clock.Sub(d.from); since < d.spread {
		due = int(int64(d.of) * int64(since) / int64(d.spread))
	} else {
		due = len(sh.slots)
	}
	for ; d.next < due; d.next++ {
		switch m := sh.slots[d.next]; {
		case m == nil || m.state == ending:
		case m.lag != nil:
			m.lag.ending, m.lag.why = true, Draining // once it has what is due to it
		default:
			sh.end(m, Draining)
		}
	}
	if sh.clock.Sub(d.from) > d.spread+lingerTime {
		// Their time is over: those that are within a frame cannot be ended in order.
		for _, m := range sh.slots {
			switch {
			case m == nil || m.state == ending:
			case m.lag != nil && m.lag.rest.due():
				sh.leave(m, Draining)
			default:
				sh.end(m, Draining)
			}
		}
	}
}

// checkDrained tells who waits for it that the last stream has ended.
func (sh *shard) checkDrained() {
	if sh.stats.streams.Load() == 0 && !sh.draining.told && sh.inbox.empty() {
		sh.draining.told = true
		close(sh.drained)
	}
}
