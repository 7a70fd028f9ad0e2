package fanout

// Flushing: one batch, many sockets.
//
// flush gives an audience's batch to each live member with one non-blocking
// send. A full socket is not an error but lag (lag.go); a dead one leaves by
// close.go. No lock is taken and nothing is allocated for a member that takes
// its bytes. Everything here runs on the shard's thread.

import "syscall"

// flush sends a's batch to its live members and ends the batch.
func (sh *shard) flush(a *audience) {
	if a.packed != nil {
		sh.flushPacked(a)
		return
	}
	b := a.batch
	a.batch = nil
	bytes := seal(b.bytes, 0, a.is(http10))
	sends, sent, taken := uint64(0), uint64(0), uint64(0)
	before := a.servedBefore()
	var copied *held
	a.lastID, a.flushed = b.lastID, sh.tick
	for i := len(a.members) - 1; i >= 0; i-- { // from the end: see remove
		m := a.members[i]
		if m.state != live {
			continue
		}
		n, errno := sh.sys.send(m.fd, bytes)
		sends++
		sent += uint64(n)
		switch {
		case n == len(bytes):
			taken++
		case errno == syscall.EAGAIN:
			if n > 0 {
				taken++ // the rest follows
			}
			sh.stall(m, b, before, bytes, n, &copied)
		default:
			sh.leave(m, SendFailed)
		}
	}
	add(&sh.stats.sends, sends)
	add(&sh.stats.bytesOut, sent)
	add(&sh.stats.deliveries, taken*uint64(b.events))
	add(&sh.stats.batches, 1)
	sh.stats.batchBytes.observe(float64(len(bytes)))
	sh.stats.publishToSend.observe(float64(sh.sys.now().UnixMicro()-b.oldest) / 1e6)
	sh.done(b)
}
