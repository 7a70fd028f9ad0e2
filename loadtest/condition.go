package loadtest

// Conditions: --fail-if 'p99>250ms'. Any goroutine.

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A condition compares one figure of a report with a bound.
type condition struct {
	text   string
	figure string
	op     string
	bound  float64
}

// A figure is what a condition may ask of a report; NaN: it is not known.
type figure struct {
	name string
	unit string // "us", "bytes" or "": how a bound is written
	of   func(*Report) float64
}

var figures = func() []figure {
	var all []figure
	for _, h := range []struct {
		prefix string
		of     func(*Report) Percentiles
	}{
		{"", func(r *Report) Percentiles { return r.Latency }},
		{"connect-", func(r *Report) Percentiles { return r.Connect }},
		{"first-byte-", func(r *Report) Percentiles { return r.FirstByte }},
		{"resume-", func(r *Report) Percentiles { return r.Resume }},
		{"ack-", func(r *Report) Percentiles { return r.Ack }},
	} {
		for _, p := range []struct {
			name string
			of   func(Percentiles) int64
		}{
			{"p50", func(p Percentiles) int64 { return p.P50 }},
			{"p90", func(p Percentiles) int64 { return p.P90 }},
			{"p99", func(p Percentiles) int64 { return p.P99 }},
			{"p999", func(p Percentiles) int64 { return p.P999 }},
			{"max", func(p Percentiles) int64 { return p.Max }},
		} {
			all = append(all, figure{h.prefix + p.name, "us", func(r *Report) float64 {
				if h.of(r).Count == 0 {
					return math.NaN()
				}
				return float64(p.of(h.of(r)))
			}})
		}
	}
	count := func(name string, of func(*Report) uint64) {
		all = append(all, figure{name, "", func(r *Report) float64 { return float64(of(r)) }})
	}
	count("lost", func(r *Report) uint64 { return r.Streams.Lost })
	count("announced", func(r *Report) uint64 { return r.Streams.Announced })
	count("doubled", func(r *Report) uint64 { return r.Streams.Doubled })
	count("reordered", func(r *Report) uint64 { return r.Streams.Reordered })
	count("torn", func(r *Report) uint64 { return r.Streams.Torn })
	count("gaps", func(r *Report) uint64 { return r.Streams.Gaps })
	count("failed", func(r *Report) uint64 { return r.Streams.Failed })
	count("ended", func(r *Report) uint64 { return r.Streams.Ended })
	count("unsent", func(r *Report) uint64 { return r.Publish.Unsent })
	count("errors", func(r *Report) uint64 { return r.errors() })
	count("streams", func(r *Report) uint64 { return r.Most })
	count("deliveries", func(r *Report) uint64 { return r.Deliveries })
	all = append(all,
		figure{"deliveries-per-second", "", func(r *Report) float64 { return r.DeliveryRate }},
		figure{"published-per-second", "", func(r *Report) float64 { return r.PublishRate }},
		figure{"ratio", "", func(r *Report) float64 { return known(r.Ratio) }},
		figure{"memory", "bytes", func(r *Report) float64 { return known(float64(r.Server.MemoryMost)) }},
		figure{"cpu-per-delivery", "us", func(r *Report) float64 { return known(r.Server.PerDelivery) }},
	)
	return all
}()

func known(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// parseCondition reads FIGURE OPERATOR BOUND.
func parseCondition(text string) (condition, error) {
	i := strings.IndexAny(text, "<>=!")
	if i < 0 {
		return condition{}, fmt.Errorf("--fail-if %q: no comparison; it takes one like 'p99>250ms' or 'lost>0'", text)
	}
	c := condition{text: text, figure: strings.TrimSpace(text[:i])}
	rest := text[i:]
	for _, op := range []string{">=", "<=", "!=", "==", ">", "<"} {
		if strings.HasPrefix(rest, op) {
			c.op = op
			break
		}
	}
	if c.op == "" {
		return condition{}, fmt.Errorf("--fail-if %q: comparison %q; > >= < <= == != are allowed", text, rest[:1])
	}
	k := slices.IndexFunc(figures, func(f figure) bool { return f.name == c.figure })
	if k < 0 {
		names := make([]string, len(figures))
		for i, f := range figures {
			names[i] = f.name
		}
		return condition{}, fmt.Errorf("--fail-if %q: figure %q is not known; %s are allowed", text, c.figure, strings.Join(names, ", "))
	}
	bound := strings.TrimSpace(rest[len(c.op):])
	var err error
	switch figures[k].unit {
	case "us":
		var d time.Duration
		if d, err = time.ParseDuration(bound); err != nil {
			return condition{}, fmt.Errorf("--fail-if %q: bound %q; it takes a duration like 250ms", text, bound)
		}
		c.bound = float64(d) / 1e3
	case "bytes":
		if c.bound, err = parseBytes(bound); err != nil {
			return condition{}, fmt.Errorf("--fail-if %q: bound %q; it takes bytes, like 14MB or 64MiB", text, bound)
		}
	default:
		if c.bound, err = strconv.ParseFloat(bound, 64); err != nil || math.IsNaN(c.bound) {
			return condition{}, fmt.Errorf("--fail-if %q: bound %q; it takes a number", text, bound)
		}
	}
	return c, nil
}

// parseBytes reads a number of bytes with a unit.
func parseBytes(s string) (float64, error) {
	factor := 1.0
	for _, u := range []struct {
		name   string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if t, ok := strings.CutSuffix(s, u.name); ok {
			s, factor = strings.TrimSpace(t), u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(v) || v < 0) {
		err = strconv.ErrRange
	}
	return v * factor, err
}

// missed says what is wrong with a report by this condition, "" when nothing is. A figure that is
// not known is wrong: a check that cannot look must not pass.
func (c *condition) missed(r *Report) string {
	f := figures[slices.IndexFunc(figures, func(f figure) bool { return f.name == c.figure })]
	v := f.of(r)
	if math.IsNaN(v) {
		return fmt.Sprintf("%s: %s is not known in this run", c.text, c.figure)
	}
	hit := false
	switch c.op {
	case ">":
		hit = v > c.bound
	case ">=":
		hit = v >= c.bound
	case "<":
		hit = v < c.bound
	case "<=":
		hit = v <= c.bound
	case "==":
		hit = v == c.bound
	case "!=":
		hit = v != c.bound
	}
	if !hit {
		return ""
	}
	switch f.unit {
	case "us":
		return fmt.Sprintf("%s: %s is %s", c.text, c.figure, microseconds(v))
	case "bytes":
		return fmt.Sprintf("%s: %s is %s", c.text, c.figure, inBytes(v))
	}
	return fmt.Sprintf("%s: %s is %s", c.text, c.figure, strconv.FormatFloat(v, 'f', -1, 64))
}
