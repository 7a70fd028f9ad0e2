package main

// The command tree: how far nodes, NATS and leaf nodes of regions reach, reckoned from unit costs
// that were measured (docs/capacity.md, bench/results). A table of what the cheapest tree of each size
// needs, and a simulation of an event's way down one.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// unit costs, each with where it was measured.
const (
	sendCost   = 6.8e-6  // s of CPU for one send to one stream: docs/capacity.md, "a send"
	sharedCost = 0.6e-6  // s a delivery, where about fourteen events share a send: the same
	beatCost   = 8.6e-6  // s a heartbeat: the same
	ownMemory  = 80.0    // B of a stream: the same, "the bound"
	kernMemory = 5e3     // B of a stream: the same, "the kernel's"
	fixed      = 460e6   // B of a node: ring, kept, lag, garbage and program
	wire       = 210.0   // B of an event of 150 B on a stream, chunked, without TCP/IP
	packet     = 66.0    // B of Ethernet, IP and TCP around a send
	beatEvery  = 15.0    // s
	readCost   = 30e-6   // s of a node's CPU for an event read from the stream, for nobody: bench cluster, units
	storeCost  = 90e-6   // s of NATS's CPU for an event stored: the same, one reader's share taken off
	copyCost   = 5e-6    // s of NATS's CPU for each further reader: the same
	restLong   = 10e-3   // s: --flush-interval
	restFactor = 4.0     // a pass's start to the next one's, in its own durations
	nodeCores  = 16.0    // of a node ...
	nodeUse    = 0.6     // ... of which so much is planned with
	nodeLine   = 25e9    // bits a second of its network
	lineUse    = 0.5     // of which so much is planned with
	nodeRoom   = 64e9    // B of memory
	nodeMost   = 500_000 // streams: half of what descriptors allow a process (fs.nr_open)
	natsCores  = 8.0     // of a NATS server
	regionSize = 2.5e6   // streams of a region at the most: so much is lost if one goes
	leafHop    = 40e-3   // s from the middle to a region
	inRegion   = 0.5e-3  // s from its NATS to a node
	toStream   = 30e-3   // s from a node to a stream's client
)

// A plan is what one size of audience needs.
type plan struct {
	streams, rate float64 // rate: events a second that each stream receives
	published     float64 // events a second in all topics together

	sendRate                float64 // sends a second of all nodes
	cpu, memory, egress     float64 // of all nodes: cores, B, bits a second
	byCPU, byLine, byMemory float64 // nodes, if that alone counted
	nodes, regions          float64
	natsMiddle, natsRegion  float64 // cores of NATS in the middle and in each region
	first                   string  // what breaks first
}

// reckon plans for streams that receive rate events a second each, of published in all.
func reckon(streams, rate, published float64) plan {
	p := plan{streams: streams, rate: rate, published: published}
	// Events that come within a rest share a send.
	perSend := max(1, rate*restLong)
	p.sendRate = streams * rate / perSend
	each := sendCost + (perSend-1)*sharedCost
	p.cpu = p.sendRate*each + streams/beatEvery*beatCost*math.Exp(-rate*beatEvery)
	p.egress = 8 * (streams*rate*wire + p.sendRate*packet)
	p.memory = streams * (ownMemory + kernMemory)
	read := published * readCost // of each node
	p.byCPU = p.cpu / (nodeCores*nodeUse - read)
	p.byLine = p.egress / (nodeLine * lineUse)
	p.byMemory = p.memory / (nodeRoom - fixed)
	byFiles := streams / nodeMost
	p.regions = math.Ceil(streams / regionSize)
	p.nodes = math.Ceil(max(p.byCPU, p.byLine, p.byMemory, byFiles, 2*p.regions))
	p.first = "cores"
	switch most := max(p.byCPU, p.byLine, p.byMemory, byFiles); most {
	case byFiles:
		p.first = "descriptors"
	case p.byLine:
		p.first = "network"
	case p.byMemory:
		p.first = "memory"
	}
	p.cpu += p.nodes * read
	p.memory += p.nodes * fixed
	nodesRegion := math.Ceil(p.nodes / p.regions)
	p.natsRegion = published * (copyCost + nodesRegion*copyCost)
	readers := p.regions
	if p.regions == 1 {
		readers, p.natsRegion = p.nodes, 0
	}
	p.natsMiddle = published * (storeCost + readers*copyCost)
	if p.natsMiddle > natsCores {
		p.first = "NATS"
	}
	return p
}

// A tree is the simulation's: one middle, regions, nodes, streams of a node.
type tree struct {
	regions, nodes, streams int // nodes of a region, streams of a node
	shards                  int
	published, share        float64 // events a second; of which so much concerns a node's audience
}

// run sends events down the tree for some seconds and answers the time from publish to each of a
// sample of streams, in seconds, sorted; and how busy the busiest NATS server and shard were.
func (t *tree) run(seconds float64, rng *rand.Rand) (delays []float64, natsBusy, shardBusy float64) {
	middleFree, shardFree := 0.0, 0.0
	leafFree := 0.0
	middleUsed, leafUsed, shardUsed := 0.0, 0.0, 0.0
	own := t.streams / t.shards // streams of a shard
	var due []float64           // events that wait for the shard's next pass: when they were published
	next := 0.0                 // when that pass begins
	pass := func(until float64) {
		for len(due) > 0 && max(next, shardFree) <= until {
			start := max(next, shardFree)
			took := float64(own) * (sendCost + float64(len(due)-1)*sharedCost)
			for _, published := range due {
				at := start + rng.Float64()*took
				delays = append(delays, at+toStream-published)
			}
			shardFree, shardUsed = start+took, shardUsed+took
			next = start + max(took, min(restFactor*took, restLong))
			due = due[:0]
		}
	}
	for at := rng.ExpFloat64() / t.published; at < seconds; at += rng.ExpFloat64() / t.published {
		start := max(at, middleFree)
		work := storeCost + float64(max(t.regions, 1))*copyCost
		middleFree, middleUsed = start+work, middleUsed+work
		// The sample is a node of one region: its NATS sends to one node after the other.
		sent := start + storeCost + rng.Float64()*float64(t.regions)*copyCost
		arrived := sent + leafHop
		began := max(arrived, leafFree)
		leafWork := float64(t.nodes+1) * copyCost
		leafFree = began + leafWork
		leafUsed += leafWork
		if rng.Float64() >= t.share {
			continue
		}
		atNode := began + rng.Float64()*leafWork + inRegion
		pass(atNode)
		if len(due) == 0 {
			next = max(next, atNode)
		}
		due = append(due, at)
	}
	pass(math.Inf(1))
	slices.Sort(delays)
	natsBusy = max(middleUsed, leafUsed) / seconds
	return delays, natsBusy, shardUsed / seconds
}

// tree writes the tables.
func (s *session) tree() error {
	var b strings.Builder
	fmt.Fprintf(&b, "| streams | events/s each | published/s | nodes | cores | memory | egress | regions | NATS, middle | NATS, region | first to be full |\n|%s\n", strings.Repeat(" --- |", 11))
	for _, streams := range []float64{1e6, 1e7, 1e8} {
		for _, rate := range []float64{0.1, 1, 10} {
			p := reckon(streams, rate, 1_000*max(1, rate))
			fmt.Fprintf(&b, "| %s | %v | %s | %.0f | %s | %s | %s | %.0f | %.2f cores | %.2f cores | %s |\n", thousands(streams), rate, thousands(p.published),
				p.nodes, thousands(math.Ceil(p.cpu)), gigabytes(p.memory), gigabits(p.egress), p.regions, p.natsMiddle, p.natsRegion, p.first)
		}
	}
	fmt.Fprintf(&b, "\n| tree | published/s | of these for a stream | NATS busy | shard busy | p50 | p99 |\n|%s\n", strings.Repeat(" --- |", 7))
	for _, t := range []tree{
		{regions: 1, nodes: 4, streams: 250_000, shards: 8, published: 1_000, share: 0.001},
		{regions: 4, nodes: 10, streams: 250_000, shards: 8, published: 1_000, share: 0.001},
		{regions: 40, nodes: 10, streams: 250_000, shards: 8, published: 1_000, share: 0.001},
		{regions: 40, nodes: 20, streams: 125_000, shards: 8, published: 2_000, share: 0.005},
		{regions: 40, nodes: 20, streams: 125_000, shards: 8, published: 5_000, share: 0.0002},
	} {
		delays, nats, shard := t.run(100, rand.New(rand.NewPCG(1, 2)))
		at := func(q float64) float64 { return 1e3 * delays[int(q*float64(len(delays)-1))] }
		fmt.Fprintf(&b, "| %d regions of %d nodes of %s streams | %s | %.0f/s | %.0f%% | %.0f%% | %.0f ms | %.0f ms |\n",
			t.regions, t.nodes, thousands(float64(t.streams)), thousands(t.published), t.published*t.share, 100*nats, 100*shard, at(0.5), at(0.99))
	}
	fmt.Print(b.String())
	return nil
}

func gigabytes(bytes float64) string { return fmt.Sprintf("%.0f GB", bytes/1e9) }
func gigabits(bits float64) string   { return fmt.Sprintf("%.0f Gbit/s", bits/1e9) }
