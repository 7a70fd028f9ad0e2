package loadtest

// A reader: a locked thread, its epoll set, and its share of the subscribers.
//
// Everything here runs on that thread but newReader. What others may know of it, it tells the
// collector four times a second (status.go).

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"penstock/encode"
)

// A reader's slabs are made once: the collector never has to look at a stream.
type reader struct {
	plan  *plan
	board *board
	poll  *poller
	tell  func(*status)
	index int // of all readers of the run
	first int // number of the subscriber in slot 0

	subs    []subscriber
	lanes   []lane   // of slot s from s*watch*perTop: topic by topic in its list's order
	topics  []uint32 // of slot s from s*watch; empty where each has one
	timed   bool     // latency counts; see plan.timed
	waiting int      // slots that have not been connected for the first time
	pending int      // between connect and the answer's head

	heads   map[int32][]byte   // of answers that came in pieces
	ids     map[int32]string   // last ids that are no numbers
	spare   []*encode.Inflater // of streams that ended
	wake    wakeHeap
	more    []int32 // slots that were left with bytes to read
	slow    []int32
	slowNow bool // slow readers hold back

	buf     []byte
	scratch []byte
	askTail []byte
	each    func(*encode.Decoded)
	slot    int32 // whose blocks are handed to each
	now     int64 // when the bytes in hand were read
	newest  int64 // when the newest event was

	tally      Tally
	reasons    Reasons
	latency    *hdrhistogram.Histogram
	connects   *hdrhistogram.Histogram
	firstBytes *hdrhistogram.Histogram
	resumes    *hdrhistogram.Histogram

	rng       *rand.Rand
	paced     int64 // when pacing began
	opened    int   // by pacing
	churned   float64
	churnFrom int64
	stormed   bool
	drained   bool
	slowAt    int64
	tellAt    int64

	toldSettled bool
	started     bool
	cpu         threadClock
}

// readBuffer holds what one read takes: 20 KB batches whole, and small enough for a core's cache.
const readBuffer = 128 << 10

// maxPending bounds the handshakes that all readers have in flight: more than a listen backlog
// holds (somaxconn is 4,096) would measure the kernel's resends.
const maxPending = 2048

// newReader makes a reader for subscribers first to first+count-1.
func newReader(p *plan, b *board, index, first, count int, tell func(*status)) (*reader, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	r := &reader{
		plan: p, board: b, poll: poll, tell: tell, index: index, first: first,
		subs:    make([]subscriber, count),
		lanes:   make([]lane, count*p.cfg.Watch*p.perTop),
		waiting: count, timed: p.timed(first),
		heads: map[int32][]byte{}, ids: map[int32]string{},
		buf: make([]byte, readBuffer), reasons: Reasons{},
		latency: newHistogram(), connects: newHistogram(), firstBytes: newHistogram(), resumes: newHistogram(),
		rng: rand.New(rand.NewPCG(p.cfg.Seed, uint64(index))),
	}
	r.each = r.block
	r.askTail = p.base.subscribeHead("", p.cfg.Coding, p.cfg.SubscribeH)[len("GET "):]
	if p.cfg.Watch > 1 {
		r.topics = make([]uint32, count*p.cfg.Watch)
	}
	for i := range r.lanes {
		r.lanes[i].begin(1)
	}
	for i := range r.subs {
		r.subs[i].fd = -1
		if p.cfg.Watch > 1 {
			p.watched(r.topicsOf(int32(i)), first+i)
		}
		r.subs[i].blind = !p.checks(first + i)
		if p.slow(first + i) {
			r.subs[i].slow = true
			r.slow = append(r.slow, int32(i))
		}
	}
	return r, nil
}

// topicsOf answers the topics of a slot, sorted. Where each has one, the slice is lent until the next call.
func (r *reader) topicsOf(slot int32) []uint32 {
	w := r.plan.cfg.Watch
	if w > 1 {
		return r.topics[int(slot)*w : int(slot+1)*w]
	}
	return []uint32{uint32((r.first + int(slot)) % r.plan.cfg.Topics)}
}

// laneAt answers where the lanes of the i-th topic of a slot begin.
func (r *reader) laneAt(slot int32, i int) int {
	return (int(slot)*r.plan.cfg.Watch + i) * r.plan.perTop
}

// laneOf finds a lane of a slot; false: it hears no such topic.
func (r *reader) laneOf(slot int32, l uint32) (int, bool) {
	if l >= uint32(r.plan.lanes) {
		return 0, false
	}
	topics := uint32(r.plan.cfg.Topics)
	t, k := l%topics, int(l/topics)
	if r.plan.cfg.Watch == 1 {
		return int(slot)*r.plan.perTop + k, t == uint32(r.first+int(slot))%topics
	}
	i, ok := slices.BinarySearch(r.topicsOf(slot), t)
	return r.laneAt(slot, i) + k, ok
}

// run is the thread, until the run's end.
func (r *reader) run() error {
	runtime.LockOSThread() // and never unlocked: the thread ends with it
	defer r.poll.close()
	r.paced = clock()
	for {
		r.now = clock()
		phase := r.board.phase()
		if phase == phaseEnd {
			break
		}
		r.timers(phase)
		events, err := r.poll.wait(r.rest(phase))
		if err != nil {
			return err
		}
		r.now = clock()
		for i := range events {
			ev := &events[i]
			if s := &r.subs[ev.Fd]; s.fd >= 0 && s.age == ev.Pad {
				r.event(ev.Fd, ev.Events)
			}
		}
		for n := len(r.more); n > 0; n-- {
			slot := r.more[0]
			r.more = append(r.more[:0], r.more[1:]...)
			if r.subs[slot].ready && r.subs[slot].state == live {
				r.read(slot, 1<<20, true)
			}
		}
	}
	r.finish()
	return nil
}

// rest answers how long to wait at most.
func (r *reader) rest(phase uint32) time.Duration {
	if len(r.more) > 0 {
		return 0
	}
	until := min(r.tellAt, r.now+int64(50*time.Millisecond))
	if len(r.wake) > 0 {
		until = min(until, r.wake[0].at)
	}
	if len(r.slow) > 0 && phase == phaseMeasure && r.plan.cfg.SlowRate > 0 {
		until = min(until, r.slowAt)
	}
	if r.waiting > 0 && r.pending < r.mayPend() {
		until = min(until, r.now+int64(time.Millisecond))
	}
	return time.Duration(until - r.now)
}

// mayPend is this reader's part of maxPending.
func (r *reader) mayPend() int { return max(16, maxPending*len(r.subs)/r.plan.cfg.Subscribers) }

// timers does what is due by the clock.
func (r *reader) timers(phase uint32) {
	if r.waiting > 0 && phase == phaseConnect {
		r.pace()
	}
	for len(r.wake) > 0 && r.wake[0].at <= r.now && r.pending < r.mayPend() {
		r.connect(r.wake.pop().slot, r.now)
	}
	if phase == phaseMeasure {
		if !r.started {
			r.started = true
			r.churnFrom, r.slowAt = r.now, r.now
		}
		r.comings()
	}
	r.hold(phase)
	// That all have had their try is told at once.
	if r.now >= r.tellAt || r.toldSettled != r.settled() {
		r.expire()
		if phase == phaseDrain {
			r.drained = r.complete()
		}
		r.toldSettled = r.settled()
		r.report()
		r.tellAt = r.now + int64(250*time.Millisecond)
		if phase == phaseDrain {
			r.tellAt = r.now + int64(25*time.Millisecond)
		}
	}
}

// pace opens the connections that are due.
func (r *reader) pace() {
	rate := float64(r.plan.cfg.ConnectRate) * float64(len(r.subs)) / float64(r.plan.cfg.Subscribers)
	due := min(len(r.subs), 1+int(rate*float64(r.now-r.paced)/1e9))
	for n := 0; r.opened < due && r.pending < r.mayPend() && n < 64; n++ {
		r.connect(int32(r.opened), r.now)
		r.opened++
	}
}

// comings lets subscribers leave, as the scenario says. They come back by the wake heap.
func (r *reader) comings() {
	cfg := &r.plan.cfg
	if cfg.Storm && !r.stormed && r.now-r.board.start() > int64(cfg.Duration)/3 {
		r.stormed = true
		for i := range r.subs {
			if r.subs[i].state == live && r.plan.leaves(r.first+i) {
				r.leave(int32(i), cfg.Away)
			}
		}
	}
	// Nobody leaves so late that it could not be back in time.
	if cfg.ChurnRate > 0 && r.now-r.board.start() < int64(cfg.Duration-cfg.Away)-int64(cfg.Duration)/10 {
		rate := cfg.ChurnRate * float64(len(r.subs)) / float64(cfg.Subscribers)
		for due := rate * float64(r.now-r.churnFrom) / 1e9; r.churned < due; r.churned++ {
			slot := int32(r.rng.IntN(len(r.subs)))
			if s := &r.subs[slot]; s.state == live && !s.slow {
				r.leave(slot, cfg.Away)
			}
		}
	}
}

// slowStep is how often a slow reader reads.
const slowStep = 100 * time.Millisecond

// hold holds slow readers back: each reads its rate in steps, and from two thirds of the measured
// part on all they can, so that they see what became of what they missed.
func (r *reader) hold(phase uint32) {
	if len(r.slow) == 0 {
		return
	}
	holding := phase == phaseMeasure && r.now-r.board.start() < int64(r.plan.cfg.Duration)*2/3
	if !holding && r.slowNow {
		r.slowNow = false
		for _, slot := range r.slow {
			if s := &r.subs[slot]; s.state == live {
				r.read(slot, 1<<20, true)
			}
		}
	}
	r.slowNow = holding
	if !holding || r.plan.cfg.SlowRate == 0 || r.now < r.slowAt {
		return
	}
	r.slowAt = r.now + int64(slowStep)
	for _, slot := range r.slow {
		if s := &r.subs[slot]; s.state == live && s.ready {
			r.read(slot, max(1, r.plan.cfg.SlowRate/int(time.Second/slowStep)), true)
		}
	}
}

// expire gives up on handshakes that take too long.
func (r *reader) expire() {
	if r.pending == 0 {
		return
	}
	limit := r.now - int64(r.plan.cfg.Timeout)
	for i := range r.subs {
		s := &r.subs[i]
		if s.state == connecting && s.since < limit {
			r.fail(int32(i), errTimeout("connect", r.plan.cfg.Timeout))
			continue
		}
		if s.state == asking && s.asked < limit {
			r.read(int32(i), 1<<20, false) // the answer may be here: a reader with much to do is late itself
		}
		if s.state == asking && s.asked < limit {
			r.fail(int32(i), errTimeout("answer", r.plan.cfg.Timeout))
		}
	}
}

// lingering is how long a run waits for events that others have overtaken, after the last event.
const lingering = 500 * time.Millisecond

// complete says whether every lane of every live stream has all that was acknowledged; what was
// overtaken by later events may still come, and is given a while.
func (r *reader) complete() bool {
	if len(r.wake) > 0 || r.pending > 0 {
		return false
	}
	overtaken := false
	reached := r.eachLane(func(l uint32, st *lane) bool {
		overtaken = overtaken || st.window != ^uint64(0) && !r.plan.latest
		return r.reached(l, st)
	})
	return reached && (!overtaken || r.now-r.newest > int64(lingering))
}

// reached says whether a lane has come to the last event that was acknowledged.
func (r *reader) reached(l uint32, st *lane) bool {
	return int32(r.board.acked(l)+1-st.next) <= 0
}

// hasAll says whether all lanes of a slot have.
func (r *reader) hasAll(slot int32) bool { return r.lanesOf(slot, r.reached) }

// eachLane calls f for the lanes of all live streams until it answers false.
func (r *reader) eachLane(f func(l uint32, st *lane) bool) bool {
	for slot := range r.subs {
		if r.subs[slot].state != live || r.subs[slot].blind {
			continue
		}
		if !r.lanesOf(int32(slot), f) {
			return false
		}
	}
	return true
}

// lanesOf calls f for the lanes of a slot until it answers false.
func (r *reader) lanesOf(slot int32, f func(l uint32, st *lane) bool) bool {
	for i, t := range r.topicsOf(slot) {
		for k := range r.plan.perTop {
			l := int(t) + k*r.plan.cfg.Topics
			if l >= r.plan.lanes {
				break
			}
			if !f(uint32(l), &r.lanes[r.laneAt(slot, i)+k]) {
				return false
			}
		}
	}
	return true
}

// finish judges what has not come and closes everything.
func (r *reader) finish() {
	for slot := range r.subs {
		s := &r.subs[slot]
		if s.state == waiting || s.state == failed && !s.again {
			continue // it never had a stream: an error, and not a loss
		}
		if s.blind {
			r.close(s)
			continue
		}
		r.lanesOf(int32(slot), func(l uint32, st *lane) bool {
			last := r.board.acked(l)
			if j := st.end(last); j.missing > 0 || j.emptyGap {
				r.unusual(l, last+1, j, false)
			}
			return true
		})
		r.close(s)
	}
	r.drained = true
	r.report()
	r.cpu.close()
}

// close closes the socket of a subscriber, if it has one, at the end.
func (r *reader) close(s *subscriber) {
	if s.fd >= 0 {
		closeSocket(s.fd, true)
		s.fd = -1
	}
}

// settled says that every subscriber has had its first try.
func (r *reader) settled() bool { return r.waiting == 0 && r.pending == 0 }

// A timeoutError keeps its text free of changing numbers: it is a reason that is counted.
type timeoutError struct {
	what string
	d    time.Duration
}

func errTimeout(what string, d time.Duration) error { return &timeoutError{what, d} }

func (e *timeoutError) Error() string { return "no " + e.what + " within " + e.d.String() }
