package fanout

// Patterns: audiences whose topics are not known beforehand.
//
// A topic is judged when the shard reads an event of it for the first time: the
// audiences whose patterns match it are listed with it, and from then on an event of it
// costs what one of any topic costs. When patterns come, a new round begins, and
// each topic is judged anew at its next event; until then publishers ring for it.
// Nobody ever goes through all topics for that.
//
// Everything here runs on the shard's thread.

import (
	"slices"

	"penstock/ring"
	"penstock/server/topic"
)

// A wild is what an audience with patterns has beside its topics.
type wild struct {
	patterns []topic.Pattern // what was asked for by name too: whatever matches one of them is the audience's
	held     int             // how many topics were asked for by name
	round    uint32          // that its coming began
	mark     uint64          // of the judgement that met it last
}

// newWild gives a, whose topics by name are listed, its patterns.
func (sh *shard) newWild(a *audience, s *Subscription) {
	w := &wild{held: len(s.Topics)}
	for _, name := range s.Topics {
		p, _ := topic.ParsePattern(name)
		w.patterns = append(w.patterns, p)
	}
	for _, p := range s.Patterns {
		w.patterns = append(w.patterns, p)
		sh.patterns.Add(p, a)
	}
	a.wild = w
	sh.rounds++
	w.round = sh.rounds
	sh.wilds++
	sh.round = sh.rounds
	sh.follower.Patterns(sh.round)
}

// dropWild takes a's patterns away. With the last ones judging ends.
func (sh *shard) dropWild(a *audience) {
	for _, p := range a.wild.patterns[a.wild.held:] {
		sh.patterns.Remove(p, a)
	}
	if sh.wilds--; sh.wilds > 0 {
		return
	}
	sh.round = 0
	sh.follower.Patterns(0)
	for _, in := range sh.judged {
		in.judged = false
		if len(in.audiences) == 0 {
			delete(sh.index, in.topic.Number())
		}
	}
	sh.judged = nil
}

// judge lists with a topic the audiences whose patterns match it, of those that
// have come since it was judged last. in is the topic's interest, nil if there is
// none; the answer is nil only for a topic that was forgotten meanwhile.
func (sh *shard) judge(number uint64, in *interest) *interest {
	if in == nil {
		t, ok := sh.seq.Topic(number)
		if !ok {
			return nil
		}
		in = &interest{topic: t}
		sh.index[number] = in
	}
	if !in.judged {
		in.judged = true
		sh.judged = append(sh.judged, in)
	}
	sh.mark++
	matches := false
	sh.patterns.Match(in.topic.Name(), func(a *audience) {
		matches = true
		w := a.wild
		if w.mark == sh.mark || w.round <= in.round || slices.Contains(a.held(), in.topic) {
			return
		}
		w.mark = sh.mark
		a.places = append(a.places, int32(len(in.audiences)))
		in.audiences = append(in.audiences, listing{a, int32(len(a.topics))})
		a.topics = append(a.topics, in.topic)
	})
	in.round = sh.round
	in.topic.Judge(sh.follower, sh.round, matches)
	return in
}

// keeps tells whether an interest that no audience has stays: a judgement is dear.
func (sh *shard) keeps(in *interest) bool { return sh.round != 0 && in.judged }

// wants tells whether the topic with that number matches one of a's patterns.
func (sh *shard) wants(a *audience, number uint64) bool {
	in := sh.index[number]
	if in == nil {
		if in = sh.judge(number, nil); in == nil {
			return false
		}
	}
	for _, p := range a.wild.patterns {
		if p.Match(in.topic.Name()) {
			return true
		}
	}
	return false
}

// sweep looks at some of the judged topics: those that were forgotten go.
func (sh *shard) sweep() {
	for n := min(len(sh.judged), 1+len(sh.judged)/int(sh.ticksRound)); n > 0; n-- {
		if sh.swept >= len(sh.judged) {
			sh.swept = 0
		}
		in := sh.judged[sh.swept]
		if !in.topic.Forgotten() || !sh.unlist(in) {
			sh.swept++
			continue
		}
		delete(sh.index, in.topic.Number())
		last := len(sh.judged) - 1
		sh.judged[sh.swept] = sh.judged[last]
		sh.judged[last] = nil
		if sh.judged = sh.judged[:last]; last == 0 {
			return
		}
	}
}

// unlist takes a forgotten topic out of its audiences' lists; false if one of
// them is to be flushed with what it knows of the topic.
func (sh *shard) unlist(in *interest) bool {
	for _, l := range in.audiences {
		if p := l.audience.pace; p != nil && p.stirred {
			return false
		}
	}
	for _, l := range in.audiences {
		a, last := l.audience, len(l.audience.topics)-1
		moved := a.topics[last]
		a.topics[l.topic], a.places[l.topic] = moved, a.places[last]
		sh.index[moved.Number()].audiences[a.places[last]].topic = l.topic
		a.topics[last] = nil
		a.topics, a.places = a.topics[:last], a.places[:last]
	}
	in.audiences = nil
	return true
}

// lookWild is look for an audience with patterns.
//
// As long as everything newer than what m was told is in the ring, it walks
// through the ring. What is out of the ring may be kept, or lost: then the topics that
// matter are found in the table, once, and followed by their chains.
func (sh *shard) lookWild(m *subscriber, limit ring.Position) (found []topic.Found, next ring.Position, lost bool) {
	a, l := m.audience, m.lag
	unknown := l.unknown || l.cursor == 0 && sh.forgot(m)
	if !l.fell {
		from := l.cursor
		if from == 0 {
			from = min(sh.ring.After(m.told), limit) // a rewind by time may begin later
		}
		if l.cursor > 0 || sh.seq.Dropped() <= m.told {
			found, next, lost = sh.gather(a, m.told, from, limit, sh.sliceBytes)
			if !lost && (!unknown || len(found) > 0 || next >= limit) {
				return found, next, unknown
			}
		}
		sh.fall(m, limit)
		unknown = l.unknown
	}
	if l.fellUntil < sh.ring.Tail() {
		sh.fall(m, limit) // more has left the ring: one gap for all of it
		unknown = unknown || l.unknown
	}
	found, next, lost = sh.gatherFallen(m, limit)
	if (lost || unknown) && len(found) == 0 && next < limit {
		// It fell long ago and its socket has taken nothing since. A gap wants an
		// event behind it, or the place where m stands.
		sh.fall(m, limit)
		found, next, _ = sh.gatherFallen(m, limit)
		lost = true
	}
	return found, next, lost || unknown
}

// gatherFallen gathers the next of the topics that matter to m, which has fallen.
func (sh *shard) gatherFallen(m *subscriber, limit ring.Position) (found []topic.Found, next ring.Position, lost bool) {
	l := m.lag
	found, next, lost = sh.seq.GatherAbove(sh.found[:0], l.topics, l.known.floors, m.told, l.cursor, min(limit, l.fellUntil), sh.sliceBytes)
	sh.found = found
	return found, next, lost
}

// fall finds out which topics matter to m, who was told less than the ring still
// holds, up to a position.
func (sh *shard) fall(m *subscriber, until ring.Position) {
	l := m.lag
	l.fell, l.fellUntil = true, until
	l.topics = sh.seq.Table().Matching(m.audience.wild.patterns, m.told)
	l.unknown = sh.forgot(m)
}

// judgeUnread judges the topics that have events newer than what the shard has read:
// it will not read all of them.
func (sh *shard) judgeUnread() {
	if sh.wilds == 0 {
		return
	}
	var patterns []topic.Pattern
	for _, a := range sh.audiences {
		if a.wild != nil {
			patterns = append(patterns, a.wild.patterns...)
		}
	}
	for _, t := range sh.seq.Table().Matching(patterns, sh.readID) {
		if in := sh.index[t.Number()]; in == nil || in.round != sh.round {
			sh.judge(t.Number(), in)
		}
	}
}
