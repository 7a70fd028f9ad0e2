package loadtest

// What readers and the publisher tell, and the rows that the collector makes of it.
//
// A status is told on its teller's thread; the collector takes what it needs during the call, under
// its lock, so that the teller can use its histograms again.

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A status is what a reader tells: totals, and histograms of what was recorded since the last one.
type status struct {
	index      int
	second     int // the row it belongs to
	tally      Tally
	reasons    Reasons
	settled    bool          // every subscriber has had its first try
	drained    bool          // everything acknowledged has come
	cpu        time.Duration // of its thread
	wait       time.Duration // of its thread: ready to run, and did not
	latency    *hdrhistogram.Histogram
	connects   *hdrhistogram.Histogram
	firstBytes *hdrhistogram.Histogram
	resumes    *hdrhistogram.Histogram
}

// report tells the collector.
func (r *reader) report() {
	r.cpu.read()
	r.tell(&status{
		index: r.index, second: r.plan.second(r.now), tally: r.tally, reasons: r.reasons,
		settled: r.settled(), drained: r.drained, cpu: r.cpu.run, wait: r.cpu.wait,
		latency: r.latency, connects: r.connects, firstBytes: r.firstBytes, resumes: r.resumes,
	})
	for _, h := range []*hdrhistogram.Histogram{r.latency, r.connects, r.firstBytes, r.resumes} {
		if h.TotalCount() > 0 {
			h.Reset()
		}
	}
	clear(r.reasons)
}

// A row is a second of the run.
type row struct {
	second    int
	span      int // seconds it stands for: more than one in long runs
	events    uint64
	bytes     uint64
	live      int64
	published uint64
	latency   latencies
	sample    Sample // of the server and the machine, at the row's end
}

// latencies are percentiles in microseconds; count 0: none.
type latencies struct {
	count              int64
	p50, p90, p99, max int64
}

func latenciesOf(h *hdrhistogram.Histogram) latencies {
	if h.TotalCount() == 0 {
		return latencies{}
	}
	return latencies{h.TotalCount(), h.ValueAtPercentile(50), h.ValueAtPercentile(90), h.ValueAtPercentile(99), h.Max()}
}

// maxRows bounds the rows: beyond it two neighbours become one, again and again.
const maxRows = 1200

// rowLag is how long a row waits for late tellers, in seconds.
const rowLag = 2

// A collector sums up. Any goroutine.
type collector struct {
	mu      sync.Mutex
	last    map[int]status // by teller, without histograms
	reasons Reasons
	rows    []row
	open    map[int]*hdrhistogram.Histogram // latency of rows that may still grow
	spare   []*hdrhistogram.Histogram
	span    int

	latency    *hdrhistogram.Histogram
	connects   *hdrhistogram.Histogram
	firstBytes *hdrhistogram.Histogram
	resumes    *hdrhistogram.Histogram
}

func newCollector() *collector {
	return &collector{
		last: map[int]status{}, reasons: Reasons{}, open: map[int]*hdrhistogram.Histogram{}, span: 1,
		latency: newHistogram(), connects: newHistogram(), firstBytes: newHistogram(), resumes: newHistogram(),
	}
}

// tell takes a status.
func (c *collector) tell(s *status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.last[s.index]
	keep := *s
	keep.reasons, keep.latency, keep.connects, keep.firstBytes, keep.resumes = nil, nil, nil, nil, nil
	c.last[s.index] = keep
	c.reasons.addAll(s.reasons)
	w := c.row(s.second)
	w.events += s.tally.Events - old.tally.Events
	w.bytes += s.tally.BytesIn - old.tally.BytesIn
	w.live = 0
	for _, o := range c.last {
		w.live += o.tally.Live
	}
	if s.latency.TotalCount() > 0 {
		key := s.second / c.span
		h := c.open[key]
		if h == nil {
			if n := len(c.spare); n > 0 {
				h, c.spare = c.spare[n-1], c.spare[:n-1]
			} else {
				h = newHistogram()
			}
			c.open[key] = h
		}
		h.Merge(s.latency)
		c.latency.Merge(s.latency)
	}
	for _, p := range []struct{ to, from *hdrhistogram.Histogram }{{c.connects, s.connects}, {c.firstBytes, s.firstBytes}, {c.resumes, s.resumes}} {
		if p.from.TotalCount() > 0 {
			p.to.Merge(p.from)
		}
	}
	c.settle(s.second/c.span - rowLag)
}

// settle closes rows up to key last.
func (c *collector) settle(last int) {
	for key, h := range c.open {
		if key > last {
			continue
		}
		if key < len(c.rows) {
			c.rows[key].latency = latenciesOf(h)
		}
		h.Reset()
		c.spare = append(c.spare, h)
		delete(c.open, key)
	}
}

// row answers the row of a second; the lock is held.
func (c *collector) row(second int) *row {
	second = max(second, 0)
	for second/c.span >= maxRows {
		c.settle(1 << 62)
		half := c.rows[:0]
		for i := 0; i < len(c.rows); i += 2 {
			a := c.rows[i]
			if i+1 < len(c.rows) {
				a.join(&c.rows[i+1])
			}
			a.second = len(half)
			half = append(half, a)
		}
		c.rows = half
		c.span *= 2
	}
	key := second / c.span
	for len(c.rows) <= key {
		live := int64(0)
		if n := len(c.rows); n > 0 {
			live = c.rows[n-1].live
		}
		c.rows = append(c.rows, row{second: len(c.rows) * c.span, span: c.span, live: live})
	}
	return &c.rows[key]
}

// join adds the row after it: sums, the worse of two latencies, the later state.
func (r *row) join(o *row) {
	r.span += o.span
	r.events += o.events
	r.bytes += o.bytes
	r.published += o.published
	r.live, r.sample = o.live, o.sample
	a, b := &r.latency, &o.latency
	a.count += b.count
	a.p50, a.p90, a.p99, a.max = max(a.p50, b.p50), max(a.p90, b.p90), max(a.p99, b.p99), max(a.max, b.max)
}

// published adds acknowledged events to a second.
func (c *collector) published(second int, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row(second).published += n
}

// sampled notes the state of server and machine at a second's end.
func (c *collector) sampled(second int, s Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row(second).sample = s
}

// A moment is what a progress line needs.
type moment struct {
	tally            Tally
	settled, drained bool
	readers          int // that have told anything
	latency          latencies
}

// now answers totals, and the latency of the last row that had any.
func (c *collector) now() moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := moment{settled: true, drained: true, readers: len(c.last)}
	for _, s := range c.last {
		m.tally.add(&s.tally)
		m.settled = m.settled && s.settled
		m.drained = m.drained && s.drained
	}
	newest := -1
	for key := range c.open {
		newest = max(newest, key)
	}
	if h := c.open[newest-1]; h != nil { // a whole second
		m.latency = latenciesOf(h)
	} else if h := c.open[newest]; h != nil {
		m.latency = latenciesOf(h)
	}
	return m
}

// byTeller answers what each last told.
func (c *collector) byTeller() map[int]status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[int]status, len(c.last))
	for k, v := range c.last {
		out[k] = v
	}
	return out
}
