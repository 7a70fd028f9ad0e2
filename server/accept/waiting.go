package accept

// Sockets on the accept thread: without a whole head yet, or answered and lingering. All of it is
// the accept thread's alone.

import (
	"net/netip"
	"sync/atomic"
)

// nowhere is the place of a socket that is not in the table, and the link to no other.
const nowhere = int32(-1)

// A place is one socket's in the table: a few bytes, no buffer and no goroutine. Its number is what
// epoll gives back. What has come of a head is with the halves, what comes of the next request waits
// in the kernel.
type place struct {
	remote   netip.AddrPort
	deadline int64 // when it has waited long enough, on the acceptor's clock
	end      int64 // lingering: when it is over, however much still comes
	fd       int32
	older    int32 // neighbours in its list
	newer    int32
	is       placeState
	listener uint8
}

// A placeState says what a socket in the table waits for, and which list it is in.
type placeState uint8

const (
	heading   placeState = iota // the rest of its head
	idle                        // its next request
	lingering                   // its end: it has been answered
)

// from is where the socket has come from: two of the fields, for one would be larger.
func (p *place) from() From { return From{p.remote, p.listener} }

// places hold sockets, in lists in the order of their deadlines: each list's sockets all wait
// equally long, so that a new one belongs at its end.
type places struct {
	all       []place
	free      []int32
	left      []int32 // given back since the last settle
	heads     list    // without a whole head
	idle      list    // between two requests
	lingering list    // answered
}

type list struct {
	oldest, newest int32
	size           int
}

func newPlaces() places {
	none := list{oldest: nowhere, newest: nowhere}
	return places{heads: none, idle: none, lingering: none}
}

// take returns a free place for fd, in no list. The pointer holds until the next take.
func (t *places) take(fd int32) (int32, *place) {
	at := int32(len(t.all))
	if n := len(t.free); n > 0 {
		at = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		t.all = append(t.all, place{})
	}
	p := &t.all[at]
	*p = place{fd: fd, older: nowhere, newer: nowhere}
	return at, p
}

// give gives a place back. Events that epoll has already told may still name it: it is not taken
// again before settle.
func (t *places) give(at int32) {
	t.all[at] = place{fd: -1, older: nowhere, newer: nowhere}
	t.left = append(t.left, at)
}

// settle ends a round of events.
func (t *places) settle() {
	t.free = append(t.free, t.left...)
	t.left = t.left[:0]
	if len(t.free) == len(t.all) && cap(t.all) > 4096 {
		// After a flood: nothing is held, so nothing need be kept.
		t.all, t.free, t.left = nil, nil, nil
	}
}

func (t *places) push(l *list, at int32) {
	p := &t.all[at]
	p.older, p.newer = l.newest, nowhere
	if l.newest == nowhere {
		l.oldest = at
	} else {
		t.all[l.newest].newer = at
	}
	l.newest = at
	l.size++
}

func (t *places) pull(l *list, at int32) {
	p := &t.all[at]
	if p.older == nowhere {
		l.oldest = p.newer
	} else {
		t.all[p.older].newer = p.newer
	}
	if p.newer == nowhere {
		l.newest = p.older
	} else {
		t.all[p.newer].older = p.older
	}
	p.older, p.newer = nowhere, nowhere
	l.size--
}

// due is the oldest socket of a list if its deadline is over, else nowhere.
func (t *places) due(l *list, now int64) int32 {
	if l.oldest != nowhere && t.all[l.oldest].deadline <= now {
		return l.oldest
	}
	return nowhere
}

// next is the earliest deadline, where that of a request counts only unless frozen; 0 where there is
// none.
func (t *places) next(frozen bool) int64 {
	next := int64(0)
	for _, l := range [...]*list{&t.heads, &t.idle, &t.lingering} {
		if l.oldest != nowhere && (!frozen || l == &t.lingering) {
			if d := t.all[l.oldest].deadline; next == 0 || d < next {
				next = d
			}
		}
	}
	return next
}

// halves are the heads of which a part has come, by their sockets' places: memory only for clients
// that send a head in pieces, shortMost at the most for each, and all that is held counts.
type halves struct {
	all  map[int32][]byte
	most int // there have been of late
	held *atomic.Int64
}

// put keeps what has come so far.
func (h *halves) put(at int32, half []byte) {
	h.all[at] = append(h.all[at][:0], half...)
	h.held.Add(int64(len(half)))
	h.most = max(h.most, len(h.all))
}

// take copies what a socket has sent so far to the front of buf, which is large enough, and counts it
// out; the memory stays the socket's until drop.
func (h *halves) take(at int32, buf []byte) (n int) {
	if at == nowhere {
		return 0
	}
	if half := h.all[at]; len(half) > 0 {
		n = copy(buf, half)
		h.all[at] = half[:0]
		h.held.Add(-int64(n))
	}
	return n
}

// of is what a socket has sent so far.
func (h *halves) of(at int32) []byte { return h.all[at] }

// drop forgets a socket.
func (h *halves) drop(at int32) {
	if half, ok := h.all[at]; ok {
		h.held.Add(-int64(len(half)))
		delete(h.all, at)
		if len(h.all) == 0 && h.most > 4096 {
			h.all, h.most = make(map[int32][]byte), 0 // after a flood
		}
	}
}
