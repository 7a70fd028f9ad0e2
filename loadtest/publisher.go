package loadtest

// The publisher: one thread that drives all publishing connections.
//
// Each has its schedule; an event leaves when it is due, or as soon after as its connection is
// free, and keeps its due time. One request is in flight on a connection. A number is used up by
// an answer that took the event; one that refused it leaves the number to the next event; where
// a connection broke before the answer, the number's fate is not known and the board says so.
// Everything here runs on the publisher's thread but newPublisher.

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"penstock/encode"
)

// PublishTally counts what happened to events on their way to the server.
type PublishTally struct {
	Published uint64 `json:"published"` // acknowledged
	Refused   uint64 `json:"refused"`   // answered, but not taken
	Unknown   uint64 `json:"unknown"`   // the connection broke before the answer
	Unsent    uint64 `json:"unsent"`    // due within the measured part, but no connection was free
	Requests  uint64 `json:"requests"`
	BytesOut  uint64 `json:"bytesOut"`
	BytesIn   uint64 `json:"bytesIn"`
}

type publisher struct {
	plan  *plan
	board *board
	poll  *poller
	tell  func(second int, published uint64)
	conns []publishing
	due   wakeHeap // free connections, by when their next event is due; closed ones, by when to try again
	buf   []byte
	data  []byte
	body  []byte
	names []string // of lanes, made as they are needed
	end   int64
	told  uint64 // of Published
	begun uint64 // events that were sent, whatever became of them

	tally   PublishTally
	reasons Reasons
	late    *hdrhistogram.Histogram // from due to sent
	acks    *hdrhistogram.Histogram // from sent to answered
	cpu     threadClock
}

// States of a publishing connection.
const (
	closed = uint8(iota)
	opening
	free
	busy
)

// publishing is a connection and its schedule.
type publishing struct {
	schedule
	fd    int32
	age   int32
	state uint8
	since int64
	out   []byte   // the request, what has not left of it
	room  []byte   // where requests are made
	in    []byte   // of an answer that came in pieces
	ahead []uint32 // lanes of the events in flight
}

func newPublisher(p *plan, b *board, tell func(second int, published uint64)) (*publisher, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &publisher{
		plan: p, board: b, poll: poll, tell: tell, buf: make([]byte, 64<<10), names: make([]string, p.lanes),
		reasons: Reasons{}, late: newHistogram(), acks: newHistogram(),
	}, nil
}

// run publishes from start to end (nanoseconds on the run's clock), then waits for the answers
// still due. stop ends it early.
func (p *publisher) run(start, end int64, stop func() bool) error {
	runtime.LockOSThread()
	defer p.poll.close()
	p.end = end
	schedules := newSchedules(p.plan, start)
	p.conns = make([]publishing, len(schedules))
	for i := range p.conns {
		p.conns[i] = publishing{schedule: schedules[i], fd: -1}
		if len(schedules[i].lanes) > 0 {
			p.due.push(wakeAt{0, int32(i)}) // connect ahead of the first event
		}
	}
	second := p.plan.second(clock())
	for {
		now := clock()
		if s := p.plan.second(now); s != second {
			p.tell(second, p.tally.Published-p.told)
			p.told, second = p.tally.Published, s
			p.expire(now)
		}
		over := now >= end || stop() || p.enough()
		if over && p.idle(now) {
			break
		}
		until := now + int64(50*time.Millisecond)
		for !over && len(p.due) > 0 && p.due[0].at <= now {
			p.step(p.due.pop().slot, now)
		}
		if !over && len(p.due) > 0 {
			until = min(until, p.due[0].at)
		}
		events, err := p.poll.wait(time.Duration(until - now))
		if err != nil {
			return err
		}
		for i := range events {
			if c := &p.conns[events[i].Fd]; c.fd >= 0 && c.age == events[i].Pad {
				p.event(events[i].Fd, events[i].Events)
			}
		}
	}
	for i := range p.conns {
		c := &p.conns[i]
		if c.state == busy {
			p.broke(int32(i), errors.New("publish: no answer within "+p.plan.cfg.Timeout.String()))
		}
		if c.fd >= 0 {
			closeSocket(c.fd, true)
		}
		if !p.enough() {
			p.tally.Unsent += c.unsent(min(end, clock()))
		}
	}
	p.tell(second, p.tally.Published-p.told)
	p.cpu.read()
	p.cpu.close()
	return nil
}

// enough says that as many events were sent as the run shall have.
func (p *publisher) enough() bool {
	n := p.plan.cfg.Events
	return n > 0 && p.begun >= n
}

// idle says that no answer is awaited any more.
func (p *publisher) idle(now int64) bool {
	for i := range p.conns {
		if c := &p.conns[i]; c.state == busy && now-c.since < int64(p.plan.cfg.Timeout) {
			return false
		}
	}
	return true
}

// step is the time of a connection that is not busy: it opens, or sends what is due.
func (p *publisher) step(slot int32, now int64) {
	c := &p.conns[slot]
	if c.state == free {
		p.send(slot, now)
		return
	}
	fd, err := dial(p.plan.source(int(slot)), p.plan.pub.target.addr, 0)
	if err == nil {
		c.age++
		if err = p.poll.add(fd, slot, c.age); err != nil {
			closeSocket(fd, true)
		}
	}
	if err != nil {
		p.closed(slot, fmt.Errorf("publish: %w", err))
		return
	}
	c.fd, c.state, c.since = fd, opening, now
}

// send makes and sends a request of what is due; where nothing is, it waits for that.
func (p *publisher) send(slot int32, now int64) {
	c := &p.conns[slot]
	if d := c.due(); d > now {
		p.due.push(wakeAt{d, slot})
		return
	}
	pub := p.plan.pub
	p.body, c.ahead = p.body[:0], c.ahead[:0]
	var name string
	for len(c.ahead) < p.plan.cfg.Batch && !p.enough() {
		d := c.due()
		if d > now || d >= p.end {
			break
		}
		p.begun++
		l, _ := c.next()
		if d == 0 {
			d = now
		}
		record(p.late, (now-d)/1000)
		name = p.name(l)
		sent, acked := p.board.sent(l)+1, p.board.acked(l)
		p.board.publish(l, sent, acked)
		p.data = appendPayload(p.data[:0], stamp{p.plan.run, l, sent, d / 1000}, p.plan.cfg.Size)
		if len(c.ahead) > 0 {
			p.body = append(p.body, '\n')
		}
		p.body = appendLine(p.body, pub.body, name, p.data)
		c.ahead = append(c.ahead, l)
	}
	if len(c.ahead) == 0 {
		return // the run is over for this one
	}
	c.room = pub.appendRequest(c.room[:0], name, p.data, p.body)
	c.out = c.room
	c.state, c.since = busy, now
	p.tally.Requests++
	p.write(slot)
}

// name answers the topic of a lane.
func (p *publisher) name(l uint32) string {
	if p.names[l] == "" {
		p.names[l] = p.plan.topicName(int(l) % p.plan.cfg.Topics)
	}
	return p.names[l]
}

// write sends what the socket takes of the request.
func (p *publisher) write(slot int32) {
	c := &p.conns[slot]
	for len(c.out) > 0 {
		n, errno := rawSend(c.fd, c.out)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			p.broke(slot, fmt.Errorf("publish: %w", errno))
			return
		}
		p.tally.BytesOut += uint64(n)
		c.out = c.out[n:]
	}
}

// event is what epoll says of a connection.
func (p *publisher) event(slot int32, events uint32) {
	c := &p.conns[slot]
	if c.state == opening {
		if errno := connectError(c.fd); errno != 0 {
			p.closed(slot, fmt.Errorf("publish: connect: %w", errno))
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		c.state = free
		p.send(slot, clock())
		return
	}
	if events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		if p.write(slot); c.state != busy {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		p.read(slot)
	}
}

// read reads answers.
func (p *publisher) read(slot int32) {
	c := &p.conns[slot]
	for {
		n, errno := rawRead(c.fd, p.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			p.hungUp(slot, errno)
			return
		case n == 0:
			p.hungUp(slot, 0)
			return
		}
		p.tally.BytesIn += uint64(n)
		b := p.buf[:n]
		if len(c.in) > 0 {
			c.in = append(c.in, b...)
			b = c.in
		}
		status, size, last, err := wholeAnswer(b)
		switch {
		case err == nil && size > 0 && (c.state != busy || size < len(b)):
			err = errors.New("publish: an answer that was not asked for")
			fallthrough
		case err != nil:
			p.broke(slot, err)
			return
		case size == 0:
			if len(c.in) == 0 {
				c.in = append(c.in, b...)
			}
		default:
			c.in = c.in[:0]
			p.answered(slot, status, last)
			return
		}
		if n < len(p.buf) {
			return
		}
	}
}

// answered settles the events in flight.
func (p *publisher) answered(slot int32, status int, last bool) {
	c := &p.conns[slot]
	now := clock()
	n := uint64(len(c.ahead))
	taken := status >= 200 && status < 300
	for _, l := range c.ahead {
		if sent, acked := p.board.sent(l), p.board.acked(l); taken {
			p.board.publish(l, sent, acked+1)
		} else {
			p.board.publish(l, sent-1, acked)
		}
	}
	wait := int64(0)
	if taken {
		p.tally.Published += n
		record(p.acks, (now-c.since)/1000)
	} else {
		p.tally.Refused += n
		p.reasons.add(fmt.Sprintf("publish: status %d", status), n)
		wait = int64(10 * time.Millisecond)
	}
	c.ahead = c.ahead[:0]
	if last {
		closeSocket(c.fd, true)
		c.fd, c.state = -1, closed
		p.due.push(wakeAt{now + wait, slot})
		return
	}
	c.state = free
	if wait > 0 || now >= p.end {
		p.due.push(wakeAt{now + wait, slot})
		return
	}
	p.send(slot, now)
}

// hungUp is the end of a connection. Between two requests it is the server's right.
func (p *publisher) hungUp(slot int32, errno syscall.Errno) {
	switch c := &p.conns[slot]; {
	case c.state == busy && errno != 0:
		p.broke(slot, fmt.Errorf("publish: %w", errno))
	case c.state == busy:
		p.broke(slot, errors.New("publish: the server hung up before it answered"))
	default:
		// Its entry in the heap stays: it opens again when something is due.
		closeSocket(c.fd, true)
		c.fd, c.state = -1, closed
	}
}

// broke ends a connection whose request has no answer: nobody knows what became of its events.
func (p *publisher) broke(slot int32, err error) {
	c := &p.conns[slot]
	p.tally.Unknown += uint64(len(c.ahead))
	for _, l := range c.ahead {
		// The numbers after the acknowledged one, up to the one sent. They count as used.
		if !p.board.hole(l, p.board.acked(l)+1) {
			p.reasons.add(fmt.Sprintf("publish: over %d events of unknown fate: losses are counted too high", maxHoles), 1)
		}
		p.board.publish(l, p.board.sent(l), p.board.acked(l)+1)
	}
	c.ahead = c.ahead[:0]
	p.closed(slot, err)
}

// closed counts a reason and tries again soon.
func (p *publisher) closed(slot int32, err error) {
	c := &p.conns[slot]
	p.reasons.add(err.Error(), 1)
	if c.fd >= 0 {
		closeSocket(c.fd, true)
	}
	c.fd, c.state, c.out, c.in = -1, closed, nil, c.in[:0]
	p.due.push(wakeAt{clock() + int64(100*time.Millisecond), slot})
}

// expire gives up on answers that take too long.
func (p *publisher) expire(now int64) {
	for i := range p.conns {
		if c := &p.conns[i]; (c.state == busy || c.state == opening) && now-c.since > int64(p.plan.cfg.Timeout) {
			p.broke(int32(i), errTimeout("publish answer", p.plan.cfg.Timeout))
		}
	}
}

// wholeAnswer looks for a whole answer at the beginning of b. size 0: not yet. last: the
// connection ends with it.
func wholeAnswer(b []byte) (status, size int, last bool, err error) {
	h, n, err := parseHead(b)
	if err != nil {
		return 0, 0, false, fmt.Errorf("publish: %w", err)
	}
	if n == 0 {
		return 0, 0, false, nil
	}
	switch {
	case h.status < 200:
		return 0, 0, false, fmt.Errorf("publish: status %d", h.status)
	case h.status == 204 || h.status == 304:
		return h.status, n, h.close, nil
	case h.chunked:
		var d encode.Dechunker
		rest := b[n:]
		for {
			piece, r, err := d.Next(rest)
			if err != nil {
				return 0, 0, false, fmt.Errorf("publish: %w", err)
			}
			rest = r
			if d.Done() {
				return h.status, len(b) - len(rest), h.close, nil
			}
			if len(piece) == 0 {
				return 0, 0, false, nil
			}
		}
	case h.length > 1<<20:
		return 0, 0, false, fmt.Errorf("publish: an answer of %d bytes", h.length)
	case h.length >= 0:
		if int64(len(b)-n) < h.length {
			return 0, 0, false, nil
		}
		return h.status, n + int(h.length), h.close, nil
	default:
		// Its end is the connection's: the status says all that is needed.
		return h.status, len(b), true, nil
	}
}
