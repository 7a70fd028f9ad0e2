package main

import (
	"math/rand/v2"
	"testing"
)

// More streams or more events never need less, and each region has a node to lose.
func TestReckoningGrows(t *testing.T) {
	var last plan
	for _, streams := range []float64{1e6, 1e7, 1e8} {
		p := reckon(streams, 1, 1_000)
		if p.nodes < last.nodes || p.cpu <= last.cpu || p.egress <= last.egress || p.memory <= last.memory || p.nodes < 2*p.regions {
			t.Errorf("%v streams: %+v, after %+v", streams, p, last)
		}
		if busy := reckon(streams, 10, 10_000); busy.cpu <= p.cpu || busy.nodes < p.nodes {
			t.Errorf("%v streams, ten times the events: %+v; %+v for one a second", streams, busy, p)
		}
		last = p
	}
}

// A quiet tree delays an event by its way and half a sweep; each event that concerns the sample's node
// is delivered once.
func TestTreeOfQuietEvents(t *testing.T) {
	tree := tree{regions: 4, nodes: 10, streams: 8_000, shards: 8, published: 10, share: 1}
	delays, nats, shard := tree.run(100, rand.New(rand.NewPCG(1, 2)))
	if len(delays) < 800 || len(delays) > 1_200 {
		t.Errorf("%d deliveries of about 1,000 events", len(delays))
	}
	way := leafHop + inRegion + toStream
	sweep := 1_000 * sendCost
	if p50 := delays[len(delays)/2]; p50 < way || p50 > way+sweep+restLong {
		t.Errorf("p50 %v s; the way alone takes %v, a sweep %v", p50, way, sweep)
	}
	if nats > 0.01 || shard > 0.2 {
		t.Errorf("NATS %v busy, a shard %v", nats, shard)
	}
}
