package server

// What bounds the number of connections: the setting, descriptors, memory. Looked at once, by New;
// any goroutine afterwards.

import (
	"fmt"
	"strings"

	"penstock/server/tuning"
)

// A bound is a number of connections, and what allows no more.
type bound struct {
	what string
	most int
}

// plan is what tuning is asked about: so many connections with this server's ring.
func (s *Server) plan(connections int) tuning.Plan {
	c := &s.config
	return tuning.Plan{
		Connections: connections, Ring: int64(c.RingSize), Heap: int64(c.KeepSize) + int64(c.LagMemory),
		Backlog: c.Backlog, Heartbeat: c.Heartbeat, Spread: c.RetryMax - c.RetryMin,
	}
}

// bounds are all that is known. Memory is one where at least the ring has room in it.
func (s *Server) bounds() []bound {
	var all []bound
	if n := s.current().MaxConnections; n > 0 {
		all = append(all, bound{"--max-connections", n})
	}
	all = append(all, s.descriptorBound())
	if s.room.Known {
		all = append(all, bound{"memory", s.room.Connections})
	}
	return all
}

// maxConnections is the least of the bounds.
func (s *Server) maxConnections() int {
	all := s.bounds()
	n := all[0].most
	for _, b := range all {
		n = min(n, b.most)
	}
	return n
}

// whatBounds names them all: the least is the one that counts.
func (s *Server) whatBounds() string {
	var parts []string
	for _, b := range s.bounds() {
		parts = append(parts, fmt.Sprintf("%s %d", b.what, b.most))
	}
	return strings.Join(parts, ", ")
}

// tooSmall says in one line what of the machine is too small for --max-connections, and for the
// ring; "" where nothing is.
func (s *Server) tooSmall() string {
	connections := max(1, s.current().MaxConnections)
	report := tuning.Check(s.machine, s.plan(connections))
	var parts []string
	for _, f := range report.Worst(tuning.Slows) {
		parts = append(parts, fmt.Sprintf("%s %s (needed: %s)", f.ID, f.Now, f.Needed))
	}
	const most = 3
	if n := len(parts) - most; n > 0 {
		parts = append(parts[:most], fmt.Sprintf("%d more", n))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s; see penstock tune --connections %d --ring-size %s", strings.Join(parts, ", "), connections, s.config.RingSize)
}
