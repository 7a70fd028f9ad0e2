package loadtest

// From a slot to a stream: connect, and ask. Everything here runs on the reader's thread.

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// connect begins a connection.
func (r *reader) connect(slot int32, now int64) {
	s := &r.subs[slot]
	if s.state == waiting {
		r.waiting--
	}
	r.tally.Opened++
	s.age++
	buffer := 0
	if s.slow {
		buffer = 32 << 10 // a slow reader's window; the kernel's own would hide it for megabytes
	}
	number := r.first + int(slot)
	fd, err := dial(r.plan.source(number), r.plan.base.addr, buffer)
	if err == nil {
		if err = r.poll.add(fd, slot, s.age); err != nil {
			closeSocket(fd, true)
		}
	}
	if !s.again {
		s.since = now
	}
	if err != nil {
		s.fd = -1
		r.fail(slot, err)
		return
	}
	s.fd = fd
	s.state = connecting
	r.pending++
	r.ask(slot) // a loopback connection stands already
}

// ask sends the request if the socket takes it.
func (r *reader) ask(slot int32) {
	s := &r.subs[slot]
	b := r.appendAsk(r.scratch[:0], slot)
	r.scratch = b
	n, errno := rawSend(s.fd, b)
	switch {
	case errno == unix.EAGAIN || errno == unix.ENOTCONN:
		return // EPOLLOUT, or EPOLLERR, will come
	case errno != 0:
		r.fail(slot, fmt.Errorf("connect: %w", errno))
		return
	case n < len(b):
		r.fail(slot, fmt.Errorf("send the request: the socket took %d of %d bytes", n, len(b)))
		return
	}
	r.poll.onlyReads(s.fd, slot, s.age)
	now := clock()
	s.state = asking
	s.asked = now
	record(r.connects, (now-s.since)/1000)
}

// appendAsk appends the request of a subscriber.
func (r *reader) appendAsk(dst []byte, slot int32) []byte {
	s := &r.subs[slot]
	list := r.topicsOf(slot)
	dst = append(dst, "GET "...)
	dst = r.plan.appendPath(dst, list)
	dst = append(dst, r.askTail...)
	if s.again {
		if id := r.idOf(slot); id != "" {
			dst = append(append(append(dst, "Last-Event-ID: "...), id...), '\r', '\n')
		}
	}
	return append(dst, '\r', '\n')
}

// idOf answers the last id of a subscriber's streams, "" where it had none.
func (r *reader) idOf(slot int32) string {
	s := &r.subs[slot]
	switch {
	case s.wordID:
		return r.ids[slot]
	case s.hasID:
		return strconv.FormatUint(s.lastID, 10)
	}
	return ""
}

// appendPath appends the path for a list of topics.
func (p *plan) appendPath(dst []byte, list []uint32) []byte {
	path := p.base.path
	if len(list) == 1 {
		i := bytes.IndexByte([]byte(path), '{')
		if i < 0 {
			return append(dst, path...)
		}
		if rest := path[i:]; len(rest) >= len(markTopic) && rest[:len(markTopic)] == markTopic {
			dst = append(append(dst, path[:i]...), p.prefix...)
			dst = strconv.AppendUint(dst, uint64(list[0]), 10)
			return append(dst, rest[len(markTopic):]...)
		}
	}
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = p.topicName(int(t))
	}
	return append(dst, p.base.withTopics(names)...)
}
