package fanout

// What a shard counts. The shard's thread alone adds; any goroutine reads.

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// A Histogram is a snapshot of counts below fixed bounds, in the form that
// Prometheus wants: Counts[i] values were at most Bounds[i], not cumulated;
// the last count, one more than there are bounds, is of those above all.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// Bounds of the histograms: seconds of a pass and from publish to send, and
// bytes of a batch.
var (
	secondsBounds = []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5}
	bytesBounds   = []float64{128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 1 << 20}
)

// Disconnect says why a stream ended.
type Disconnect uint8

// The reasons for which a stream ends.
const (
	ClientGone  Disconnect = iota // the client closed, half-closed or reset
	SendFailed                    // the kernel refused to send (reset, user timeout)
	LagMemory                     // cut: over --lag-memory, and furthest behind
	Draining                      // the server drains
	JoinFailed                    // it never began: the kernel refused to watch the socket
	LagClosed                     // it fell off the ring and had asked to be closed then
	TopicsEnded                   // all its topics have ended
	Aged                          // over --max-age: it may resume
	Stalled                       // its socket took nothing for --user-timeout
	disconnects = iota
)

// String is the reason's name in the metrics.
func (d Disconnect) String() string {
	return [disconnects]string{"client_gone", "send_failed", "lag_memory", "drain", "join_failed", "lag_closed", "topics_ended", "max_age", "stalled"}[d]
}

// ResumeResult says what became of a subscriber's Last-Event-ID.
type ResumeResult uint8

// What becomes of a resume.
const (
	ResumeComplete  ResumeResult = iota // everything after the id was there
	ResumeGap                           // something was lost, and a gap said so
	ResumeUnknownID                     // the id can't be: a gap said so
	resumeResults   = iota
)

// String is the result's name in the metrics.
func (r ResumeResult) String() string {
	return [resumeResults]string{"complete", "gap", "unknown_id"}[r]
}

// GapReason says why a gap was sent.
type GapReason uint8

// The reasons of a gap, as its data names them.
const (
	GapLag GapReason = iota
	GapResume
	GapRestart
	GapUnknownID
	gapReasons = iota
)

// ShardStats is a snapshot of one shard's counters. The fields that count from
// the start only grow; the first ones are as they are now.
type ShardStats struct {
	Streams   int    // live streams
	Audiences int    // sets of streams that receive the same bytes
	Lagging   int    // streams with a cursor of their own
	LagBytes  int64  // bytes held for lagging streams
	Unread    uint64 // bytes of the ring that the shard has not read yet

	// Of the shard's own descriptor table; 0 where it uses the process's.
	Descriptors     int // in it
	DescriptorLimit int // most that it may hold

	Joins       uint64                // streams that began
	Lost        uint64                // streams that did not: their sockets found no room in the shard's own descriptor table
	Sends       uint64                // send system calls
	BytesOut    uint64                // bytes that the kernel took
	Deliveries  uint64                // events sent, counted once for each subscriber
	PackedFrom  uint64                // bytes for compressed streams before they were compressed, heartbeats left out, counted once for each subscriber ...
	PackedTo    uint64                // ... and after
	Batches     uint64                // batches flushed, once for each audience
	Heartbeats  uint64                // heartbeats sent
	Passes      uint64                // passes that found something to do
	LongestPass time.Duration         // since the start
	Resumes     [resumeResults]uint64 // by ResumeResult
	Gaps        [gapReasons]uint64    // by GapReason
	Disconnects [disconnects]uint64   // by Disconnect

	PassSeconds   Histogram // how long a pass took
	PublishToSend Histogram // seconds from an event's publication to the end of its flush, one value for each flushed batch's oldest event
	BatchBytes    Histogram // bytes of a batch
}

// StreamInfo describes a stream for whoever looks for the slow ones.
type StreamInfo struct {
	Address netip.AddrPort // of the client, as the socket knows it; not valid for a unix socket
	Topics  []string       // shared with the audience: do not change
	Lag     uint64         // bytes of the ring between the stream's place and what its shard has read
	Bytes   uint64         // bytes held for it, and maybe for others
}

// counters are a shard's own: added to on its thread, read by any goroutine.
// One writer needs no read-modify-write: add is a plain load and an atomic store.
type counters struct {
	streams, audiences, lagging, lagBytes       atomic.Int64
	joins, sends, bytesOut, deliveries, batches atomic.Uint64
	heartbeats, passes, longest, lost           atomic.Uint64
	packedFrom, packedTo                        atomic.Uint64
	resumes                                     [resumeResults]atomic.Uint64
	gaps                                        [gapReasons]atomic.Uint64
	disconnects                                 [disconnects]atomic.Uint64
	passSeconds, publishToSend                  histogram
	batchBytes                                  histogram
}

// add adds to a counter that only this thread writes.
func add(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }

// histogram counts values below fixed bounds; one writer.
type histogram struct {
	bounds []float64
	counts []atomic.Uint64
	sum    atomic.Uint64 // in millionths
}

func newHistogram(bounds []float64) histogram {
	return histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	add(&h.counts[i], 1)
	add(&h.sum, uint64(v*1e6))
}

func (h *histogram) snapshot() Histogram {
	s := Histogram{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: float64(h.sum.Load()) / 1e6}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	return s
}

func (c *counters) snapshot() ShardStats {
	s := ShardStats{
		Streams:       int(c.streams.Load()),
		Audiences:     int(c.audiences.Load()),
		Lagging:       int(c.lagging.Load()),
		LagBytes:      c.lagBytes.Load(),
		Joins:         c.joins.Load(),
		Lost:          c.lost.Load(),
		Sends:         c.sends.Load(),
		BytesOut:      c.bytesOut.Load(),
		Deliveries:    c.deliveries.Load(),
		PackedFrom:    c.packedFrom.Load(),
		PackedTo:      c.packedTo.Load(),
		Batches:       c.batches.Load(),
		Heartbeats:    c.heartbeats.Load(),
		Passes:        c.passes.Load(),
		LongestPass:   time.Duration(c.longest.Load()),
		PassSeconds:   c.passSeconds.snapshot(),
		PublishToSend: c.publishToSend.snapshot(),
		BatchBytes:    c.batchBytes.snapshot(),
	}
	for i := range c.resumes {
		s.Resumes[i] = c.resumes[i].Load()
	}
	for i := range c.gaps {
		s.Gaps[i] = c.gaps[i].Load()
	}
	for i := range c.disconnects {
		s.Disconnects[i] = c.disconnects[i].Load()
	}
	return s
}
