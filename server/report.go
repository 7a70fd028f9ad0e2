package server

// What a server says of itself at start: addresses, limits found, bounds. Any goroutine.

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
)

// A Fact is a line of the block that a server prints at start.
type Fact struct{ Name, Value string }

// Facts returns what somebody who has just started the server wants to know.
func (s *Server) Facts() []Fact {
	c := &s.config
	base, local := baseURL(s.Addr()), ""
	facts := []Fact{
		{"streams", base + "/events/{topic}"},
		{"publish", base + "/publish/{topic}  (" + s.whoPublishes() + ")"},
	}
	add := func(name, format string, args ...any) {
		facts = append(facts, Fact{name, fmt.Sprintf(format, args...)})
	}
	var more []string
	for i, a := range s.Addrs() {
		if i > 0 {
			more = append(more, baseURL(a))
		}
		if local == "" && IsLoopback(c.Listen[i]) {
			local = baseURL(a)
		}
	}
	if len(more) > 0 {
		add("also at", "%s", strings.Join(more, ", "))
	}
	switch {
	case s.admin != nil:
		add("look", "%s/  (page, /topics, /streams, /stats, /metrics)", baseURL(s.admin.Addr()))
	case local != "":
		add("look", "%s/  (page, /topics, /streams, /stats, /metrics)", local)
	default:
		add("look", "nowhere (--admin-listen none)")
	}
	if c.Debug != "" {
		add("debug", "http://%s/debug/pprof/  /debug/shards", s.debugAddr)
	}
	if c.Demo {
		add("demo", "demo.quakes.{region}, demo.stocks.{symbol}: curl -N %s/events/demo.stocks.ACME", base)
	}
	add("holds", "up to %d connections (%s)", s.maxConnections(), s.whatBounds())
	add("memory", "at most %dMiB (ring %s, kept events %s, lag %s), some hundred bytes for each stream, bodies in hand",
		c.memoryBound()>>20, c.RingSize, c.KeepSize, c.LagMemory)
	add("shards", "%d (cores: %d)", s.shards.Shards(), runtime.GOMAXPROCS(0))
	if text := s.tooSmall(); text != "" {
		add("too small", "%s", text)
	}
	return facts
}

// whoPublishes says it in words.
func (s *Server) whoPublishes() string {
	switch c := &s.config; {
	case c.InsecurePublish:
		return "anybody: --insecure-publish"
	case c.PublishTokenFile != "":
		return "with a token of " + c.PublishTokenFile
	case !slices.ContainsFunc(c.Listen, func(a string) bool { return !IsLoopback(a) }):
		return "from this machine, without a token"
	case slices.ContainsFunc(c.Listen, IsLoopback):
		return "from this machine at loopback addresses, without a token; by others nobody: give --publish-token-file"
	}
	return "nobody: give --publish-token-file"
}

// memoryBound is what the process may have resident with everything full that has a bound of its
// own: the ring, with the garbage beside it (memory.go) and the program itself, and what is held
// for quiet topics and slow subscribers.
func (c *Config) memoryBound() int64 {
	return int64(c.RingSize)*13/10 + 50<<20 + int64(c.KeepSize) + int64(c.LagMemory)
}

// baseURL is how this machine reaches a listening address.
func baseURL(a net.Addr) string {
	address := a.String()
	if a.Network() == "unix" {
		return "unix:" + address
	}
	if host, port, err := net.SplitHostPort(address); err == nil && net.ParseIP(strings.Trim(host, "[]")).IsUnspecified() {
		address = net.JoinHostPort("localhost", port)
	}
	return "http://" + address
}
