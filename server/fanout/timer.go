package fanout

// Time in a shard: heartbeats, spread over the heartbeat time.
//
// There is no timer a stream. The heartbeat time is cut into ticks, and a
// stream's slot says which tick is its own: at each tick every so many-th slot
// is looked at. One that has been sent nothing for half the heartbeat time gets
// a heartbeat. So a quiet stream gets one in each heartbeat time, an event is
// followed by silence for at most one and a half, and a flush to ten thousand
// is never followed by a burst of ten thousand heartbeats.
//
// Everything here runs on the shard's thread.

import (
	"syscall"
	"time"

	"penstock/encode"
)

// tickTime is how finely the heartbeat time is cut; at least four ticks make it.
const tickTime = 100 * time.Millisecond

// ticksOf cuts a heartbeat time.
func ticksOf(heartbeat time.Duration) uint32 {
	return uint32(max(4, heartbeat/tickTime))
}

// ticks runs the ticks whose time has come.
func (sh *shard) ticks() {
	length := sh.tickLength()
	for late := 0; !sh.clock.Before(sh.nextTick); late++ {
		if late > int(sh.ticksRound) {
			sh.nextTick = sh.clock // the machine slept: no need to make up for it
		}
		sh.nextTick = sh.nextTick.Add(length)
		sh.tick++
		for i := int(sh.tick % sh.ticksRound); i < len(sh.slots); i += int(sh.ticksRound) {
			switch m := sh.slots[i]; {
			case m == nil || m.state > live:
			case sh.tooOld(i):
				sh.retire(m)
			case m.state == live:
				sh.beat(m)
			}
		}
		sh.linger()
		sh.endStalled()
		sh.sweep()
	}
}

// beat sends m a heartbeat if it has been idle.
//
// It says the id up to which the shard has read (and nothing waits for the
// audience's pace), where that is newer than what m was told: a live member has been sent everything before it, so that a quiet
// subscription resumes from there cheaply and without a false gap.
func (sh *shard) beat(m *subscriber) {
	a := m.audience
	idle := min(sh.tick-a.flushed, sh.tick-m.sent)
	if idle < sh.ticksRound/2 {
		return
	}
	if a.packed != nil {
		sh.beatPacked(m, idle)
		return
	}
	id := sh.servedID(a)
	sh.sendBeat(m, sh.heartbeatOf(a, id, id > max(m.told, a.lastID)))
}

// sendBeat sends m a heartbeat. One whose socket takes nothing of it stays as
// it was: if it is full it needs none, if it is dead epoll will tell.
func (sh *shard) sendBeat(m *subscriber, b *beat) syscall.Errno {
	a := m.audience
	bytes := b.bytes[index(a.packed != nil)][index(!a.is(http10))]
	n, errno := sh.sys.send(m.fd, bytes)
	add(&sh.stats.sends, 1)
	add(&sh.stats.bytesOut, uint64(n))
	if n == 0 {
		return errno
	}
	add(&sh.stats.heartbeats, 1)
	m.sent = sh.tick
	m.told = max(m.told, b.id)
	if n < len(bytes) {
		m.told = max(m.told, a.lastID)
		if a.packed != nil {
			a.packed.out(m)
			a.packed.places[m.at].Add(b.plain)
		}
		l := sh.newLag(m)
		l.cursor, l.reason = sh.position(a), GapLag
		sh.hold(l, bytes[n:])
		sh.block(m)
	} else if m.owed {
		a.packed.pay(m)
	}
	return errno
}

// A beat is a heartbeat's bytes, made once for all who get the same. It never
// changes.
type beat struct {
	id    uint64 // that it says; 0 for none
	plain []byte
	bytes [2][2][]byte // plain and compressed, each by HTTP version: 1.0, 1.1
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// heartbeatOf is a heartbeat for a's members.
//
// In a compressed stream it is stored: so all get the same bytes, and it takes no
// CPU.
func (sh *shard) heartbeatOf(a *audience, id uint64, moved bool) *beat {
	kind := &sh.beats[index(a.is(beatEvents))][index(moved)]
	if *kind != nil && (!moved || (*kind).id == id) {
		return *kind
	}
	b := new(beat)
	switch {
	case a.is(beatEvents):
		b.plain = encode.AppendHeartbeatEvent(nil, id, moved)
	case moved:
		b.plain = encode.AppendHeartbeatID(nil, id)
	default:
		b.plain = encode.AppendHeartbeat(nil)
	}
	if moved {
		b.id = id
	}
	for i, bytes := range [][]byte{b.plain, encode.AppendDeflate(nil, b.plain, nil, encode.Stored)} {
		b.bytes[i] = [2][]byte{bytes, encode.AppendChunk(nil, bytes)}
	}
	*kind = b
	return b
}
