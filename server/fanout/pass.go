package fanout

// A pass: one turn of a shard's loop. Read this first.
//
// Everything here runs on the shard's thread.

import (
	"time"

	"penstock/ring"
)

const (
	// How much of the ring a pass reads at the most: a bound for its duration.
	mostRead = 1 << 20
	// How many joiners a pass takes from the inbox at the most.
	mostJoiners = 512
)

// pass is one turn: what was published goes out, who comes joins, who lags is
// caught up, who was idle too long gets a heartbeat. It tells whether it found
// anything to do; time is now for all of it.
//
// The head is loaded once. Nothing newer is looked at in this pass, by live
// flushing, resume or gap alike, so that all of them agree on where the shard stands.
func (sh *shard) pass(now time.Time) (busy bool) {
	sh.own()
	sh.clock = now
	if sh.frost.frozen {
		return sh.takeInbox(0)
	}
	from := sh.read

	head := sh.ring.Head()
	sh.ease(head - from)
	sh.packing, sh.packTime = 0, 0
	sh.readRing(head)
	sh.flushDue()

	busy = sh.flushPaced()
	sh.endOver()
	busy = sh.read != from || busy
	sh.beginChores()
	busy = sh.happened() || busy
	busy = sh.takeInbox(sh.passJoiners) || busy
	busy = sh.catchUpAll() || busy
	sh.guard()
	sh.noteRead()
	sh.ticks()
	if !sh.draining.from.IsZero() {
		sh.drainSome()
		sh.linger()
		sh.checkDrained()
	}
	if len(sh.events) == 0 {
		sh.freeSlots = append(sh.freeSlots, sh.leftSlots...)
		sh.leftSlots = sh.leftSlots[:0]
	}

	if busy {
		sh.measure(from)
	}
	sh.follower.Owe(sh.owes)
	sh.follower.Done(sh.read, sh.allowance())
	if sh.frost.answer != nil {
		if busy = true; sh.atRest() {
			sh.freeze()
		}
	}
	return busy
}

// readRing reads the ring up to head, at most so much of it, and lays each
// entry into the batches of the audiences concerned. A batch that is full is
// flushed and the next one begun.
func (sh *shard) readRing(head ring.Position) {
	for limit := min(head, sh.read+sh.passBytes); sh.read < limit; {
		reader := sh.ring.Reader(sh.read, limit)
		sh.readEntries(&reader)
		if sh.read = reader.Position(); !reader.Lapped() {
			return
		}
		// Publishers wait for shards, so that this takes a stall of seconds and
		// a small ring. What has been read goes out; then all lag from here on and
		// learn from their own gap what they lost; then the shard goes on at the tail.
		sh.flushDue()
		sh.lapAll()
		e, p, ok := sh.ring.Oldest()
		if !ok {
			return
		}
		sh.read, sh.readID = max(sh.read, p), max(sh.readID, e.ID()-1)
	}
}

func (sh *shard) readEntries(reader *ring.Reader) {
	var last uint64  // a topic's number ...
	var in *interest // ... and who wants it: events often come in runs
	for {
		e, p, ok := reader.Next()
		if !ok {
			return
		}
		before := sh.readID
		sh.readID = e.ID()
		if n := e.Topic(); n != last {
			last, in = n, sh.index[n]
			if sh.round != 0 && (in == nil || in.round != sh.round) {
				in = sh.judge(n, in)
			}
		}
		if in == nil {
			continue
		}
		end := e.Kind() == ring.End
		for i := range in.audiences {
			a := in.audiences[i].audience
			a.set(over, false)
			if end {
				sh.ended = append(sh.ended, a)
			}
			if a.pace != nil {
				sh.stir(a, in.audiences[i].topic, p, before)
				continue
			}
			b := a.batch
			if b == nil {
				b = sh.newBatch(e, p)
				a.batch = b
				sh.due = append(sh.due, a)
			}
			b.add(e, p, sh.frame(e, a.form))
			if b.size() >= sh.flushMaxBytes {
				sh.full = append(sh.full, a)
			}
		}
		// Not in the loop above: a flush may end an audience, which takes it out
		// of in.audiences.
		for i, a := range sh.full {
			sh.flush(a)
			sh.full[i] = nil
		}
		sh.full = sh.full[:0]
	}
}

// flushDue flushes every audience that has a batch.
func (sh *shard) flushDue() {
	for i, a := range sh.due {
		if a.batch != nil {
			sh.flush(a)
		}
		sh.due[i] = nil
	}
	sh.due = sh.due[:0]
}

// happened serves what the kernel told since the last pass.
func (sh *shard) happened() bool {
	n := 0
	for ; n < len(sh.events); n++ {
		if n%choresAtOnce == 0 && n > 0 && sh.late(hangUps) {
			break
		}
		ev := sh.events[n]
		m := sh.slots[ev.slot]
		switch {
		case m == nil: // has left since
		case ev.gone:
			sh.leave(m, ClientGone)
		case ev.writable && m.lag != nil && m.lag.blocked:
			sh.wake(m)
		}
	}
	sh.events = sh.events[:copy(sh.events, sh.events[n:])]
	return n > 0
}

// takeInbox serves what other goroutines left, and so many joiners at the most.
func (sh *shard) takeInbox(most int) (some bool) {
	for {
		n := min(most, choresAtOnce)
		joined, found := sh.takeSome(n)
		some = found || some
		if most -= joined; joined < n || most <= 0 || sh.late(joins) {
			return some
		}
	}
}

// takeSome serves at most n joiners, and all commands. It tells how many there were of the former, and
// whether there was anything.
func (sh *shard) takeSome(n int) (joined int, some bool) {
	sh.joiners, sh.commands = sh.inbox.take(sh.joiners[:0], sh.commands[:0], n)
	if sh.inbox.apart {
		for sh.frost.frozen && sh.receiveSome() {
			continue // so that the pair is not full while nobody joins
		}
		sh.receive(sh.joiners)
	}
	for _, j := range sh.joiners {
		switch {
		case j.fd < 0:
			sh.lost(j)
		case sh.empty:
			sh.lose(j.fd, j.subscription.Ticket)
		default:
			sh.join(j)
		}
	}
	for _, c := range sh.commands {
		sh.obey(c)
	}
	joined, some = len(sh.joiners), len(sh.joiners)+len(sh.commands) > 0
	clear(sh.joiners)
	clear(sh.commands)
	return joined, some
}

func (sh *shard) obey(c command) {
	switch c.kind {
	case commandDrain:
		if sh.draining.from.IsZero() {
			sh.inbox.close()
			sh.draining = drain{from: sh.clock, spread: c.spread, of: len(sh.slots)}
		}
	case commandFreeze:
		sh.frost.answer = c.frozen
	case commandThaw:
		sh.thaw()
	case commandGive:
		c.done <- sh.give(c)
	case commandAdopt:
		sh.adopt(c.shares)
		c.done <- nil
	case commandLetGo:
		sh.letGo()
		c.done <- nil
	case commandLaggards:
		c.answer <- sh.furthestBehind(c.n)
	case commandLimit:
		sh.obeyLimits(&c.limits)
	case commandBreak:
		sh.standStill(&c.barrier)
	case commandStop:
		sh.stop = true
	}
}

// allowance is how far the shard may be behind before publishers wait for it, in bytes of the ring: what
// it does in 100 ms, or as little as possible while it owes.
func (sh *shard) allowance() int {
	if sh.owes > 0 {
		return 0
	}
	return int(sh.pace / 10)
}

// measure notes how long the pass took, and how fast the ring was read.
//
// pace decides how far this shard may be behind before publishers wait for it:
// what it does in 100 ms. A pass that read nothing says nothing about that, nor does one that only read.
func (sh *shard) measure(from ring.Position) {
	took := sh.sys.now().Sub(sh.clock)
	add(&sh.stats.passes, 1)
	sh.stats.passSeconds.observe(took.Seconds())
	if n := uint64(took); n > sh.stats.longest.Load() {
		sh.stats.longest.Store(n)
	}
	if read := sh.read - from; read > 0 && took > 0 && sh.owes == 0 {
		sh.pace += (float64(read)/took.Seconds() - sh.pace) / 4
		sh.costly = sh.packTime > took/packWorth
	}
}
