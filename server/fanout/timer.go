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
	length := sh.heartbeat / time.Duration(sh.ticksRound)
	for late := 0; !sh.clock.Before(sh.nextTick); late++ {
		if late > int(sh.ticksRound) {
			sh.nextTick = sh.clock // the machine slept: no need to make up for it
		}
		sh.nextTick = sh.nextTick.Add(length)
		sh.tick++
		for i := int(sh.tick % sh.ticksRound); i < len(sh.slots); i += int(sh.ticksRound) {
			if m := sh.slots[i]; m != nil && m.state == live {
				sh.beat(m)
			}
		}
		sh.linger()
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
	id := sh.servedID(a)
	moved := id > max(m.told, a.lastID)
	bytes := sh.heartbeatBytes(a, id, moved)
	n, _ := sh.sys.send(m.fd, bytes)
	add(&sh.stats.sends, 1)
	add(&sh.stats.bytesOut, uint64(n))
	if n == 0 {
		return // full, or dead: the first needs no heartbeat, of the second epoll will tell
	}
	add(&sh.stats.heartbeats, 1)
	m.sent = sh.tick
	if moved {
		m.told = id
	}
	if n < len(bytes) {
		m.told = max(m.told, a.lastID)
		l := sh.newLag(m)
		l.cursor, l.reason = sh.position(a), GapLag
		sh.hold(l, bytes[n:])
		sh.block(m)
	}
}

// beats are a heartbeat's bytes, made once for all who get the same.
type beats struct {
	id    uint64
	bytes [2][]byte // by HTTP version: 1.0, 1.1
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// heartbeatBytes are those of a heartbeat to a's members.
func (sh *shard) heartbeatBytes(a *audience, id uint64, moved bool) []byte {
	kind := &sh.beats[index(a.is(beatEvents))][index(moved)]
	if kind.bytes[0] == nil || (moved && kind.id != id) {
		var plain []byte
		switch {
		case a.is(beatEvents):
			plain = encode.AppendHeartbeatEvent(nil, id, moved)
		case moved:
			plain = encode.AppendHeartbeatID(nil, id)
		default:
			plain = encode.AppendHeartbeat(nil)
		}
		kind.id = id
		kind.bytes[0], kind.bytes[1] = plain, encode.AppendChunk(nil, plain)
	}
	return kind.bytes[index(!a.is(http10))]
}
