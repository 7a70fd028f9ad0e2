package loadtest

// Charts: lines over time as SVG, drawn for the page they stand in (html.go has the colours).
//
// By hand, because a plotting library brings its fonts along into every command of the binary.
// Any goroutine.

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A line is one of a chart's; NaN: nothing there.
type line struct {
	name   string
	values []float64
}

// A chart is a few lines over the same seconds.
type chart struct {
	title   string
	format  func(float64) string
	log     bool // the scale is logarithmic, for latencies
	seconds []float64
	lines   []line
}

// Sizes in the SVG's own units.
const (
	chartWidth, chartHeight = 720.0, 220.0
	chartLeft, chartRight   = 62.0, 12.0
	chartTop, chartBottom   = 12.0, 24.0
	plotWidth               = chartWidth - chartLeft - chartRight
	plotHeight              = chartHeight - chartTop - chartBottom
)

// svg appends the chart as a figure; nothing where there is nothing to see.
func (c *chart) svg(b *strings.Builder) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, l := range c.lines {
		for _, v := range l.values {
			if !math.IsNaN(v) && (!c.log || v > 0) {
				least, most = min(least, v), max(most, v)
			}
		}
	}
	if math.IsInf(most, -1) || len(c.seconds) < 2 {
		return
	}
	ticks := linearTicks(most)
	if c.log {
		ticks = logTicks(least, most)
	}
	low, high := ticks[0], ticks[len(ticks)-1]
	y := func(v float64) float64 {
		f := (v - low) / (high - low)
		if c.log {
			f = (math.Log(max(v, low)) - math.Log(low)) / (math.Log(high) - math.Log(low))
		}
		return chartTop + plotHeight*(1-f)
	}
	from, to := c.seconds[0], c.seconds[len(c.seconds)-1]
	x := func(s float64) float64 { return chartLeft + plotWidth*(s-from)/(to-from) }

	fmt.Fprintf(b, "<figure><figcaption>%s", html.EscapeString(c.title))
	for i, l := range c.lines {
		fmt.Fprintf(b, ` <span class="key k%d">%s</span>`, i, html.EscapeString(l.name))
	}
	fmt.Fprintf(b, "</figcaption><svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">\n", chartWidth, chartHeight, html.EscapeString(c.title))
	for _, t := range ticks {
		fmt.Fprintf(b, `<path class="grid" d="M%g %.1fH%g"/><text class="tick end" x="%g" y="%.1f">%s</text>`,
			chartLeft, y(t), chartWidth-chartRight, chartLeft-6, y(t)+4, html.EscapeString(c.format(t)))
		b.WriteByte('\n')
	}
	step := niceStep((to - from) / 8)
	for s := math.Ceil(from/step) * step; s <= to; s += step {
		fmt.Fprintf(b, `<text class="tick mid" x="%.1f" y="%g">%g s</text>`, x(s), chartHeight-6, s)
	}
	b.WriteByte('\n')
	for i, l := range c.lines {
		var path strings.Builder
		pen := false
		for k, v := range l.values {
			if math.IsNaN(v) || c.log && v <= 0 {
				pen = false
				continue
			}
			op := 'M'
			if pen {
				op = 'L'
			}
			fmt.Fprintf(&path, "%c%.1f %.1f", op, x(c.seconds[k]), y(v))
			pen = true
		}
		fmt.Fprintf(b, `<path class="line l%d" d="%s"/>`, i, path.String())
		b.WriteByte('\n')
	}
	b.WriteString("</svg></figure>\n")
}

// niceStep is 1, 2 or 5 times a power of ten, not less than v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v {
			return m * p
		}
	}
	return 10 * p
}

// linearTicks run from 0 to at least most.
func linearTicks(most float64) []float64 {
	step := niceStep(max(most, 1e-9) / 4)
	out := []float64{0}
	for v := step; v < most+step; v += step {
		out = append(out, v)
	}
	return out
}

// logTicks are powers of ten around least and most.
func logTicks(least, most float64) []float64 {
	low := math.Pow(10, math.Floor(math.Log10(least)))
	out := []float64{low}
	for v := low * 10; ; v *= 10 {
		out = append(out, v)
		if v >= most {
			return out
		}
	}
}
