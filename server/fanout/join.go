package fanout

// Joining: from a socket and a subscription to a subscriber.
//
// The shard writes a stream's first byte: the response header, the first block,
// and what follows the client's id, in one send where it fits. A joiner is a
// lagging member from its first moment, so that it is opened by the code that
// catches up (lag.go). Everything here runs on the shard's thread, but for
// AppendHeader.

import (
	"math/rand/v2"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// join makes a subscriber of a socket and sends it what it is due.
func (sh *shard) join(j joiner) {
	s := j.subscription
	m := &subscriber{fd: j.fd, sent: sh.tick, ticket: s.Ticket}
	sh.giveSlot(m)
	sh.setEnd(m.slot)
	sh.enter(m, s)
	l := sh.newLag(m)
	l.cursor, l.opening = sh.read, s
	add(&sh.stats.joins, 1)
	if errno := sh.sys.watch(m.fd, m.slot); errno != 0 {
		sh.leave(m, JoinFailed)
		return
	}
	// An id greater than the newest can't be: no event of ours had it. Which is
	// the newest is the sequencer's to say, for another shard may have read, and shown,
	// more than this one.
	if s.Resume && s.LastID > sh.seq.NewestID() {
		s.forgetID()
	}
	m.onLag = s.OnLag
	m.told = sh.readID
	l.past.until, l.past.untilID = sh.read, sh.readID
	switch {
	case s.Resume:
		m.told, l.cursor, l.reason = s.LastID, 0, GapResume
		if s.LastID > sh.readID {
			l.cursor = sh.read // ahead of this shard: nothing behind it is newer
		}
		if s.LastID < sh.seq.StartID() {
			l.reason = GapRestart
		}
	case s.BadID == "":
		sh.rewind(m, s.Rewind)
	}
	l.past.snapshot, l.past.after = s.Snapshot, m.told
	if s.Rewound {
		l.past.after = s.Start // what the past touches is not sent again
	}
	if _, more := sh.catchUp(m); more {
		sh.wake(m)
	}
}

// giveSlot gives m a slot of its own.
func (sh *shard) giveSlot(m *subscriber) {
	if n := len(sh.freeSlots); n > 0 {
		m.slot = sh.freeSlots[n-1]
		sh.freeSlots = sh.freeSlots[:n-1]
		sh.slots[m.slot] = m
	} else {
		m.slot = uint32(len(sh.slots))
		sh.slots = push(sh.slots, m)
	}
}

// rewind sets m's start back.
func (sh *shard) rewind(m *subscriber, r Rewind) {
	l := m.lag
	switch {
	case r.All:
		m.told = 0
	case r.Since > 0:
		m.told = sh.seq.IDAt(sh.clock.Add(-r.Since).UnixMicro())
	case r.Count > 0:
		m.told = 0
		if m.audience.wild != nil {
			sh.fall(m, sh.read)
		}
		l.known = sh.knows(m, sh.read, sh.readID, r.Count)
		m.told = sh.readID
		for _, floor := range l.known.floors {
			m.told = min(m.told, floor)
		}
	default:
		return
	}
	l.past.rewind, l.cursor, l.known.forgotten = true, 0, sh.seq.Table().NewestForgotten()
}

// startID is where m's stream starts, whose first entries were found.
func (sh *shard) startID(m *subscriber, found []topic.Found) uint64 {
	switch {
	case m.lag.opening.Rewound:
		return m.lag.opening.Start
	case !m.lag.past.rewind:
		return m.told
	case len(found) > 0:
		return found[0].Entry.ID() - 1
	}
	return m.lag.past.untilID
}

// appendOpening appends the first block: how long to wait before coming back,
// and the id where the stream starts, so that a client that is cut off before
// its first event resumes where it began; and the past that it brings with it. A client whose own id can't be gets no
// id but the gap's.
func (sh *shard) appendOpening(buf []byte, s *Subscription, start uint64) []byte {
	retry := sh.retry()
	withID := s.BadID == ""
	if s.Hello {
		buf = encode.AppendHello(buf, retry, start, withID, s.Resume && !s.Rewound, sh.version)
	} else {
		buf = encode.AppendStart(buf, retry, start, withID)
	}
	if withID {
		return append(buf, s.Past...)
	}
	// Nobody knows what lies between an id that can't be and where the stream goes on.
	g := encode.Gap{Topics: s.names(), After: s.BadID, Before: max(start+1, sh.seq.BeforeID()), Reason: encode.GapUnknownID}
	return encode.AppendGap(buf, &g, start)
}

// retry is how long a client is told to wait before it comes back, in
// milliseconds: each its own time, so that they do not come together.
func (sh *shard) retry() int {
	retry := int(sh.retryMin.Milliseconds())
	if span := int(sh.retryMax.Milliseconds()) - retry; span > 0 {
		retry += rand.IntN(span + 1)
	}
	return retry
}

// opened counts how a stream began.
func (sh *shard) opened(s *Subscription, first *slice) {
	switch {
	case s.BadID != "":
		add(&sh.stats.resumes[ResumeUnknownID], 1)
		add(&sh.stats.gaps[GapUnknownID], 1)
	case !s.Resume:
	case first.gap:
		add(&sh.stats.resumes[ResumeGap], 1)
		reason := GapResume
		if s.LastID < sh.seq.StartID() {
			reason = GapRestart
		}
		add(&sh.stats.gaps[reason], 1)
	default:
		add(&sh.stats.resumes[ResumeComplete], 1)
	}
}

// gapName is what a gap's data calls a reason.
func gapName(r GapReason) string {
	return [gapReasons]string{encode.GapLag, encode.GapResume, encode.GapRestart, encode.GapUnknownID}[r]
}

// AppendHeader appends the response header of a stream. That of a HEAD is made by api, whose tests
// hold it against this one, which is why it is exported. Any goroutine.
func AppendHeader(dst []byte, s *Subscription, now time.Time) []byte {
	return appendHeader(dst, s, now.UTC().AppendFormat(nil, dateFormat))
}

// dateFormat is RFC 9110's IMF-fixdate (5.6.7); the time must be in UTC.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

func appendHeader(dst []byte, s *Subscription, date []byte) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nDate: "...)
	dst = append(dst, date...)
	dst = append(dst, "\r\nContent-Type: text/event-stream"+
		"\r\nCache-Control: no-cache, no-store, no-transform"+
		"\r\nX-Accel-Buffering: no"+
		"\r\nX-Content-Type-Options: nosniff"+
		"\r\nVary: Accept-Encoding, Origin"...)
	if s.Origin != "" {
		dst = append(dst, "\r\nAccess-Control-Allow-Origin: "...)
		dst = append(dst, s.Origin...)
		dst = append(dst, "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: Retry-After"...)
	}
	if s.Coding != encode.Identity {
		dst = append(dst, "\r\nContent-Encoding: "...)
		dst = append(dst, s.Coding.String()...)
	}
	if s.HTTP10 {
		return append(dst, "\r\nConnection: close\r\n\r\n"...)
	}
	return append(dst, "\r\nTransfer-Encoding: chunked\r\n\r\n"...)
}

// date is the Date header's value now, made once a second.
func (sh *shard) date() []byte {
	if second := sh.clock.Unix(); second != sh.dateSecond {
		sh.dateSecond = second
		sh.dateText = sh.clock.UTC().AppendFormat(sh.dateText[:0], dateFormat)
	}
	return sh.dateText
}
