package fanout

// Chores: what a pass does beside what it was made for, and for how long.
//
// What was published goes out first. Then come the chores: the ends of connections, new streams, those
// who are caught up. A storm has thousands of each, and whoever stayed must not wait for them:
// they get about as much time as a rest between two passes would take, and what is left over
// waits for the next pass, which flushes first again. Everything here runs on the shard's thread.

import "time"

const (
	// How long the chores of a pass take, by the flush interval.
	mostChores  = 10 * time.Millisecond
	leastChores = time.Millisecond
	// How many of a kind are done between two looks at the clock, and in each pass however late it is.
	choresAtOnce = 16
)

// chores are the time for those of one pass.
type chores struct {
	from time.Time
	most time.Duration // never less than flushing took: who comes is served at a full load too
	left bool          // some wait for the next pass, before which there is no rest
}

// A choreKind has a third of the time, and what those before it have left.
type choreKind time.Duration

const (
	hangUps choreKind = 1 + iota // and sockets that take bytes again
	joins
	catchUps
)

// choreTime is how long the chores of a pass may take at the least, by the flush interval.
func choreTime(flushInterval time.Duration) time.Duration {
	return max(leastChores, min(flushInterval, mostChores))
}

// beginChores ends the first part of a pass.
func (sh *shard) beginChores() {
	now := sh.sys.now()
	sh.chores = chores{from: now, most: max(sh.choreTime, now.Sub(sh.clock))}
}

// late tells whether the time for a kind of chores is over; what is left over of it then waits.
func (sh *shard) late(kind choreKind) bool {
	c := &sh.chores
	if sh.sys.now().Sub(c.from) < c.most*time.Duration(kind)/time.Duration(catchUps) {
		return false
	}
	c.left = true
	return true
}
