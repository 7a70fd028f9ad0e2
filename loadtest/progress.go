package loadtest

// Progress: a line that renews itself on a terminal, a line at each phase's end elsewhere. The
// run's goroutine.

import (
	"fmt"
	"io"
	"time"
)

type progress struct {
	out      io.Writer
	terminal bool
	at       time.Time
	before   Tally
	sent     uint64
	open     bool // a line on the terminal is not ended yet
}

func newProgress(o Options) *progress { return &progress{out: o.Progress, terminal: o.Terminal} }

// progressStep is how often the line on a terminal is renewed.
const progressStep = 500 * time.Millisecond

// show shows where the run is, if it is time to; last: the phase is over.
func (p *progress) show(phase string, r *run, m moment, last bool) {
	if p.out == nil || !p.terminal && !last || p.terminal && !last && time.Since(p.at) < progressStep {
		return
	}
	now := time.Now()
	t := now.Sub(p.at).Seconds()
	if p.at.IsZero() {
		t = 0
	}
	sent := r.published.Load()
	line := fmt.Sprintf("%-10s %s of %s streams", phase, grouped(uint64(max(m.tally.Live, 0))), grouped(uint64(r.plan.cfg.Subscribers)))
	if phase != "connecting" {
		in, out := m.tally.Events-p.before.Events, sent-p.sent
		line += fmt.Sprintf(", %s events in a second, %s out", large(rate(in, t)), large(rate(out, t)))
		if m.latency.count > 0 {
			line += fmt.Sprintf(", p50 %s p99 %s", microseconds(float64(m.latency.p50)), microseconds(float64(m.latency.p99)))
		}
		if n := m.tally.missing(); n > 0 {
			line += fmt.Sprintf(", %s lost", grouped(n))
		}
	}
	if n := m.tally.Failed + m.tally.Ended; n > 0 {
		line += fmt.Sprintf(", %s errors", grouped(n))
	}
	p.at, p.before, p.sent = now, m.tally, sent
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	p.open = true
	if last {
		p.done()
	}
}

// done ends an open line.
func (p *progress) done() {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
}

func rate(n uint64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}
