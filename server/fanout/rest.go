package fanout

// Rests: what is left of a chunk that a socket did not take whole.
//
// It goes out before anything else. An uncompressed one is mostly a place in the
// ring, where it can be made again; else the bytes are copied, once for all who
// were stalled by the same. Everything here runs on the shard's thread, but for
// lagMemory, to which all shards add.

import (
	"sync/atomic"
	"syscall"

	"penstock/ring"
)

// A rest is what is left of a chunk: as a place in the ring where its bytes can
// be made again, else as the bytes themselves. The zero value is no rest.
type rest struct {
	own        []byte        // the bytes, a part of held's; nil where they can be made again
	held       *held         // whose they are
	first, end ring.Position // the chunk is the audience's entries in [first, end) ...
	after      uint64        // ... with a greater id than this
	size, sent int           // of the chunk as it was sent, framing included
}

func (r *rest) due() bool { return r.size > 0 || len(r.own) > 0 }

// A held is the copy of a chunk for those who were stalled by it. It counts
// against the lag memory as long as one of them needs it, once.
type held struct {
	bytes []byte
	users int
}

// sendRest sends what is left of m's chunk. n is what went out; ok is false
// when m is blocked again or gone.
func (sh *shard) sendRest(m *subscriber) (n int, ok bool) {
	l := m.lag
	bytes := l.rest.own
	if bytes == nil {
		if bytes = sh.remake(m); bytes == nil {
			// The tail has passed the chunk before anybody copied it out. Half a
			// frame is out, without its id: the client resumes before it.
			sh.leave(m, LagMemory)
			return 0, false
		}
	}
	n, errno := sh.sys.send(m.fd, bytes)
	add(&sh.stats.sends, 1)
	add(&sh.stats.bytesOut, uint64(n))
	switch {
	case n == len(bytes):
		sh.dropRest(l)
		m.sent = sh.tick
		return n, true
	case errno != syscall.EAGAIN:
		sh.leave(m, SendFailed)
		return n, false
	}
	if l.rest.own != nil {
		l.rest.own = l.rest.own[n:]
	} else {
		l.rest.sent += n
	}
	sh.block(m)
	return n, false
}

// remake makes the rest of m's chunk again, in scratch bytes; nil when the ring
// no longer has it.
func (sh *shard) remake(m *subscriber) []byte {
	r := &m.lag.rest
	found, _, lost := sh.gather(m.audience, r.after, r.first, r.end, 1<<62)
	sh.shared.audience = nil
	buf, _ := sh.begin(m.audience, nil)
	for i := range found {
		buf = append(buf, sh.frame(found[i].Entry, m.audience.form)...)
	}
	bytes := seal(buf, 0, m.audience.is(http10))
	sh.scratch = buf
	if lost || len(bytes) != r.size {
		return nil
	}
	return bytes[r.sent:]
}

// hold keeps bytes as l's rest.
func (sh *shard) hold(l *lag, bytes []byte) {
	var own *held
	sh.share(l, bytes, 0, &own)
}

// share keeps what is left of bytes, of which n were sent, as l's rest. The copy
// is for all who are stalled by the same bytes: it is made for the first one.
func (sh *shard) share(l *lag, bytes []byte, n int, copied **held) {
	h := *copied
	if h == nil {
		h = &held{bytes: append([]byte(nil), bytes...)}
		*copied = h
	}
	if h.users == 0 {
		sh.holds(len(h.bytes))
	}
	h.users++
	l.rest = rest{own: h.bytes[n:], held: h}
}

func (sh *shard) dropRest(l *lag) {
	if h := l.rest.held; h != nil {
		if h.users--; h.users == 0 {
			sh.holds(-len(h.bytes))
		}
	}
	l.rest = rest{}
}

// holds counts bytes that are held for laggards from now on, or no more.
func (sh *shard) holds(n int) {
	sh.stats.lagBytes.Add(int64(n))
	sh.memory.held.Add(int64(n))
}

// A lagMemory is what all shards may hold for laggards, and what they do: one shard may have all of
// it. Each copy of up to a batch's size is counted once, by one atomic addition, so that no shard
// needs to take some in advance, which the others would lack. Any goroutine.
type lagMemory struct {
	limit, held atomic.Int64
	shards      int64
}

func newLagMemory(limit int64, shards int) *lagMemory {
	m := &lagMemory{shards: int64(shards)}
	m.limit.Store(limit)
	return m
}

// over tells a shard that holds so many bytes whether it has to let go of some: all together hold too
// much, and it more than an equal part of what is allowed. Of one that this is true always, and it
// finds out in its next pass, at the latest by its next tick.
func (m *lagMemory) over(own int64) bool {
	limit := m.limit.Load()
	return m.held.Load() > limit && own*m.shards > limit
}
