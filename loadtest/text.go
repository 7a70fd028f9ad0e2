package loadtest

// The report in words: a short table and a sentence. Any goroutine.

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// sentence says it all in one line.
func (r *Report) sentence() string {
	var b strings.Builder
	c := &r.Config
	if c.Subscribers > 0 {
		fmt.Fprintf(&b, "%s streams", grouped(r.Most))
		if r.Most < uint64(c.Subscribers) {
			fmt.Fprintf(&b, " of %s", grouped(uint64(c.Subscribers)))
		}
	} else {
		fmt.Fprintf(&b, "%s events published, %s a second", large(float64(r.Publish.Published)), large(r.PublishRate))
	}
	t := &r.Streams
	switch {
	case c.Subscribers == 0:
		if r.Ack.Count > 0 {
			fmt.Fprintf(&b, ", answered in %s at the median, p99 %s", microseconds(float64(r.Ack.P50)), microseconds(float64(r.Ack.P99)))
		}
		if r.Publish.Refused > 0 {
			fmt.Fprintf(&b, ", %s refused", grouped(r.Publish.Refused))
		}
	case r.Publish.Published > 0 || t.Events > 0:
		fmt.Fprintf(&b, ", %s deliveries, %s lost, %s out of order", large(float64(r.Deliveries)), grouped(t.missing()), grouped(t.Reordered))
		if t.Announced > 0 {
			fmt.Fprintf(&b, " (%s of the lost were announced by gap events)", grouped(t.Announced))
		}
		if t.Doubled > 0 {
			fmt.Fprintf(&b, ", %s doubled", grouped(t.Doubled))
		}
		if t.Torn > 0 {
			fmt.Fprintf(&b, ", %s torn", grouped(t.Torn))
		}
		if r.Latency.Count > 0 {
			fmt.Fprintf(&b, ", p99 %s", microseconds(float64(r.Latency.P99)))
		}
	default:
		if t.Foreign > 0 {
			fmt.Fprintf(&b, ", %s events of others", large(float64(t.Foreign)))
		}
		if r.Connect.Count > 0 {
			fmt.Fprintf(&b, ", connected in %s at the median, first byte after %s", microseconds(float64(r.Connect.P50)), microseconds(float64(r.FirstByte.P50)))
		}
	}
	if n := r.errors(); n > 0 {
		fmt.Fprintf(&b, ", %s errors", grouped(n))
	}
	if r.Server.MemoryMost > 0 {
		fmt.Fprintf(&b, ", server %s", inBytes(float64(r.Server.MemoryMost)))
	}
	return b.String()
}

// WriteText writes a short table, what limited the run, errors by reason, and the sentence last.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	times := func(name string, p Percentiles) {
		if p.Count > 0 {
			line(name, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", microseconds(float64(p.P50)), microseconds(float64(p.P90)),
				microseconds(float64(p.P99)), microseconds(float64(p.P999)), microseconds(float64(p.Max)))
		}
	}
	t, p, c := &r.Streams, &r.Publish, &r.Config
	if t.Opened > 0 {
		line("streams", "%s at once; %s began, %s failed, %s ended by the server, in %.1f s", grouped(r.Most), grouped(t.Began), grouped(t.Failed), grouped(t.Ended), r.Connecting)
		times("  connect", r.Connect)
		times("  first byte", r.FirstByte)
		if t.Left > 0 || t.Resumed > 0 {
			line("  resumes", "%s left, %s came back with an id, %s without", grouped(t.Left), grouped(t.Resumed), grouped(t.Blank))
			times("  resume", r.Resume)
		}
	}
	if p.Requests > 0 {
		line("published", "%s, %s a second; %s refused, %s of unknown fate, %s due and not sent", grouped(p.Published), large(r.PublishRate), grouped(p.Refused), grouped(p.Unknown), grouped(p.Unsent))
		times("  answered", r.Ack)
		times("  late", r.Late)
	}
	if t.Events > 0 || t.missing() > 0 {
		line("delivered", "%s, %s a second, %.1f a read, %s on the wire", grouped(r.Deliveries), large(r.DeliveryRate), r.PerRead, inBytes(float64(t.BytesIn)))
		if t.BytesPlain != t.BytesCoded {
			line("  coding", "%v: %.2f plain bytes in each that came, framing aside; %.0f B a delivery on the wire", c.Coding, r.Ratio, float64(t.BytesIn)/float64(max(1, r.Deliveries)))
		}
		times("  latency", r.Latency)
		line("  wrong", "%s lost, %s lost and announced, %s doubled, %s out of order, %s torn", grouped(t.Lost), grouped(t.Announced), grouped(t.Doubled), grouped(t.Reordered), grouped(t.Torn))
	}
	if t.Skipped > 0 {
		line("  skipped", "%s: a newer event of the topic came in their place, as mode=latest asks", grouped(t.Skipped))
	}
	if t.Gaps > 0 {
		line("  gaps", "%s gap events; %s topics in them missed nothing, %s cannot be", grouped(t.Gaps), grouped(t.EmptyGaps), grouped(t.BadGaps))
	}
	if t.Stray > 0 || t.IDsBack > 0 || t.Early > 0 {
		line("  odd", "%s events of topics that were not asked for, %s ids that went back, %s events before they were due", grouped(t.Stray), grouped(t.IDsBack), grouped(t.Early))
	}
	if t.Foreign > 0 {
		line("  others'", "%s events", grouped(t.Foreign))
	}
	if s := &r.Server; s.Processes > 0 {
		line("server", "%s: memory %s, with the streams %s, at most %s", s.Name, inBytes(float64(s.MemoryBefore)), inBytes(float64(s.MemoryStreams)), inBytes(float64(s.MemoryMost)))
		if s.PerStream > 0 {
			line("", "%s a stream, %.1f us of CPU to set one up", inBytes(s.PerStream), s.PerSetup)
		}
		if s.PerDelivery > 0 {
			line("", "%.2f us of CPU a delivery (%.2f s in all)", s.PerDelivery, s.CPUMeasured)
		}
		if s.PerPublish > 0 && t.Events == 0 {
			line("", "%.2f us of CPU a published event (%.2f s in all)", s.PerPublish, s.CPUMeasured)
		}
	}
	line("client", "%s, %d readers in %d processes, the busiest ran %.0f%% of the time and waited for a core %.0f%%", inBytes(float64(r.Client.Memory)),
		r.Client.Readers, r.Client.Processes, r.Client.ReaderBusy*100, r.Client.ReaderWait*100)
	sh := &r.Shares
	line("cores", "server %.2f, this load test %.2f, others %.2f, interrupts %.2f, steal %.2f, idle %.2f of %d", sh.Server, sh.Client, sh.Others, sh.Interrupt, sh.Steal, sh.Idle, r.Machine.Cores)
	for _, l := range r.Limits {
		line("limit", "%s", l)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	for _, reason := range r.Errors.byCount() {
		line("error", "%s: %s", grouped(r.Errors[reason]), reason)
	}
	for _, m := range r.Missed {
		line("missed", "%s", m)
	}
	fmt.Fprintf(&b, "%s\n", r.Sentence)
	_, err := io.WriteString(w, b.String())
	return err
}

// grouped writes 10000 as 10,000.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// large writes 20012345 as 20.0 M, small numbers as they are.
func large(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%.2f G", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.1f M", v/1e6)
	case v >= 1000 || v == math.Trunc(v):
		return grouped(uint64(math.Round(v)))
	}
	return fmt.Sprintf("%.1f", v)
}

// microseconds writes a time with three digits and its unit.
func microseconds(us float64) string {
	switch {
	case us < 1000:
		return digits(us) + " us"
	case us < 1e6:
		return digits(us/1e3) + " ms"
	}
	return digits(us/1e6) + " s"
}

// inBytes writes bytes with two or three digits and a unit of a thousand.
func inBytes(v float64) string {
	switch {
	case v < 1e4:
		return fmt.Sprintf("%.0f B", v)
	case v < 1e6:
		return fmt.Sprintf("%.0f KB", v/1e3)
	case v < 1e9:
		return digits(v/1e6) + " MB"
	}
	return digits(v/1e9) + " GB"
}

func digits(v float64) string {
	switch {
	case v < 10 && v != math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}
