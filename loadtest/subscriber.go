package loadtest

// A subscriber: a socket, where it is in the protocol, and what it knows of its lanes.
//
// Everything here runs on its reader's thread.

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"penstock/encode"
)

// States of a subscriber.
//
//	waiting -> connecting -> asking -> live -> ended
//	               |           |        |
//	               +-----------+--------+--> away -> connecting   (it left, or it comes back)
//	                                    +--> failed               (it never had a stream)
const (
	waiting    = uint8(iota) // its turn to connect has not come
	connecting               // until the socket takes the request
	asking                   // until the answer's head is whole
	live
	away
	ended
	failed
)

// A subscriber. Its lanes and topics lie in slabs of its reader, by its slot.
type subscriber struct {
	dechunk encode.Dechunker
	decode  encode.Decoder
	inflate *encode.Inflater // of a compressed stream that is checked
	lastID  uint64           // where ids are numbers, as Penstock's are
	spanned uint64           // the greatest before of its gaps
	since   int64            // when this state, and on the way to a stream the way, began
	asked   int64            // when the request had left
	fd      int32
	age     int32 // counts sockets: events of an earlier one are not for this
	retry   uint32
	state   uint8
	chunked bool
	hasID   bool // lastID counts
	wordID  bool // the last id is no number: it lies in reader.ids
	again   bool // had a stream before
	behind  bool // on the way back to what had been published when it came back
	slow    bool
	blind   bool // it is not checked: what comes is counted in bytes alone
	ready   bool // slow: there is something to read
}

const _ = uint(256 - unsafe.Sizeof(subscriber{})) // budget: 15,000 in under 15 MiB, all in all

// event is what epoll says of a socket.
func (r *reader) event(slot int32, events uint32) {
	s := &r.subs[slot]
	if s.state == connecting {
		if errno := connectError(s.fd); errno != 0 {
			r.fail(slot, fmt.Errorf("connect: %w", errno))
			return
		}
		if events&unix.EPOLLOUT != 0 {
			r.ask(slot)
		}
		if s.state != asking {
			return
		}
	}
	if s.slow && s.state == live && r.slowNow {
		s.ready = true
		return
	}
	r.read(slot, 1<<20, events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
}

// read reads what is there, at most so many bytes or one buffer more. toEnd: an end of the
// connection may wait behind the bytes, of which no other event will tell.
func (r *reader) read(slot int32, most int, toEnd bool) {
	s := &r.subs[slot]
	s.ready = false
	for {
		buf := r.buf[:min(len(r.buf), most)]
		n, errno := rawRead(s.fd, buf)
		r.now = clock()
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			r.hungUp(slot, errno)
			return
		}
		if n == 0 {
			r.hungUp(slot, 0)
			return
		}
		r.tally.BytesIn += uint64(n)
		r.tally.Reads++
		if !r.take(slot, buf[:n]) {
			return
		}
		if s.behind {
			r.catchUp(slot)
		}
		// A short read has emptied the socket (epoll(7)): the next byte makes a new event.
		if n < len(buf) && !toEnd {
			return
		}
		if most -= n; most <= 0 {
			s.ready = true
			if !s.slow {
				r.more = append(r.more, slot)
			}
			return
		}
	}
}

// take reads bytes of the answer. It answers false when the stream is over.
func (r *reader) take(slot int32, p []byte) bool {
	s := &r.subs[slot]
	if s.state == asking {
		var ok bool
		if p, ok = r.takeHead(slot, p); !ok {
			return s.state == asking
		}
	}
	r.slot = slot
	for {
		piece := p
		if s.chunked {
			var err error
			if piece, p, err = s.dechunk.Next(p); err != nil {
				r.broken(slot, err)
				return false
			}
		} else {
			p = nil
		}
		if len(piece) > 0 {
			if err := r.body(s, piece); err != nil {
				r.broken(slot, err)
				return false
			}
		}
		if len(piece) == 0 || len(p) == 0 {
			break
		}
	}
	if s.chunked && s.dechunk.Done() {
		r.hungUp(slot, 0)
		return false
	}
	return true
}

// body reads bytes of a stream that have lost their framing.
func (r *reader) body(s *subscriber, p []byte) error {
	if s.blind {
		r.tally.BytesUnread += uint64(len(p))
		return nil
	}
	r.tally.BytesCoded += uint64(len(p))
	if s.inflate == nil {
		r.tally.BytesPlain += uint64(len(p))
		return s.decode.Decode(p, r.each)
	}
	for {
		plain, rest, err := s.inflate.Next(p)
		if err != nil || len(plain) == 0 {
			return err
		}
		r.tally.BytesPlain += uint64(len(plain))
		if err := s.decode.Decode(plain, r.each); err != nil {
			return err
		}
		p = rest
	}
}

// inflater answers one that is ready for a stream.
func (r *reader) inflater() *encode.Inflater {
	n := len(r.spare)
	if n == 0 {
		return new(encode.Inflater)
	}
	z := r.spare[n-1]
	r.spare = r.spare[:n-1]
	z.Reset()
	return z
}

// takeHead takes the answer's head off p. It answers false where there is no body yet, or never.
func (r *reader) takeHead(slot int32, p []byte) (body []byte, ok bool) {
	s := &r.subs[slot]
	held, split := r.heads[slot]
	if !split {
		record(r.firstBytes, (r.now-s.asked)/1000)
	} else {
		p = append(held, p...)
		delete(r.heads, slot)
	}
	h, size, err := parseHead(p)
	if err == nil && size == 0 {
		r.heads[slot] = append([]byte(nil), p...)
		return nil, false
	}
	coding := encode.Identity
	if err == nil {
		coding, err = h.stream(r.plan.cfg.Coding)
	}
	if err != nil {
		r.fail(slot, err)
		return nil, false
	}
	if coding != r.plan.cfg.Coding {
		r.tally.Uncoded++
	}
	if coding == encode.Gzip && !s.blind {
		s.inflate = r.inflater()
	}
	r.tally.BytesHead += uint64(size)
	s.chunked = h.chunked
	s.state = live
	r.pending--
	r.tally.Live++
	r.tally.Began++
	if s.again {
		if r.idOf(slot) != "" {
			r.tally.Resumed++
			s.behind = true
		} else {
			r.tally.Blank++
		}
	}
	return p[size:], true
}

// block is each block of an event stream.
func (r *reader) block(d *encode.Decoded) {
	s := &r.subs[r.slot]
	if d.HasID {
		r.takeID(s, d.ID, d.HasData)
	}
	if d.Retry >= 0 {
		s.retry = uint32(min(d.Retry, 1<<30))
	}
	if !d.HasData {
		r.tally.Heartbeat++
		return
	}
	st, v := readPayload(d.Data)
	if v == foreign {
		if string(d.Type) == "gap" {
			r.gap(d.Data)
			return
		}
		r.tally.Foreign++
		return
	}
	if v == torn {
		r.tally.Torn++
	}
	if st.run != r.plan.run {
		if v == whole {
			r.tally.Foreign++
		}
		return
	}
	i, ok := r.laneOf(r.slot, st.lane)
	if !ok {
		r.tally.Stray++
		return
	}
	l := &r.lanes[i]
	within := s.within(l)
	if v == torn && int32(st.seq-l.next) > 1<<16 {
		return // a number out of torn bytes
	}
	j := l.judge(st.seq)
	if !j.fresh {
		if v == whole {
			r.tally.Doubled++
		}
		return
	}
	if v == whole {
		r.tally.Events++
		r.newest = r.now
		late := r.now/1000 - st.due
		if late < 0 {
			r.tally.Early++
		}
		// What a subscriber missed while it was away, or is slow to read, is not late: the time of a
		// resume is measured apart.
		if r.timed && !s.behind && !s.slow {
			record(r.latency, late)
		}
	}
	if j.missing > 0 && within && !j.announced {
		j.announced = true
		l.flags |= laneHole
	}
	if j.missing > 0 || j.reordered || j.emptyGap {
		r.unusual(st.lane, st.seq, j, true)
	}
}

// unusual counts what a judgement found beside an event in its place. next is the number that
// came, or for the end of a lane the one after its last.
func (r *reader) unusual(lane, next uint32, j judgement, came bool) {
	if j.reordered {
		r.tally.Reordered++
		if j.announced && r.tally.Announced > 0 {
			r.tally.Announced--
		} else if r.plan.latest && r.tally.Skipped > 0 {
			r.tally.Skipped--
		} else if r.tally.Lost > 0 {
			r.tally.Lost--
		}
		return
	}
	if j.emptyGap && r.plan.perTop == 1 {
		r.tally.EmptyGaps++
	}
	if j.missing > 0 {
		n := uint64(j.missing - r.board.holes(lane, next, j.missing))
		switch {
		case j.announced:
			r.tally.Announced += n
		case r.plan.latest && came:
			r.tally.Skipped += n // a newer one has come in their place
		case r.plan.latest && r.plan.perTop > 1:
			r.tally.Skipped += n // of another publisher to the topic, whose event may be the newest
		case r.plan.latest && n > 0:
			r.tally.Skipped += n - 1
			r.tally.Lost++ // the newest
		default:
			r.tally.Lost += n
		}
	}
}

// takeID keeps an id, and judges it where ids are numbers.
func (r *reader) takeID(s *subscriber, id []byte, event bool) {
	n, err := uint64(0), error(nil)
	if n, err = encode.ParseID(id); err != nil {
		if r.plan.returns && len(id) > 0 {
			s.wordID = true
			if r.ids[r.slot] != string(id) {
				r.ids[r.slot] = string(id)
			}
		}
		return
	}
	// A block without data may repeat the last id; an event may not.
	if s.hasID && (n < s.lastID || event && n == s.lastID) {
		r.tally.IDsBack++
	}
	s.lastID, s.hasID, s.wordID = n, true, false
}

// catchUp ends the time of a resume when everything published by now has come.
func (r *reader) catchUp(slot int32) {
	if !r.hasAll(slot) {
		return
	}
	s := &r.subs[slot]
	s.behind = false
	record(r.resumes, (r.now-s.since)/1000)
}

// leave ends a stream as a subscriber does, to come back.
func (r *reader) leave(slot int32, back time.Duration) {
	r.tally.Left++
	r.drop(slot, r.plan.cfg.Storm) // a storm is a network that broke: nobody says goodbye
	r.comeBack(slot, r.now+int64(back))
}

// drop closes a live stream's socket and forgets what had come of an unfinished block.
func (r *reader) drop(slot int32, abort bool) {
	s := &r.subs[slot]
	closeSocket(s.fd, abort)
	s.fd = -1
	r.tally.Live--
	s.decode.Reset()
	s.dechunk = encode.Dechunker{}
	if s.inflate != nil {
		r.spare = append(r.spare, s.inflate)
		s.inflate = nil
	}
	s.ready, s.behind = false, false
	s.state = ended
}

// comeBack lets a subscriber connect again at a time.
func (r *reader) comeBack(slot int32, at int64) {
	s := &r.subs[slot]
	s.state, s.again, s.since = away, true, at
	r.wake.push(wakeAt{at, slot})
}

// hungUp is the end of a connection, by the other side or the network.
func (r *reader) hungUp(slot int32, errno syscall.Errno) {
	s := &r.subs[slot]
	if s.state != live {
		if errno == 0 {
			r.fail(slot, errors.New("the server hung up before it answered"))
		} else {
			r.fail(slot, fmt.Errorf("before the answer: %w", errno))
		}
		return
	}
	switch {
	case errno != 0:
		r.reasons.add("stream cut: "+errno.Error(), 1)
	case s.chunked && !s.dechunk.Done():
		r.reasons.add("stream cut: the connection ended without the last chunk", 1)
	case s.inflate != nil && !s.inflate.Done():
		r.reasons.add("stream cut: it ended without the trailer of its gzip stream", 1)
	case s.decode.Open():
		r.reasons.add("stream ended by the server within a frame", 1)
	default:
		r.reasons.add("stream ended by the server", 1)
	}
	r.over(slot)
}

// broken is a stream whose bytes make no sense.
func (r *reader) broken(slot int32, err error) {
	r.reasons.add("not an event stream: "+err.Error(), 1)
	r.over(slot)
}

// over ends a stream that the server ended; in scenarios of coming and going it comes back, but
// for one that has nothing to come for any more.
func (r *reader) over(slot int32) {
	s := &r.subs[slot]
	r.tally.Ended++
	r.drop(slot, true)
	if r.returns(slot) {
		wait := time.Second
		if s.retry > 0 {
			wait = time.Duration(s.retry) * time.Millisecond
		}
		r.comeBack(slot, r.now+int64(wait))
	}
}

// returns tells whether a subscriber without a stream has a reason to come back.
func (r *reader) returns(slot int32) bool {
	if !r.plan.returns {
		return false
	}
	return r.board.phase() <= phaseMeasure || !r.subs[slot].blind && !r.hasAll(slot)
}

// fail is a stream that did not begin.
func (r *reader) fail(slot int32, err error) {
	s := &r.subs[slot]
	if s.state == connecting || s.state == asking {
		r.pending--
	}
	if s.fd >= 0 {
		closeSocket(s.fd, true)
		s.fd = -1
	}
	delete(r.heads, slot)
	r.reasons.add(err.Error(), 1)
	if s.again && r.returns(slot) {
		first := s.since
		r.comeBack(slot, clock()+int64(time.Second))
		s.since = first // the time of a resume counts from the first try
		return
	}
	r.tally.Failed++
	s.state = failed
}
