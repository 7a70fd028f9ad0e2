package accept

// Who is who among clients, as far as an address tells, and what one of them may have.
//
// A client's network counts: an IPv4 address, or the /64 of an IPv6 one, of which everybody has
// as many addresses as there are. Behind a proxy all clients are one. Any goroutine.

import (
	"net/netip"
	"sync"
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

// size is how many networks have something.
func (s *shares) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.has)
}
