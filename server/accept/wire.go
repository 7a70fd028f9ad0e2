package accept

// What fasthttp sees of a connection: one request's bytes, then the end; and its answers on their
// way out. The goroutine in the connection.

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	halfBody = &refusal{400, "the request ends within its body"}
	lateBody = &refusal{408, "the request's body has stopped"}

	// These stand for the Handler's Busy: half heads or bodies take all the
	// memory that they may.
	noHeads  = &refusal{status: 503}
	noBodies = &refusal{status: 503}
)

// full tells whether the Handler's Busy says it.
func (r *refusal) full() bool { return r == noHeads || r == noBodies }

func bodyTooLarge(most int64) *refusal {
	return &refusal{413, "body too large; the most is " + strconv.FormatInt(most, 10) + " bytes"}
}

func bufioReader(size int) *bufio.Reader { return bufio.NewReaderSize(bytes.NewReader(nil), size) }

// ahead is what has come and was not read, without a copy where it lies in one piece: what is
// held, or else at most most bytes of netpoll's.
func (l *long) ahead(most int) []byte {
	if len(l.held) > 0 || !l.attached.Load() {
		return l.held
	}
	p, _ := l.np.Reader().Peek(min(l.np.Reader().Len(), most))
	return p
}

// here is how many bytes have come and were not read, as far as ahead would show them.
func (l *long) here() int {
	if len(l.held) > 0 || !l.attached.Load() {
		return len(l.held)
	}
	return l.np.Reader().Len()
}

// skip leaves out n bytes of what is ahead, or of what upcoming has shown.
func (l *long) skip(n int) {
	switch {
	case len(l.held) > 0:
		l.dropHeld(n)
	case l.attached.Load():
		l.np.Reader().Skip(n)
		l.np.Reader().Release()
	default:
		drop(l.fd, n)
	}
}

func (l *long) dropHeld(n int) {
	if l.held = l.held[n:]; len(l.held) == 0 {
		l.forgetHeld()
	}
	l.a.held.Add(-int64(n))
}

// A store is what the accept thread takes out of a socket at once, and where the bytes lie that a
// connection begins the long way with: used again and again, so that a head leaves no garbage of its
// size behind.
type store [2 * shortMost]byte

var stores = sync.Pool{New: func() any { return new(store) }}

// moveHeld moves what is held, part of a head, to memory of its size: it may stay for long.
func (l *long) moveHeld() {
	if l.store != nil {
		held := bytes.Clone(l.held)
		l.forgetHeld()
		l.held = held
	}
}

// forgetHeld holds nothing any more.
func (l *long) forgetHeld() {
	l.held = nil
	if l.store != nil {
		stores.Put(l.store)
		l.store = nil
	}
}

// hold takes from netpoll, or from the socket where netpoll has nothing of it yet, what may belong to
// a head that is not whole; false when there is nothing.
func (l *long) hold() bool {
	if !l.attached.Load() {
		return l.holdMore()
	}
	n := min(l.np.Reader().Len(), headMost+1-min(len(l.held), headMost))
	if n == 0 {
		return false
	}
	if !l.mayHold(n) {
		return true
	}
	if l.held == nil {
		l.held = make([]byte, 0, max(n, 512))
		if l.requests > 0 {
			l.began = l.a.clock()
		}
	}
	p, _ := l.np.Reader().Peek(n)
	l.held = append(l.held, p...)
	l.np.Reader().Skip(n)
	l.np.Reader().Release()
	return true
}

// mayHold counts n bytes of a head that is not whole; false, and no set, where there is no room.
func (l *long) mayHold(n int) bool {
	if l.a.held.Add(int64(n)) > heldMost {
		l.a.held.Add(-int64(n))
		l.no = noHeads
		return false
	}
	return true
}

// holdMore is hold from the socket, for a large head most of which has come with its beginning. An end
// there is left for netpoll to find.
func (l *long) holdMore() bool {
	room := min(headMost+1-min(len(l.held), headMost), max(len(l.held), shortMost))
	if room == 0 {
		return false
	}
	l.held, l.emptied = slices.Grow(l.held, room), false
	n, errno := receive(l.fd, l.held[len(l.held):len(l.held)+room])
	if errno != 0 || n <= 0 {
		return false
	}
	if l.mayHold(n) {
		l.held = l.held[:len(l.held)+n]
	}
	return true
}

// Read gives fasthttp the request in hand: first its head, then its body, then io.EOF.
//
// At the end, fasthttp waits for the next request and takes io.EOF for a client that has closed;
// it returns, and holds no goroutine until more comes.
func (l *long) Read(p []byte) (int, error) {
	switch {
	case l.headLeft > 0:
		n, err := l.take(p[:min(len(p), l.headLeft)])
		l.headLeft -= n
		return n, err
	case l.head.chunked && !l.chunks.Done():
		return l.readChunked(p)
	case l.bodyLeft > 0:
		n, err := l.take(p[:min(int64(len(p)), l.bodyLeft)])
		if l.bodyLeft -= int64(n); l.bodyLeft == 0 {
			l.came()
		}
		return n, err
	}
	return 0, io.EOF
}

// readChunked gives bytes of a chunked body, as they are, up to its end. encode's Dechunker looks
// along, which is strict where fasthttp's is not.
func (l *long) readChunked(p []byte) (int, error) {
	b, err := l.upcoming(p)
	if err != nil {
		return 0, err
	}
	for rest := b; len(rest) > 0 && !l.chunks.Done(); {
		payload, next, err := l.chunks.Next(rest)
		if err != nil {
			l.no = bad("%v", err)
			return 0, err
		}
		if len(payload) == 0 {
			b = b[:len(b)-len(next)]
		}
		l.bodyCame += int64(len(payload))
		rest = next
	}
	if l.bodyCame > l.bodyMost {
		l.no = bodyTooLarge(l.bodyMost)
		return 0, io.ErrUnexpectedEOF
	}
	if more := l.bodyCame - l.reserved; more > freeBody && !l.reserve(more) {
		l.no = noBodies
		return 0, io.ErrUnexpectedEOF
	}
	if l.chunks.Done() {
		l.came()
	}
	n := copy(p, b)
	l.skip(n)
	return n, nil
}

// readAll tells whether fasthttp has read the request to its end.
func (l *long) readAll() bool {
	return l.headLeft == 0 && l.bodyLeft == 0 && (!l.head.chunked || l.chunks.Done())
}

// take moves bytes of the request into p, at least one. It waits for them.
func (l *long) take(p []byte) (int, error) {
	if len(l.held) > 0 {
		n := copy(p, l.held)
		l.dropHeld(n)
		return n, nil
	}
	l.emptied = false
	if !l.attached.Load() {
		if n, errno := receive(l.fd, p); errno != syscall.EAGAIN {
			return l.received(n, errno)
		}
	}
	if err := l.wait(); err != nil {
		return 0, err
	}
	return l.np.Read(p)
}

// upcoming shows bytes of the request, at least one and as many as room has, and leaves them
// where they are. It waits for them.
func (l *long) upcoming(room []byte) ([]byte, error) {
	if len(l.held) > 0 {
		return l.held[:min(len(l.held), len(room))], nil
	}
	l.emptied = false
	if !l.attached.Load() {
		if n, errno := peek(l.fd, room); errno != syscall.EAGAIN {
			n, err := l.received(n, errno)
			return room[:n], err
		}
	}
	if err := l.wait(); err != nil {
		return nil, err
	}
	return l.ahead(len(room)), nil
}

// received judges what came of reading from the socket.
func (l *long) received(n int, errno syscall.Errno) (int, error) {
	if errno != 0 || n <= 0 {
		l.no = halfBody
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// wait returns when netpoll has something of the body.
func (l *long) wait() error {
	if !l.attached.Load() && !l.attach() {
		l.no = halfBody
		return io.ErrUnexpectedEOF
	}
	if l.np.Reader().Len() > 0 {
		return nil
	}
	l.deadline.Store(min(l.a.clock()+int64(l.a.o.BodyTimeout), l.bodyEnd))
	_, err := l.np.Reader().Peek(1)
	l.deadline.Store(0)
	switch {
	case err == nil:
		return nil
	case l.expired.Load():
		l.no = lateBody
	default:
		l.no = halfBody
	}
	return io.ErrUnexpectedEOF
}

// Write sends p. It goes past netpoll, which refuses to write once the client has half-closed.
func (l *long) Write(p []byte) (int, error) {
	if l.mute || l.leaving != staying {
		return len(p), nil
	}
	for sent := 0; sent < len(p); {
		n, errno := send(l.fd, p[sent:])
		switch {
		case errno == 0:
			sent += n
		case errno != syscall.EAGAIN:
			return sent, errno
		default:
			n, err := l.writeSlowly(p[sent:])
			if sent += n; err != nil {
				return sent, err
			}
		}
	}
	return len(p), nil
}

// writeSlowly waits until the client takes more.
func (l *long) writeSlowly(p []byte) (int, error) {
	if !l.attached.Load() && !l.attach() {
		return 0, syscall.EBADF
	}
	if !l.np.IsActive() {
		// Half-closed: netpoll waits for nothing any more. Rare enough for a thread.
		fds := []unix.PollFd{{Fd: l.fd, Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, int(l.a.o.BodyTimeout/time.Millisecond))
		if err == nil && n == 0 {
			l.a.count.timeouts.Add(1)
			return 0, syscall.ETIMEDOUT
		}
		if err == syscall.EINTR {
			err = nil
		}
		return 0, err
	}
	// One byte, so that it is sent or it is not, whatever ends the wait.
	l.writing.Store(true)
	l.deadline.Store(l.a.clock() + int64(l.a.o.BodyTimeout))
	n, err := l.np.Write(p[:1])
	l.deadline.Store(0)
	l.writing.Store(false)
	if err != nil && !l.expired.Load() {
		return 0, nil // half-closed while it waited; or gone, which the next send tells
	}
	return n, err
}

// Close does nothing: fasthttp ends requests, not connections.
func (l *long) Close() error { return nil }

// LocalAddr is the address that was listened on.
func (l *long) LocalAddr() net.Addr { return l.a.addrs[l.from.Listener] }

// RemoteAddr is the client's. Source gives it without allocation.
func (l *long) RemoteAddr() net.Addr {
	if !l.from.Remote.IsValid() {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(l.from.Remote)
}

// SetDeadline does nothing: the accept thread keeps the time.
func (l *long) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (l *long) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (l *long) SetWriteDeadline(time.Time) error { return nil }
