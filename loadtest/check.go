package loadtest

// The judge: was this event lost, doubled, reordered?
//
// A lane is a topic and one who publishes to it; its events are numbered from 1 without holes. A
// subscriber keeps 16 bytes for each lane it hears. Everything here runs on the reader's thread;
// holes are read from the board.

// A lane is what a subscriber knows of one lane's events.
//
// next is the number expected, window the last 64 before it: bit i stands for next-1-i and is set
// where that event has come. Numbers wrap; the distance of two is a signed 32-bit difference.
type lane struct {
	next   uint32
	flags  uint32
	window uint64
}

// Flags of a lane.
const (
	laneOpen = 1 << iota // where it starts is not known yet: the first event says
	laneGap              // a gap event has named it: what is missing next was announced
	laneHole             // the newest missing stretch was announced
	laneSpan             // the subscriber has got no event yet that a gap's before does not reach beyond
)

// begin makes the lane expect number next.
func (l *lane) begin(next uint32) { *l = lane{next: next, window: ^uint64(0)} }

// A judgement is what one event, or the end of a run, tells of a lane.
type judgement struct {
	fresh     bool   // not seen before
	reordered bool   // it came after a later one: what was counted as missing has come
	doubled   bool   // seen before, or so far behind (64 numbers) that it cannot be told
	missing   uint32 // numbers between the last one and this that have not come
	announced bool   // of missing: a gap event had named the lane. Of reordered: the stretch it was in
	emptyGap  bool   // a gap event had named the lane, and nothing was missing
}

// judge takes number seq.
func (l *lane) judge(seq uint32) judgement {
	if seq == l.next && l.flags&(laneOpen|laneGap) == 0 { // nearly every event
		l.next++
		l.window = l.window<<1 | 1
		return judgement{fresh: true}
	}
	if l.flags&laneOpen != 0 {
		l.begin(seq + 1)
		return judgement{fresh: true}
	}
	ahead := int32(seq - l.next)
	if ahead < 0 {
		back := uint32(^ahead) // next-1-seq
		if back >= 64 || l.window&(1<<back) != 0 {
			return judgement{doubled: true}
		}
		l.window |= 1 << back
		return judgement{fresh: true, reordered: true, announced: l.flags&laneHole != 0}
	}
	j := judgement{fresh: true, missing: uint32(ahead)}
	j.gap(l)
	l.next = seq + 1
	l.window = l.window<<(uint(ahead)+1) | 1
	return j
}

// end judges a lane whose last event has number last.
func (l *lane) end(last uint32) judgement {
	if l.flags&laneOpen != 0 {
		return judgement{}
	}
	var j judgement
	if ahead := int32(last + 1 - l.next); ahead > 0 {
		j.missing = uint32(ahead)
	}
	j.gap(l)
	return j
}

// gap settles what a gap event said with what is missing.
func (j *judgement) gap(l *lane) {
	if l.flags&laneGap != 0 {
		j.announced, j.emptyGap = j.missing > 0, j.missing == 0
		l.flags &^= laneGap
	}
	if j.missing > 0 {
		l.flags &^= laneHole
		if j.announced {
			l.flags |= laneHole
		}
	}
}
