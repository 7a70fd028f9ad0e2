package accept

// What is counted: the accept thread and requests' goroutines add, any goroutine reads.

import "sync/atomic"

// Stats is a snapshot of an Acceptor's counters. Those that count from the start only grow.
type Stats struct {
	Accepted uint64 // connections accepted

	Short        uint64 // connections that the short way ended: streams and answers
	Long         uint64 // connections that went the long way
	ShortStreams uint64 // streams handed to a shard by the short way
	LongStreams  uint64 // and by the long way
	Requests     uint64 // requests served on the long way and the quick one
	Quick        uint64 // of these: on the quick way

	Refused    uint64 // connections over MaxConnections
	Busy       uint64 // requests over MaxRequests, BodyMemory, or the memory for half heads
	Unjoined   uint64 // streams that no shard took
	Unadmitted uint64 // requests answered before their body had come: they may not, or would be for nothing
	BadHeads   uint64 // heads that can't be taken (400, 414, 417, 431, 505), half ones included
	BadBody    uint64 // bodies that can't be taken (400, 413), half ones included
	Timeouts   uint64 // clients too slow with a head, a body, or reading their answer
	Silent     uint64 // clients that closed without a byte
	Resets     uint64 // connections that broke before there was an answer
	Floods     uint64 // clients cut off because they sent on and on while their request was in hand
	Slowed     uint64 // times that connections were left in the kernel\'s queue because of AcceptRate
	Errors     uint64 // failures of accept4, out of descriptors among them

	// As it is now.
	Open      int64 // connections of this address that are not streams
	Waiting   int64 // of these: without a whole head, on the accept thread
	Lingering int64 // of these: answered, until the client closes
	InHand    int64 // requests on the long way
}

// counters are the live form of Stats.
type counters struct {
	accepted, short, long, shortStreams, longStreams, requests, quick        atomic.Uint64
	refused, busy, unjoined, unadmitted, badHeads, badBody, timeouts, silent atomic.Uint64
	resets, floods, slowed, errors                                           atomic.Uint64
	open, waiting, lingering                                                 atomic.Int64
	inHand                                                                   [rooms]atomic.Int64
}

// Stats is a snapshot of the counters. Any goroutine.
func (a *Acceptor) Stats() Stats {
	c := &a.count
	s := Stats{
		Accepted: c.accepted.Load(), Short: c.short.Load(), Long: c.long.Load(),
		ShortStreams: c.shortStreams.Load(), LongStreams: c.longStreams.Load(), Requests: c.requests.Load(), Quick: c.quick.Load(),
		Refused: c.refused.Load(), Busy: c.busy.Load(), Unjoined: c.unjoined.Load(), Unadmitted: c.unadmitted.Load(),
		BadHeads: c.badHeads.Load(), BadBody: c.badBody.Load(), Timeouts: c.timeouts.Load(),
		Silent: c.silent.Load(), Resets: c.resets.Load(), Floods: c.floods.Load(), Slowed: c.slowed.Load(), Errors: c.errors.Load(),
		Open: c.open.Load(), Waiting: c.waiting.Load(), Lingering: c.lingering.Load(),
	}
	for i := range c.inHand {
		s.InHand += c.inHand[i].Load()
	}
	return s
}
