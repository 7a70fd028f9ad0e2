package accept

// The accept thread: it takes connections from the listening socket and what they sent,
// and chooses their way. It also keeps the time for all of accept.

import (
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortMost = 4 << 10 // bytes of a head that the short way takes, and of a request that the quick one does

	acceptMost = 64 // connections taken before other events have their turn

	// overMost is how many connections over MaxConnections are heard and lingered
	// with at the most, and how many more for health: together less than what
	// whoever sets MaxConnections by the limit of descriptors keeps back.
	overMost = 48

	// What epoll gives back for the bell and the listening sockets, beside places: the first one's
	// number is doorEvent, the next one's less by one.
	bellEvent = -1
	doorEvent = -2

	// pause is how long nobody is accepted once the kernel had no
	// descriptor or memory for another connection.
	pause = 100 * time.Millisecond

	// gatherFrom connections in a round of events are a crowd, and the next ones are left to gather
	// for gatherTimes as long as the round took, but at most gatherMost.
	gatherFrom  = 4
	gatherTimes = 16
	gatherMost  = 2 * time.Millisecond

	// quiet is how long the log is not told so again.
	quiet = time.Minute

	readable = unix.EPOLLIN | unix.EPOLLRDHUP
	ending   = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// An Acceptor serves some addresses: their listening sockets, one accept thread for all, the
// connections until they are closed or a shard's.
type Acceptor struct {
	o        Options
	live     atomic.Pointer[Limits]
	addrs    []net.Addr // in the order of o.Listen
	began    time.Time  // of its clock
	count    counters
	draining atomic.Bool
	longWay
	mail    mail
	stopped chan struct{} // closed when the thread has ended

	// The accept thread's alone.
	doors    []door // in the same order; closed ones are gone
	set      epoll
	places   places
	halves   halves
	now      int64 // when this round of events began
	peer     peer
	head     head
	short    short
	quick    quick
	enlisted bool  // streams wait for HandOver
	resumeAt int64 // paused until then; 0: not paused
	came     int   // connections in this round of events
	more     bool  // and others still wait
	meter    meter // of connections
	told     int64 // when the log was told why; 0: never
	sweepAt  int64
	due      []*long
	closeAt  int64 // closing, by force from then on; 0: not closing
	forced   bool
	moving
	buf    *store // what has just been taken out of a socket
	events [128]unix.EpollEvent
}

// Listen opens the addresses of o.Listen and starts to serve them. The error says what an address
// lacks.
func Listen(o Options) (*Acceptor, error) {
	if o.Handler == nil {
		panic("accept: Listen: no Handler")
	}
	if len(o.Listen) == 0 || len(o.Listen) > MostListeners {
		panic("accept: Listen: no address, or more than MostListeners")
	}
	o.fill()
	a := &Acceptor{o: o, began: time.Now(), places: newPlaces(), stopped: make(chan struct{})}
	a.frozen = o.Frozen
	a.Limit(o.Limits)
	a.halves = halves{all: make(map[int32][]byte), held: &a.held}
	a.buf = stores.Get().(*store)
	a.short.init()
	a.quick.init(a)
	a.longWay.init(a)
	var err error
	if err = openPollers(); err != nil {
		return nil, err
	}
	if err = a.listen(); err == nil {
		err = a.open()
	}
	if err != nil {
		a.closeDoors()
		return nil, err
	}
	logs.use(a.o.Log)
	go a.run()
	return a, nil
}

// open opens the thread's own epoll set and its bell.
func (a *Acceptor) open() error {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open an epoll set: %w", err)
	}
	a.set = epoll(set)
	a.mail.bell, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(set)
		return fmt.Errorf("open an eventfd: %w", err)
	}
	// Edge-triggered, the bell need not be read.
	errno := a.set.add(int32(a.mail.bell), unix.EPOLLIN|unix.EPOLLET, bellEvent)
	if errno == 0 && !a.frozen {
		errno = a.watchDoors()
	}
	if errno != 0 {
		unix.Close(a.mail.bell)
		unix.Close(set)
		return fmt.Errorf("watch the listening sockets: %w", errno)
	}
	return nil
}

// Limit puts limits in the place of those that hold. Whoever is in keeps its place. Any goroutine.
func (a *Acceptor) Limit(l Limits) {
	l.fill(a.o.MaxBodySize)
	a.live.Store(&l)
}

// limits are those that hold now. Any goroutine.
func (a *Acceptor) limits() *Limits { return a.live.Load() }

// Addr is the first of Addrs. Any goroutine.
func (a *Acceptor) Addr() net.Addr { return a.addrs[0] }

// Addrs are the addresses that are served, with their ports, in the order of Options.Listen. Any
// goroutine; they must not be changed.
func (a *Acceptor) Addrs() []net.Addr { return a.addrs }

// Drain makes connections end with the request in hand, and idle ones now. The port stays open:
// the Handler, which drains too, answers whoever comes. Any goroutine.
func (a *Acceptor) Drain() {
	a.draining.Store(true)
	a.mail.leave(func(m *mail) { m.drain = true })
}

// Close stops listening, ends connections between requests, waits at most CloseTimeout for
// requests in hand, and ends the thread. Streams are the shards' and live on. Any goroutine.
func (a *Acceptor) Close() {
	a.draining.Store(true)
	a.mail.leave(func(m *mail) { m.stop = true })
	<-a.stopped
}

func (a *Acceptor) clock() int64 { return int64(time.Since(a.began)) }

// run is the accept thread.
func (a *Acceptor) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(a.stopped)
	for !a.over() {
		n := a.set.wait(a.events[:], a.patience())
		a.now = a.clock()
		a.came, a.more = 0, false
		a.quick.left = quickMost
		for i := range a.events[:n] {
			switch ev := &a.events[i]; {
			case ev.Fd >= 0:
				a.happened(ev.Fd, ev.Events)
			case ev.Fd == bellEvent:
				a.readMail()
			default:
				a.acceptSome(uint8(doorEvent - ev.Fd))
			}
		}
		if a.enlisted {
			a.enlisted = false
			a.o.Shards.HandOver()
		}
		a.places.settle()
		a.timers()
		a.gather()
	}
	a.mail.mu.Lock()
	a.mail.closed = true
	linger, idle := a.mail.linger, a.mail.idle
	a.mail.mu.Unlock()
	for _, fd := range linger {
		a.close(fd)
	}
	for _, k := range idle {
		a.close(k.fd)
	}
	close(a.hands.next)
	unix.Close(a.mail.bell)
	unix.Close(int(a.set))
}

// patience is how long the thread may sleep; below 0 for ever.
func (a *Acceptor) patience() time.Duration {
	next := a.places.next(a.frozen)
	for _, at := range []int64{a.resumeAt, a.sweepAt, a.closeAt} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next == 0 {
		return -1
	}
	return time.Duration(max(0, next-a.clock()))
}

// timers ends what is over.
func (a *Acceptor) timers() {
	if !a.frozen {
		a.endLate()
	}
	for at := a.places.due(&a.places.lingering, a.now); at != nowhere; at = a.places.due(&a.places.lingering, a.now) {
		a.leave(a.places.all[at].fd, at)
	}
	if a.resumeAt != 0 && a.now >= a.resumeAt {
		a.resume()
	}
	if a.sweepAt != 0 && a.now >= a.sweepAt {
		a.sweep()
	}
	if a.closeAt != 0 && a.now >= a.closeAt && !a.forced {
		a.force()
	}
}

// endLate ends those whose request has not come in time.
func (a *Acceptor) endLate() {
	for at := a.places.due(&a.places.heads, a.now); at != nowhere; at = a.places.due(&a.places.heads, a.now) {
		a.count.timeouts.Add(1)
		a.refuse(a.places.all[at].fd, at, lateHead)
	}
	for at := a.places.due(&a.places.idle, a.now); at != nowhere; at = a.places.due(&a.places.idle, a.now) {
		a.leave(a.places.all[at].fd, at)
	}
}

// happened deals with an event of a socket that has a place.
func (a *Acceptor) happened(at int32, events uint32) {
	if int(at) >= len(a.places.all) {
		return
	}
	p := &a.places.all[at]
	switch {
	case p.fd < 0:
		// It has left since, in this round.
	case p.is == lingering:
		a.lingerOn(p, at)
	case a.frozen:
		// It is told again by the thaw, here or elsewhere.
	case p.is == idle:
		a.again(p.fd, p.from(), at, events&ending != 0)
	default:
		a.look(p.fd, p.from(), at, events&ending != 0)
	}
}

// look takes what waits in a socket and judges it. at is its place, if it has one; ended says that
// the client will send nothing more.
func (a *Acceptor) look(fd int32, from From, at int32, ended bool) {
	a.lookOn(fd, from, at, a.halves.take(at, a.buf[:]), ended)
}

// lookOn is look where had bytes of the request lie in buf already: less than fill it.
func (a *Acceptor) lookOn(fd int32, from From, at int32, had int, ended bool) {
	a.quick.waits = false
	n, errno := receive(fd, a.buf[had:])
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		n = 0
	case errno != 0:
		a.count.resets.Add(1)
		a.leave(fd, at)
		return
	case n == 0 && had == 0:
		a.count.silent.Add(1)
		a.leave(fd, at)
		return
	case n == 0:
		ended = true
	}
	a.consider(fd, from, at, had+n, ended)
}

// consider judges the first n bytes of buf, which have come from a socket, are no longer in it, and
// begin with a request.
func (a *Acceptor) consider(fd int32, from From, at int32, n int, ended bool) {
	b := a.buf[:n]
	var s scan
	size, no := s.end(b)
	if no == nil && size == 0 {
		switch {
		case n >= shortMost:
			a.goLongWith(fd, from, at, n)
			return
		case !ended:
			a.await(fd, from, at, b)
			return
		case blank(b):
			a.count.silent.Add(1)
			a.finish(fd, at)
			return
		}
		no = halfHead
	}
	if size > shortMost {
		a.goLongWith(fd, from, at, n) // where it takes another core's time
		return
	}
	if no == nil {
		no = a.head.parse(b, &s, size)
	}
	if no != nil {
		a.count.badHeads.Add(1)
		a.refuse(fd, at, no)
		return
	}
	why, full := a.full(fd)
	full = full && a.o.Handler.Room(a.head.path()) != Health
	if !full && !a.head.plain() {
		if !ended {
			if answer, ok := a.quickly(from, b); ok {
				a.answerQuick(fd, from, at, answer)
				return
			}
		}
		a.goLongWith(fd, from, at, n)
		return
	}
	a.goShort(fd, from, at, n, full, why)
}

// await gives a socket without a whole head its place and its time, if it has none, and holds what
// has come of it.
func (a *Acceptor) await(fd int32, from From, at int32, half []byte) {
	if at != nowhere {
		a.hold(fd, at, half)
		return
	}
	at, p := a.places.take(fd)
	p.remote, p.listener = from.Remote, from.Listener
	p.deadline = a.now + int64(a.o.HandshakeTimeout)
	a.places.push(&a.places.heads, at)
	a.count.waiting.Add(1)
	// Edge-triggered, for the sake of Freeze, which leaves what comes in the socket. What has come
	// between the look and here is told.
	if errno := a.set.add(fd, readable|unix.EPOLLET, at); errno != 0 {
		a.count.errors.Add(1)
		a.leave(fd, at)
		return
	}
	a.hold(fd, at, half)
}

// hold keeps what has come of a head, if there is room.
func (a *Acceptor) hold(fd, at int32, half []byte) {
	if len(half) == 0 {
		return
	}
	if a.held.Load()+int64(len(half)) > heldMost {
		a.count.busy.Add(1)
		a.answer(fd, at, a.o.Handler.Busy(a.short.answer[:0], nil, a.places.all[at].from(), FullHeads))
		return
	}
	a.halves.put(at, half)
}

// depart takes a socket out of the table and the epoll set: another thread will have it.
func (a *Acceptor) depart(fd, at int32) {
	if at == nowhere {
		return
	}
	a.set.remove(fd)
	a.vacate(at)
}

// vacate gives a place back.
func (a *Acceptor) vacate(at int32) {
	a.unlist(at)
	a.places.give(at)
}

// unlist takes a socket out of the list that it is in.
func (a *Acceptor) unlist(at int32) {
	switch a.places.all[at].is {
	case lingering:
		a.places.pull(&a.places.lingering, at)
		a.count.lingering.Add(-1)
	case idle:
		a.places.pull(&a.places.idle, at)
	default:
		a.places.pull(&a.places.heads, at)
		a.halves.drop(at)
		a.count.waiting.Add(-1)
	}
}

// leave closes a socket for good. Its epoll item goes with it.
func (a *Acceptor) leave(fd, at int32) {
	if at != nowhere {
		a.vacate(at)
	}
	a.close(fd)
}

// gone closes a socket. Any goroutine.
func (a *Acceptor) gone(fd int32) {
	a.o.Addresses.leave(fd) // before the number can be another connection's
	closeSocket(fd)
	a.count.open.Add(-1)
}

func (a *Acceptor) close(fd int32) {
	a.gone(fd)
	if a.resumeAt != 0 {
		a.resumeAt = a.now // there is a descriptor again
	}
}

// refuse answers a head that can't be taken.
func (a *Acceptor) refuse(fd, at int32, no *refusal) {
	a.answer(fd, at, a.o.Handler.Error(a.short.answer[:0], nil, no.status, no.text))
}

// stopListening begins the end. Whoever waits in the queue is reset; whoever has not asked for
// anything is closed.
func (a *Acceptor) stopListening() {
	a.closeAt = a.now + int64(a.o.CloseTimeout)
	a.closeDoors()
	a.resumeAt = 0
	for at := a.places.heads.oldest; at != nowhere; at = a.places.heads.oldest {
		a.leave(a.places.all[at].fd, at)
	}
}

// over tells whether the thread may end.
func (a *Acceptor) over() bool {
	if a.closeAt == 0 {
		return false
	}
	// A handler that does not return soon after force keeps its descriptor, not us.
	return a.longs.len() == 0 && a.places.lingering.size == 0 && a.mail.empty() || a.forced && a.now >= a.closeAt
}

// force ends what has not ended in time.
func (a *Acceptor) force() {
	a.forced = true
	a.closeAt = a.now + int64(min(a.o.CloseTimeout/4, time.Second))
	for at := a.places.lingering.oldest; at != nowhere; at = a.places.lingering.oldest {
		a.leave(a.places.all[at].fd, at)
	}
	a.cutAll()
}
