package fanout

// Compressed audiences: blocks are made once for all who receive the same.
//
//	lagging: bytes of its own, in slices ──settle──> live: in the shared stream
//	                                     <───out───
//
// A member is live exactly while it is in its audience's shared stream
// (encode.Shared). Everything here runs on the shard's thread.

import (
	"slices"
	"syscall"

	"penstock/encode"
	"penstock/ring"
)

const (
	// Without a window fewer bytes than these hardly shrink, or grow: they are
	// stored.
	worthPacking = 256
	// What catching up compresses in a pass, in plain bytes, some 5 ms of work.
	// What comes after that is stored: a storm of resumes is not to be slowed
	// down, nor to slow down anybody.
	packBudget = 512 << 10
	// Compression steps down under overload where it takes more than a part of the
	// shard's time: one in so many.
	packWorth = 8
)

// packed is what a compressed audience has beside the others.
type packed struct {
	shared encode.Shared
	places []encode.Place // of the members, each where it is among the members

	// A heartbeat is a batch of the shared stream that the members are sent at
	// their own times.
	beat   *beat       // the one that not everybody has been sent; nil for none
	before encode.Mark // where it begins
	owing  int         // how many members are owed it
}

// out takes m, which becomes no live member any more, out of the shared stream:
// it has been sent all of that, but for a heartbeat that it is owed. The result
// is that heartbeat.
func (p *packed) out(m *subscriber) (owed *beat) {
	place := &p.places[m.at]
	if !place.In() {
		return nil
	}
	if m.owed {
		owed = p.beat
		place.Leave(p.before)
		p.pay(m)
	} else {
		place.Leave(p.shared.Mark())
	}
	return owed
}

// in lets m in, which has caught up.
func (p *packed) in(m *subscriber) { p.places[m.at].Enter(p.shared.Mark()) }

// pay notes that m is owed no heartbeat any more.
func (p *packed) pay(m *subscriber) {
	m.owed = false
	if p.owing--; p.owing == 0 {
		p.beat = nil
	}
}

// move follows the members' order when m leaves: the last one takes its place.
func (p *packed) move(m *subscriber, last int) {
	if m.owed {
		p.pay(m)
	}
	p.places[m.at] = p.places[last]
	p.places = p.places[:last]
}

// size keeps a window where there are members enough, and lets go of it when
// half of them have left.
func (p *packed) size(members, share int) {
	if members >= share {
		p.shared.KeepWindow(true)
	} else if members <= share/2 {
		p.shared.KeepWindow(false)
	}
}

// ease notes how much of the ring waits to be read. Beyond a part of what
// publishers may be ahead, compression costs less with each pass, until it costs
// nothing, and comes back when little waits.
//
// But only where it is worth something: a pass that sends to thousands takes long,
// much waits after it, and next to nothing of its time went into compressing what it
// sent. Without that it would take longer, for there would be more to send.
func (sh *shard) ease(unread ring.Position) {
	allowed := ring.Position(max(32<<10, sh.pace/10))
	if unread > allowed/2 && sh.costly {
		sh.eased = min(sh.eased+1, encode.Best)
	} else if unread < allowed/8 && sh.eased > 0 {
		sh.eased--
	}
}

// level is how well so many plain bytes, to be sent so often, are compressed.
func (sh *shard) level(sends, size int, window bool) encode.Level {
	if !window && size < worthPacking {
		return encode.Stored
	}
	level := min(encode.LevelFor(sends, size), sh.packLevel)
	return level - min(level, sh.eased)
}

// flushPacked is flush for a compressed audience.
//
// Its blocks differ by what the members have of the window, and by whether they
// are owed a heartbeat, which comes first. As a rule all members get the same.
func (sh *shard) flushPacked(a *audience) {
	b, p := a.batch, a.packed
	a.batch = nil
	plain := b.bytes[encode.ChunkHead:]
	p.size(len(a.members), sh.packShare)
	p.shared.Level = sh.level(len(a.members), len(plain), p.shared.KeepsWindow())
	at := p.shared.Mark()
	var made [2 * encode.Reaches][]byte
	var copied [2 * encode.Reaches]*held
	sends, sent, taken, packed := uint64(0), uint64(0), uint64(0), uint64(0)
	before := a.servedBefore()
	a.lastID, a.flushed = b.lastID, sh.tick
	for i := len(a.members) - 1; i >= 0; i-- { // from the end: see remove
		m := a.members[i]
		if m.state != live {
			continue
		}
		kind := at.Reach(&p.places[i])
		if m.owed {
			kind += encode.Reaches
		}
		if made[kind] == nil {
			made[kind] = sh.pack(a, plain, kind)
		}
		bytes := made[kind]
		n, errno := sh.sys.send(m.fd, bytes)
		sends++
		sent += uint64(n)
		if n > 0 {
			taken++ // the rest, if there is one, follows
			packed += uint64(len(bytes))
		}
		switch {
		case n == len(bytes):
			if m.owed {
				add(&sh.stats.heartbeats, 1)
				p.pay(m)
			}
		case errno == syscall.EAGAIN:
			owed := p.out(m)
			if n > 0 {
				place := &p.places[i]
				if owed != nil {
					place.Add(owed.plain)
				}
				place.Add(plain)
			}
			sh.stall(m, b, before, bytes, n, &copied[kind])
		default:
			sh.leave(m, SendFailed)
		}
	}
	p.shared.Advance(plain)
	add(&sh.stats.sends, sends)
	add(&sh.stats.bytesOut, sent)
	add(&sh.stats.packedFrom, taken*uint64(len(plain)))
	add(&sh.stats.packedTo, packed)
	add(&sh.stats.deliveries, taken*uint64(b.events))
	add(&sh.stats.batches, 1)
	sh.stats.batchBytes.observe(float64(len(plain)))
	sh.stats.publishToSend.observe(float64(sh.sys.now().UnixMicro()-b.oldest) / 1e6)
	sh.done(b)
}

// pack makes the bytes of a batch for the members of a kind: of a reach, and
// those who are owed a heartbeat behind the others. They are valid until the next batch.
func (sh *shard) pack(a *audience, plain []byte, kind encode.Reach) []byte {
	var room [encode.ChunkHead]byte
	buf := append(sh.packs[kind][:0], room[:]...)
	reach := kind
	if kind >= encode.Reaches {
		reach -= encode.Reaches
		buf = append(buf, a.packed.beat.bytes[1][0]...)
	}
	begun := sh.sys.now()
	buf = a.packed.shared.AppendDeflate(buf, plain, reach)
	sh.packTime += sh.sys.now().Sub(begun)
	buf = slices.Grow(buf, len(encode.ChunkTail))
	sh.packs[kind] = buf
	return seal(buf, 0, a.is(http10))
}

// packSlice makes what is laid out in buf behind begin a part of a gzip stream,
// its first one with opening. It returns the plain bytes too; both are valid as
// long as the slice.
func (sh *shard) packSlice(buf []byte, begin int, opening bool) (packed, plain []byte) {
	plain = append(sh.plain[:0], buf[begin:]...)
	sh.plain = plain
	buf = buf[:begin]
	if opening {
		buf = encode.AppendGzipHeader(buf)
	}
	level := encode.Stored
	if sh.packing < packBudget {
		level = sh.level(1, len(plain), false)
	}
	if level > encode.Stored {
		sh.packing += len(plain)
	}
	begun := sh.sys.now()
	buf = encode.AppendDeflate(buf, plain, nil, level)
	sh.packTime += sh.sys.now().Sub(begun)
	return buf, plain
}

// beatPacked sends m, which has been idle for so many ticks, a heartbeat.
//
// It is the same for all members, and in the same place of what they receive: the
// first one whose time has come begins it, the others get it at their own times, or
// before the next batch. So one that has come since then waits another round,
// rather than that all get theirs at once to make room for the next.
//
// An empty block would move nothing on and could be sent to anybody; but clients
// that count on a comment, to tell a quiet stream from a dead one, never see it.
func (sh *shard) beatPacked(m *subscriber, idle uint32) {
	a := m.audience
	p := a.packed
	if !m.owed {
		if p.beat != nil && idle < sh.ticksRound {
			return
		}
		sh.settleBeat(a)
		sh.beginBeat(a)
	}
	sh.sendBeat(m, p.beat)
}

// beginBeat puts a heartbeat into a's shared stream: all live members are owed it.
// It says an id where that is news to one of them.
func (sh *shard) beginBeat(a *audience) {
	p, id := a.packed, sh.servedID(a)
	moved := false
	for _, m := range a.members {
		if m.state == live {
			m.owed = true
			p.owing++
			moved = moved || id > max(m.told, a.lastID)
		}
	}
	p.beat, p.before = sh.heartbeatOf(a, id, moved), p.shared.Mark()
	p.shared.Advance(p.beat.plain)
}

// settleBeat sends the heartbeat that is under way to all who are owed it. One
// whose socket takes nothing lags: it goes without.
func (sh *shard) settleBeat(a *audience) {
	for i := len(a.members) - 1; i >= 0 && a.packed.owing > 0; i-- { // from the end: see remove
		m := a.members[i]
		if !m.owed {
			continue
		}
		errno := sh.sendBeat(m, a.packed.beat)
		switch {
		case !m.owed:
		case errno == syscall.EAGAIN:
			m.told = max(m.told, a.lastID)
			l := sh.newLag(m)
			l.cursor, l.reason = sh.position(a), GapLag
			sh.block(m)
		default:
			sh.leave(m, SendFailed)
		}
	}
}
