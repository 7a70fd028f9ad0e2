package accept

// Who is who among clients, as far as an address tells, and what one of them may have.
//
// A client's network counts: an IPv4 address, or the /64 of an IPv6 one, of which everybody has
// as many addresses as they like. Behind a proxy all clients are one. Any goroutine.

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// Network is what counts as one client: the IPv4 address, or the /64 of an IPv6 address. Any
// goroutine.
func Network(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a.Unmap()
}

// shares count what each network has of something. The zero value is ready.
type shares struct {
	mu  sync.Mutex
	has map[netip.Addr]int
}

// enter counts one more for a's network; false where it has most already.
func (s *shares) enter(a netip.Addr, most int) bool {
	a = Network(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[a] >= most {
		return false
	}
	if s.has == nil {
		s.has = make(map[netip.Addr]int)
	}
	s.has[a]++
	return true
}

// exit counts one less.
func (s *shares) exit(a netip.Addr) {
	a = Network(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[a]--; s.has[a] == 0 {
		delete(s.has, a)
	}
}

// Addresses count the connections of each Network, streams among them, for as long as there is a
// limit. A connection is known by its descriptor while it is an Acceptor's, and by a ticket as a
// stream: descriptors may be others in a shard's table. Any goroutine.
type Addresses struct {
	used atomic.Bool // there has been a limit

	mu      sync.Mutex
	byFD    []uint32 // tickets, with marks; 0: not counted
	holders []holder // by ticket; the first is nobody
	free    []uint32 // tickets
	tickets map[netip.Addr]uint32
}

// A holder is a network that has connections.
type holder struct {
	network netip.Addr
	has     int32
}

// Marks of a ticket by descriptor.
const (
	overMark  = 1 << 31 // was one too many when it came
	crowdMark = 1 << 30 // and far over the limit
	noMarks   = crowdMark - 1
)

// NewAddresses returns Addresses that count nobody yet.
func NewAddresses() *Addresses {
	return &Addresses{holders: make([]holder, 1), tickets: make(map[netip.Addr]uint32)}
}

// enter counts a new connection, if there is a limit and an address.
func (a *Addresses) enter(fd int32, addr netip.Addr, most int) {
	if most == 0 && !a.used.Load() {
		return
	}
	a.used.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaveLocked(fd) // netpoll may have closed it without a word
	if most == 0 || !addr.IsValid() {
		return
	}
	for len(a.byFD) <= int(fd) {
		a.byFD = append(a.byFD, 0)
	}
	ticket := a.inLocked(Network(addr))
	if over := int(a.holders[ticket].has) - most; over > heard(most) {
		ticket |= overMark | crowdMark
	} else if over > 0 {
		ticket |= overMark
	}
	a.byFD[fd] = ticket
}

// inLocked counts one more for a network and returns its ticket.
func (a *Addresses) inLocked(network netip.Addr) uint32 {
	ticket, ok := a.tickets[network]
	if !ok {
		if n := len(a.free); n > 0 {
			ticket = a.free[n-1]
			a.free = a.free[:n-1]
		} else {
			ticket = uint32(len(a.holders))
			a.holders = append(a.holders, holder{})
		}
		a.holders[ticket].network, a.tickets[network] = network, ticket
	}
	a.holders[ticket].has++
	return ticket
}

// Network returns whom a stream's ticket counts for. Any goroutine.
func (a *Addresses) Network(ticket uint32) netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.holders[ticket].network
}

// Enter counts a stream that has come from another process, for a Network, and returns its ticket.
// Any goroutine.
func (a *Addresses) Enter(network netip.Addr) uint32 {
	a.used.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inLocked(network)
}

// over tells whether the connection was one too many when it came.
func (a *Addresses) over(fd int32) bool { return a.marked(fd, overMark) }

// crowds tells whether it was far over the limit.
func (a *Addresses) crowds(fd int32) bool { return a.marked(fd, crowdMark) }

func (a *Addresses) marked(fd int32, mark uint32) bool {
	if !a.used.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(fd) < len(a.byFD) && a.byFD[fd]&mark != 0
}

// leave counts a connection out, which is about to be closed.
func (a *Addresses) leave(fd int32) {
	if !a.used.Load() {
		return
	}
	a.mu.Lock()
	a.leaveLocked(fd)
	a.mu.Unlock()
}

func (a *Addresses) leaveLocked(fd int32) {
	if int(fd) < len(a.byFD) {
		a.outLocked(a.byFD[fd] & noMarks)
		a.byFD[fd] = 0
	}
}

// lift returns a connection's ticket, by which it is known from now on; 0 where it is not counted.
func (a *Addresses) lift(fd int32) (ticket uint32) {
	if !a.used.Load() {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if int(fd) < len(a.byFD) {
		ticket, a.byFD[fd] = a.byFD[fd]&noMarks, 0
	}
	return ticket
}

// restore undoes lift.
func (a *Addresses) restore(fd int32, ticket uint32) {
	if ticket == 0 {
		return
	}
	a.mu.Lock()
	a.byFD[fd] = ticket
	a.mu.Unlock()
}

// Leave counts a stream out by its ticket (fanout.Subscription). Any goroutine; a lock is held for
// a moment.
func (a *Addresses) Leave(ticket uint32) {
	a.mu.Lock()
	a.outLocked(ticket)
	a.mu.Unlock()
}

func (a *Addresses) outLocked(ticket uint32) {
	if ticket == 0 {
		return
	}
	h := &a.holders[ticket]
	if h.has--; h.has == 0 {
		delete(a.tickets, h.network)
		*h = holder{}
		a.free = append(a.free, ticket)
	}
}

// Len is how many networks have connections that are counted. Any goroutine.
func (a *Addresses) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.tickets)
}

// burst is for how long the connections of a rate may come at once.
const burst = int64(100e6)

// A meter lets connections in at a rate. Its zero value is ready; times are in nanoseconds. The
// accept thread.
type meter struct {
	due int64 // when the next one would come if they came evenly
}

// wait is for how long no connection may come; rate is in connections a second, 0 for no limit.
func (m *meter) wait(now int64, rate int) int64 {
	if rate == 0 {
		return 0
	}
	return max(0, m.due-now-burst)
}

// took notes that one has come.
func (m *meter) took(now int64, rate int) {
	if rate > 0 {
		m.due = max(m.due, now) + int64(1e9)/int64(rate)
	}
}
