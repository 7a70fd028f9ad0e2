package loadtest

// The report as one HTML file: no script, no outside request, good in the dark and on a phone.
// Any goroutine.

import (
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

const pageHead = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>%s</title>
<style>
:root{--fg:#1a1d21;--bg:#fff;--dim:#667;--rule:#d8dce2;--c0:#1668c7;--c1:#c2571a;--c2:#2c8a4b;--c3:#a0369c;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--bg:#14171b;--dim:#98a1ad;--rule:#333a43;--c0:#6cb1ff;--c1:#ff9d66;--c2:#6fd391;--c3:#e58be0;--bad:#ff8a80}}
body{margin:0 auto;max-width:48rem;padding:1rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.25rem;line-height:1.35;margin:.5rem 0}h2{font-size:1rem;margin:1.6rem 0 .4rem}
p,figcaption,.dim{color:var(--dim);margin:.3rem 0}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%%}td,th{padding:.2rem .6rem .2rem 0;text-align:right;border-bottom:1px solid var(--rule);font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}th{font-weight:600}
.wide{overflow-x:auto}figure{margin:1.2rem 0}svg{width:100%%;height:auto;display:block}
.grid{stroke:var(--rule);fill:none}.tick{fill:var(--dim);font:11px system-ui,sans-serif}.end{text-anchor:end}.mid{text-anchor:middle}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.l0{stroke:var(--c0)}.l1{stroke:var(--c1)}.l2{stroke:var(--c2)}.l3{stroke:var(--c3)}
.key{margin-left:.8rem;white-space:nowrap}.key::before{content:"";display:inline-block;width:.9em;height:.2em;margin-right:.35em;vertical-align:middle;background:currentColor}
.k0{color:var(--c0)}.k1{color:var(--c1)}.k2{color:var(--c2)}.k3{color:var(--c3)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:color-mix(in srgb,var(--fg) 7%%,transparent);padding:.7rem;border-radius:.4rem}
</style></head><body>
`

// writeHTML writes the page.
func writeHTML(w io.Writer, r *Report) error {
	var b strings.Builder
	text := html.EscapeString
	fmt.Fprintf(&b, pageHead, text(r.Sentence))
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p>%s, scenario %s, penstock %s</p>\n", text(r.Sentence), r.Started.UTC().Format(time.RFC1123), text(r.Config.Scenario), text(r.Version))
	bullets(&b, "What was missed", "bad", r.Missed)
	var errors []string
	for _, reason := range r.Errors.byCount() {
		errors = append(errors, grouped(r.Errors[reason])+": "+reason)
	}
	bullets(&b, "Errors", "bad", errors)
	bullets(&b, "What limited the run", "", r.Limits)

	b.WriteString("<h2>Times</h2><div class=wide><table><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>measured</th></tr>\n")
	for _, t := range []struct {
		name string
		p    Percentiles
	}{
		{"latency: from due to received", r.Latency}, {"connect", r.Connect}, {"first byte", r.FirstByte},
		{"resume, until caught up", r.Resume}, {"publish, until answered", r.Ack}, {"publishers' lateness", r.Late},
	} {
		if t.p.Count > 0 {
			fmt.Fprintf(&b, "<tr><td>%s</td>", t.name)
			for _, v := range []int64{t.p.P50, t.p.P90, t.p.P99, t.p.P999, t.p.Max} {
				fmt.Fprintf(&b, "<td>%s</td>", microseconds(float64(v)))
			}
			fmt.Fprintf(&b, "<td>%s</td></tr>\n", grouped(uint64(t.p.Count)))
		}
	}
	b.WriteString("</table></div>\n")
	r.charts(&b)

	b.WriteString("<h2>Counts</h2><div class=wide><table>\n")
	for _, row := range r.counts() {
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td></tr>\n", text(row[0]), text(row[1]))
	}
	b.WriteString("</table></div>\n")
	bullets(&b, "Notes", "dim", r.Notes)

	fmt.Fprintf(&b, "<h2>Again</h2><pre>%s</pre>\n", text(shellLine(r.Command)))
	m := &r.Machine
	fmt.Fprintf(&b, "<h2>Machine</h2><p>%s, %d cores, %s of memory, %s, %s, %s descriptors a process</p><div class=wide><table>\n",
		text(m.CPU), m.Cores, inBytes(float64(m.Memory)), text(m.Kernel), text(m.Go), grouped(m.OpenMax))
	for _, k := range slices.Sorted(maps.Keys(m.Settings)) {
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td></tr>\n", text(k), text(m.Settings[k]))
	}
	b.WriteString("</table></div></body></html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// bullets is a list under a heading, nothing where it is empty.
func bullets(b *strings.Builder, title, class string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "<h2>%s</h2><ul class=\"%s\">\n", title, class)
	for _, l := range lines {
		fmt.Fprintf(b, "<li>%s</li>\n", html.EscapeString(l))
	}
	b.WriteString("</ul>\n")
}

// charts are the run over time.
func (r *Report) charts(b *strings.Builder) {
	seconds := make([]float64, len(r.Rows))
	for i, w := range r.Rows {
		seconds[i] = float64(w.At)
	}
	values := func(of func(*Second) float64) []float64 {
		out := make([]float64, len(r.Rows))
		for i := range r.Rows {
			out[i] = of(&r.Rows[i])
		}
		return out
	}
	known := func(v float64) float64 {
		if v == 0 {
			return math.NaN()
		}
		return v
	}
	a := func(n uint64, span int) float64 { return float64(n) / float64(max(span, 1)) }
	for _, c := range []chart{
		{title: "Latency of deliveries", format: microseconds, log: true, lines: []line{
			{"p50", values(func(s *Second) float64 { return float64(s.P50) })},
			{"p90", values(func(s *Second) float64 { return float64(s.P90) })},
			{"p99", values(func(s *Second) float64 { return float64(s.P99) })},
			{"max", values(func(s *Second) float64 { return float64(s.Max) })},
		}},
		{title: "Deliveries a second", format: large, lines: []line{{"delivered", values(func(s *Second) float64 { return a(s.Events, s.Span) })}}},
		{title: "Published a second", format: large, lines: []line{{"acknowledged", values(func(s *Second) float64 { return a(s.Published, s.Span) })}}},
		{title: "Streams", format: large, lines: []line{{"connected", values(func(s *Second) float64 { return float64(s.Live) })}}},
		{title: "The server's memory", format: inBytes, lines: []line{{"resident", values(func(s *Second) float64 { return known(float64(s.Memory)) })}}},
		{title: "Cores in use", format: func(v float64) string { return fmt.Sprintf("%.2g", v) }, lines: []line{
			{"server", values(func(s *Second) float64 { return known(s.CPU) })},
			{"this load test", values(func(s *Second) float64 { return known(s.ClientCPU) })},
			{"taken by the host", values(func(s *Second) float64 { return s.Steal })},
		}},
	} {
		c.seconds = seconds
		c.svg(b)
	}
}

// counts are the figures of the run, by name.
func (r *Report) counts() [][2]string {
	t, p, s, sh := &r.Streams, &r.Publish, &r.Server, &r.Shares
	rows := [][2]string{
		{"streams at once", grouped(r.Most)}, {"streams that began", grouped(t.Began)}, {"failed", grouped(t.Failed)}, {"ended by the server", grouped(t.Ended)},
		{"left, to come back", grouped(t.Left)}, {"came back with their last id", grouped(t.Resumed)}, {"came back without one", grouped(t.Blank)},
		{"published", grouped(p.Published)}, {"refused", grouped(p.Refused)}, {"of unknown fate", grouped(p.Unknown)}, {"due and not sent", grouped(p.Unsent)},
		{"delivered", grouped(r.Deliveries)}, {"lost", grouped(t.Lost)}, {"lost, and announced by a gap event", grouped(t.Announced)},
		{"doubled", grouped(t.Doubled)}, {"out of order", grouped(t.Reordered)}, {"torn", grouped(t.Torn)},
		{"gap events", grouped(t.Gaps)}, {"topics in them that missed nothing", grouped(t.EmptyGaps)}, {"gap events that cannot be", grouped(t.BadGaps)},
		{"ids that went back", grouped(t.IDsBack)}, {"events of topics not asked for", grouped(t.Stray)}, {"events of others", grouped(t.Foreign)},
		{"bytes received", inBytes(float64(t.BytesIn))}, {"events a read", fmt.Sprintf("%.1f", r.PerRead)},
	}
	if t.BytesPlain != t.BytesCoded {
		rows = append(rows, [2]string{"plain bytes of a byte received, framing aside", fmt.Sprintf("%.2f", r.Ratio)})
	}
	if s.Processes > 0 {
		rows = append(rows, [][2]string{
			{"server's memory before, with the streams, at most", inBytes(float64(s.MemoryBefore)) + ", " + inBytes(float64(s.MemoryStreams)) + ", " + inBytes(float64(s.MemoryMost))},
			{"server's memory a stream", inBytes(s.PerStream)},
			{"server's CPU to set a stream up", microseconds(s.PerSetup)},
			{"server's CPU a delivery", fmt.Sprintf("%.2f us", s.PerDelivery)},
		}...)
	}
	return append(rows, [2]string{"cores: server, load test, others, interrupts, steal, idle", fmt.Sprintf("%.2f, %.2f, %.2f, %.2f, %.2f, %.2f of %d", sh.Server, sh.Client, sh.Others, sh.Interrupt, sh.Steal, sh.Idle, r.Machine.Cores)})
}

// shellLine writes a command as a shell takes it.
func shellLine(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if a != "" && strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,%+@") == "" {
			out[i] = a
		} else {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}
