package fanout

// Pace: audiences that are not flushed in every pass, and those that get only
// the newest event of each topic.
//
// Everything here runs on the shard's thread.

import (
	"slices"
	"time"

	"penstock/ring"
	"penstock/server/topic"
)

// A pace is how an audience is flushed that does not get everything at once.
//
// Nothing is kept for such an audience while it waits: reading stirs it, which
// notes from where on and, in mode latest, which topics have changed. When it
// is due its events are gathered from the ring.
type pace struct {
	latest   bool          // only the newest event of each topic
	interval time.Duration // the shortest time between two flushes
	phase    time.Duration // where in the interval its own turn is

	stirred  bool          // something is due to it
	cursor   ring.Position // of the first entry that is; only while stirred
	beforeID uint64        // the id that the shard had read before that one
	changed  []int32       // mode latest: topics with something due, by their place in the audience
	marks    []bool        // of those
	due      time.Time     // when it is flushed; only while stirred
	last     time.Time     // when it was flushed last
	at       int           // its place in shard.paced, -1 while it is being flushed; only while stirred
}

// newPace makes an audience's pace, nil for one that gets everything at once.
func newPace(s *Subscription, key string) *pace {
	if !s.Latest && s.Interval == 0 {
		return nil
	}
	p := &pace{latest: s.Latest, interval: s.Interval}
	if s.Interval > 0 {
		// Audiences that are stirred by the same event get turns of their own.
		h := uint64(14695981039346656037)
		for i := range len(key) {
			h = (h ^ uint64(key[i])) * 1099511628211
		}
		p.phase = time.Duration(h % uint64(s.Interval))
	}
	return p
}

// position is how far a's live members have been served.
func (sh *shard) position(a *audience) ring.Position {
	if a.pace != nil && a.pace.stirred {
		return a.pace.cursor
	}
	return sh.read
}

// servedID is the newest id up to which a's live members have been served.
func (sh *shard) servedID(a *audience) uint64 {
	if a.pace != nil && a.pace.stirred {
		return a.pace.beforeID
	}
	return sh.readID
}

// servedBefore is the newest id up to which a's live members had been served before the batch that
// is being flushed, as far as it is known without a walk.
func (a *audience) servedBefore() uint64 {
	if a.pace != nil {
		return max(a.lastID, a.pace.beforeID)
	}
	return a.lastID
}

// stir notes that a's topic has an entry at p. before is the id read before it.
func (sh *shard) stir(a *audience, place int32, p ring.Position, before uint64) {
	c := a.pace
	if !c.stirred {
		c.stirred, c.cursor, c.beforeID = true, p, before
		c.due = c.next(sh.clock)
		sh.schedule(a)
	}
	if c.latest {
		sh.change(a, place)
	}
}

// change notes that a's topic has something due, for mode latest.
func (sh *shard) change(a *audience, place int32) {
	c := a.pace
	for len(c.marks) < len(a.topics) {
		c.marks = append(c.marks, false)
	}
	if !c.marks[place] {
		c.marks[place] = true
		c.changed = append(c.changed, place)
	}
}

// next is when an audience that something is due to now is flushed: at once
// after a quiet interval, else at its own turn, an interval after the last
// flush or more.
func (c *pace) next(now time.Time) time.Time {
	earliest := c.last.Add(c.interval)
	if !earliest.After(now) {
		return now
	}
	since := time.Duration(earliest.UnixNano()) - c.phase
	return earliest.Add((c.interval - since%c.interval) % c.interval)
}

// calm forgets that something is due.
func (c *pace) calm() {
	c.stirred = false
	for _, place := range c.changed {
		c.marks[place] = false
	}
	c.changed = c.changed[:0]
}

// flushPaced flushes the audiences whose time has come.
func (sh *shard) flushPaced() (some bool) {
	for len(sh.paced) > 0 && !sh.paced[0].pace.due.After(sh.clock) {
		a := sh.paced[0]
		sh.unschedule(a)
		if a.pace.latest {
			sh.flushLatest(a)
		} else {
			sh.flushBacklog(a)
		}
		if a.is(over) {
			sh.ended = append(sh.ended, a)
		}
		some = true
	}
	return some
}

// flushBacklog flushes everything that is due to an audience in mode all, batch by
// batch: an interval comes before a backlog, not within it.
func (sh *shard) flushBacklog(a *audience) {
	c := a.pace
	cursor := c.cursor
	c.last = sh.clock
	for cursor < sh.read && len(a.members) > 0 {
		found, next, lost := sh.gather(a, c.beforeID, cursor, sh.read, sh.flushMaxBytes)
		if lost {
			// Held back for so long that the ring has gone on: each member is told.
			c.calm()
			sh.lap(a, cursor, c.beforeID)
			return
		}
		if len(found) > 0 {
			sh.gathered(a, found)
			a.batch.first, a.batch.end = cursor, next
			sh.flush(a)
		}
		cursor = next
	}
	c.stirred = false
	sh.unpark(a)
}

// flushLatest flushes the newest event of each topic that has changed.
func (sh *shard) flushLatest(a *audience) {
	c := a.pace
	found, lost := sh.found[:0], false
	for _, place := range c.changed {
		var gone bool
		found, gone = sh.seq.AppendLatest(found, a.topics[place], sh.read, c.beforeID)
		lost = lost || gone
	}
	sh.found = found
	c.last = sh.clock
	c.calm()
	if lost {
		sh.lap(a, c.cursor, c.beforeID)
		return
	}
	sortFound(found)
	for len(found) > 0 && len(a.members) > 0 {
		n := prefix(found, sh.flushMaxBytes)
		sh.gathered(a, found[:n])
		found = found[n:]
		sh.flush(a)
	}
	sh.unpark(a)
}

// gather finds a's entries with greater ids than after between two positions of the ring, as
// topic's Gather does; for an audience with patterns by walking through the ring.
func (sh *shard) gather(a *audience, after uint64, from, limit ring.Position, maxBytes int) (found []topic.Found, next ring.Position, lost bool) {
	if a.wild == nil {
		found, next, lost = sh.seq.Gather(sh.found[:0], a.topics, after, from, limit, maxBytes)
	} else {
		found, next, lost = sh.seq.Walk(sh.found[:0], func(number uint64) bool { return sh.wants(a, number) }, after, from, limit, maxBytes)
	}
	sh.found = found
	return found, next, lost
}

// gathered makes a's batch of entries that were gathered. They may be kept
// copies or have holes between them, so that only their bytes tell what they were.
func (sh *shard) gathered(a *audience, found []topic.Found) {
	b := sh.newBatch(found[0].Entry, ring.None)
	for i := range found {
		b.add(found[i].Entry, ring.None, sh.frame(found[i].Entry, a.form))
	}
	b.first, b.end = ring.None, ring.None
	a.batch = b
}

// sortFound puts entries in the order of their ids.
func sortFound(found []topic.Found) {
	slices.SortFunc(found, func(a, b topic.Found) int {
		if a.Entry.ID() < b.Entry.ID() {
			return -1
		}
		return 1
	})
}

// prefix is how many of the entries take about so many bytes, at least one.
func prefix(found []topic.Found, bytes int) int {
	n := 0
	for size := 0; n < len(found) && (n == 0 || size < bytes); n++ {
		size += len(found[n].Entry.Frame())
	}
	return n
}

// unpark lets those members go on that were ahead of their audience, and that
// it has caught up with.
func (sh *shard) unpark(a *audience) {
	for _, m := range a.members {
		if m.state == lagging && m.lag.parked {
			m.lag.parked = false
			sh.wake(m)
		}
	}
}

// schedule puts a into the heap of the audiences that something is due to, the
// earliest first.
func (sh *shard) schedule(a *audience) {
	a.pace.at = len(sh.paced)
	sh.paced = append(sh.paced, a)
	sh.siftUp(a.pace.at)
}

// unschedule takes a out of the heap, if it is there.
func (sh *shard) unschedule(a *audience) {
	i, last := a.pace.at, len(sh.paced)-1
	if i < 0 {
		return // its members left while it was flushed
	}
	sh.place(i, sh.paced[last])
	sh.paced[last] = nil
	sh.paced = sh.paced[:last]
	a.pace.at = -1
	if i < last {
		sh.siftDown(i)
		sh.siftUp(i)
	}
}

func (sh *shard) place(i int, a *audience) {
	sh.paced[i], a.pace.at = a, i
}

func (sh *shard) siftUp(i int) {
	for a := sh.paced[i]; i > 0; {
		above := (i - 1) / 2
		if !a.pace.due.Before(sh.paced[above].pace.due) {
			return
		}
		sh.place(i, sh.paced[above])
		sh.place(above, a)
		i = above
	}
}

func (sh *shard) siftDown(i int) {
	for a := sh.paced[i]; ; {
		below := 2*i + 1
		if below+1 < len(sh.paced) && sh.paced[below+1].pace.due.Before(sh.paced[below].pace.due) {
			below++
		}
		if below >= len(sh.paced) || !sh.paced[below].pace.due.Before(a.pace.due) {
			return
		}
		sh.place(i, sh.paced[below])
		sh.place(below, a)
		i = below
	}
}
