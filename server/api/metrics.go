package api

// Metrics in Prometheus' text format: every name that there is, and what stands behind it. Any
// goroutine.
//
// The lines are written by VictoriaMetrics/metrics. HELP and TYPE are written here, for it has no
// texts; so are the buckets of histograms, for its own are in a form that Prometheus can't read.

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/fanout"
	"penstock/server/topic"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"
)

// counters are what api itself counts.
type counters struct {
	responses [600]atomic.Uint64 // by status
}

// response counts an answer.
func (c *counters) response(status int) {
	if uint(status) < uint(len(c.responses)) {
		c.responses[status].Add(1)
	}
}

// A family is all there is of one name.
type family struct {
	name  string
	kind  string // counter, gauge or histogram
	help  string
	label string // the label's name; "" for none
	// One of the two: values calls add for each value, with the label's; histogram returns a
	// whole one.
	values    func(h *house, f *figures, add func(label string, v float64))
	histogram func(f *figures) fanout.Histogram
}

// one is a family without a label.
func one(value func(h *house, f *figures) float64) func(*house, *figures, func(string, float64)) {
	return func(h *house, f *figures, add func(string, float64)) { add("", value(h, f)) }
}

// backplane has a backplane's figure, 0 where there is none.
func backplane(value func(b *topic.BackplaneStats) float64) func(*house, *figures, func(string, float64)) {
	return one(func(h *house, _ *figures) float64 {
		if h.o.Backplane == nil {
			return 0
		}
		b := h.o.Backplane.Stats()
		return value(&b)
	})
}

// sum adds a counter of the shards up.
func sum(value func(s *fanout.ShardStats) uint64) func(*house, *figures, func(string, float64)) {
	return one(func(_ *house, f *figures) float64 {
		var n uint64
		for i := range f.shards {
			n += value(&f.shards[i])
		}
		return float64(n)
	})
}

// shards has one value for each shard.
func shards(value func(s *fanout.ShardStats) float64) func(*house, *figures, func(string, float64)) {
	return func(_ *house, f *figures, add func(string, float64)) {
		for i := range f.shards {
			add(strconv.Itoa(i), value(&f.shards[i]))
		}
	}
}

// descriptors has one value for each descriptor table.
func descriptors(value func(t *filesJSON) int) func(*house, *figures, func(string, float64)) {
	return func(_ *house, f *figures, add func(string, float64)) {
		add("process", float64(value(&f.files)))
		for i := range f.shards {
			if t := ownTable(&f.shards[i]); t != nil {
				add(strconv.Itoa(i), float64(value(t)))
			}
		}
	}
}

// reasons has one value for each value of an enumeration.
func reasons(name func(i int) string, counts func(s *fanout.ShardStats) []uint64) func(*house, *figures, func(string, float64)) {
	return func(_ *house, f *figures, add func(string, float64)) {
		var total []uint64
		for i := range f.shards {
			c := counts(&f.shards[i])
			if total == nil {
				total = make([]uint64, len(c))
			}
			for j, n := range c {
				total[j] += n
			}
		}
		for j, n := range total {
			add(name(j), float64(n))
		}
	}
}

// merge adds a histogram of the shards up.
func merge(value func(s *fanout.ShardStats) *fanout.Histogram) func(*figures) fanout.Histogram {
	return func(f *figures) fanout.Histogram {
		var total fanout.Histogram
		for i := range f.shards {
			h := value(&f.shards[i])
			if total.Counts == nil {
				total.Bounds, total.Counts = h.Bounds, make([]uint64, len(h.Counts))
			}
			for j, n := range h.Counts {
				total.Counts[j] += n
			}
			total.Sum += h.Sum
		}
		return total
	}
}

// families are all metrics, in the order in which they are written.
var families = []family{
	{name: "penstock_build_info", kind: "gauge", help: "1; the labels say which build this is.", label: "version",
		values: func(h *house, _ *figures, add func(string, float64)) { add(h.o.Version, 1) }},
	{name: "penstock_draining", kind: "gauge", help: "1 while the server drains.",
		values: one(func(h *house, _ *figures) float64 { return truth(h.draining.Load()) })},

	{name: "penstock_connections", kind: "gauge", help: "Open connections of the main addresses: streams, requests in hand, heads awaited, closing ones, and idle ones.", label: "state",
		values: func(_ *house, f *figures, add func(string, float64)) {
			a := &f.accepted
			add("stream", float64(f.streams))
			add("request", float64(a.InHand))
			add("waiting", float64(a.Waiting))
			add("lingering", float64(a.Lingering))
			add("idle", float64(max(0, a.Open-a.InHand-a.Waiting-a.Lingering)))
		}},
	{name: "penstock_accepted_connections_total", kind: "counter", help: "Connections accepted.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.accepted.Accepted) })},
	{name: "penstock_handshakes_total", kind: "counter", help: "What became of connections and requests before they were answered.", label: "outcome",
		values: func(_ *house, f *figures, add func(string, float64)) {
			for _, o := range outcomes {
				add(o.name, float64(o.count(&f.accepted)))
			}
		}},
	{name: "penstock_requests_total", kind: "counter", help: "Requests served, but for streams and answers on the short way.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.accepted.Requests) })},
	{name: "penstock_responses_total", kind: "counter", help: "Answers by HTTP status, but for those of live streams.", label: "status",
		values: func(h *house, _ *figures, add func(string, float64)) {
			for status := range h.count.responses {
				if n := h.count.responses[status].Load(); n > 0 || status == fasthttp.StatusOK {
					add(strconv.Itoa(status), float64(n))
				}
			}
		}},
	{name: "penstock_refusals_total", kind: "counter", help: "Requests refused by a limit, those that were told to come back as a stream among them.", label: "reason",
		values: func(h *house, _ *figures, add func(string, float64)) {
			for why := notRefused + 1; why < reasonCount; why++ {
				add(reasonNames[why], float64(h.refused[why].Load()))
			}
		}},

	{name: "penstock_accept_pauses_total", kind: "counter", help: "Times that connections were left in the kernel's queue because of --accept-rate.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.accepted.Slowed) })},
	{name: "penstock_limit", kind: "gauge", help: "The limits that hold now, by setting, in bytes, seconds or what they count; 0 is no limit, or off.", label: "setting",
		values: func(h *house, _ *figures, add func(string, float64)) {
			for _, l := range h.limits() {
				add(l.Name, l.Value)
			}
		}},
	{name: "penstock_descriptors", kind: "gauge", help: "Descriptors in each table: the process's, and those of shards that have one of their own.", label: "table",
		values: descriptors(func(t *filesJSON) int { return t.Open })},
	{name: "penstock_descriptors_limit", kind: "gauge", help: "Most descriptors that each table may hold (ulimit -n).", label: "table",
		values: descriptors(func(t *filesJSON) int { return t.Limit })},

	{name: "penstock_published_events_total", kind: "counter", help: "Events published.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Events) })},
	{name: "penstock_published_bytes_total", kind: "counter", help: "Bytes of the frames published.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Bytes) })},
	{name: "penstock_publishers_waiting", kind: "gauge", help: "Publishers that wait for shards to catch up.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Waiting) })},
	{name: "penstock_publisher_waits_total", kind: "counter", help: "Times that a publisher had to wait.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Waits) })},
	{name: "penstock_overloads_total", kind: "counter", help: "Publishers refused because they outran the shards.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Overloads) })},
	{name: "penstock_keys", kind: "gauge", help: "Keys of idempotent publishes that are remembered (--max-keys).",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Keys) })},
	{name: "penstock_repeats_total", kind: "counter", help: "Publishes that published nothing, for their key had been used.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Repeats) })},

	{name: "penstock_backplane_connected", kind: "gauge", help: "1 while this node is connected to NATS and reads its stream; 0 without NATS.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return truth(b.Connected && b.Reading) })},
	{name: "penstock_backplane_pending", kind: "gauge", help: "Events that the stream had more, when the newest one was read.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Pending) })},
	{name: "penstock_backplane_behind_seconds", kind: "gauge", help: "How long ago the stream had what this node has not read yet; over --nats-max-behind its publishers wait.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return b.Behind })},
	{name: "penstock_backplane_read_total", kind: "counter", help: "Events read from the stream.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Read) })},
	{name: "penstock_backplane_skipped_total", kind: "counter", help: "Messages of the stream that cannot be events.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Skipped) })},
	{name: "penstock_backplane_stored_total", kind: "counter", help: "Events published here that the stream has acknowledged.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Stored) })},
	{name: "penstock_backplane_failed_total", kind: "counter", help: "Publishes that the stream did not take, or not whole.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Failed) })},
	{name: "penstock_backplane_unsure_total", kind: "counter", help: "Publishes of which it is not known whether the stream took the last of it.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Unsure) })},
	{name: "penstock_backplane_restarts_total", kind: "counter", help: "Times that reading the stream began again.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Restarts) })},
	{name: "penstock_backplane_gaps_total", kind: "counter", help: "Times that the stream had lost something that was not read, or was made anew.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Gaps) })},
	{name: "penstock_backplane_histories_total", kind: "counter", help: "Pieces of history older than the ring given to subscribers.",
		values: backplane(func(b *topic.BackplaneStats) float64 { return float64(b.Histories) })},

	{name: "penstock_topics", kind: "gauge", help: "Topics known, published and subscribed to.",
		values: one(func(h *house, _ *figures) float64 { return float64(h.o.Sequencer.Table().Len()) })},
	{name: "penstock_topics_forgotten_total", kind: "counter", help: "Topics forgotten to make place for others (--max-topics).",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.Forgotten) })},
	{name: "penstock_kept_frames", kind: "gauge", help: "Newest frames of topics that have outlived the ring (--keep).",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.KeptFrames) })},
	{name: "penstock_kept_bytes", kind: "gauge", help: "Memory of the kept frames.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.sequencer.KeptBytes) })},

	{name: "penstock_ring_bytes", kind: "gauge", help: "Bytes of events in the ring.",
		values: one(func(_ *house, f *figures) float64 { return float64(f.ring.Held) })},
	{name: "penstock_ring_size_bytes", kind: "gauge", help: "Bound of the ring (--ring-size).",
		values: one(func(_ *house, f *figures) float64 { return float64(f.ring.Size) })},
	{name: "penstock_ring_seconds", kind: "gauge", help: "Age of the oldest event in the ring: how far back a resume reaches.",
		values: one(func(_ *house, f *figures) float64 { return f.held() })},

	{name: "penstock_subscribers", kind: "gauge", help: "Live streams of each shard.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.Streams) })},
	{name: "penstock_audiences", kind: "gauge", help: "Sets of streams of a shard that receive the same bytes.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.Audiences) })},
	{name: "penstock_lagging_subscribers", kind: "gauge", help: "Streams behind their audience.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.Lagging) })},
	{name: "penstock_lag_bytes", kind: "gauge", help: "Memory held for lagging streams (--lag-memory); what several were stalled by counts once.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.LagBytes) })},
	{name: "penstock_unread_bytes", kind: "gauge", help: "Bytes of the ring that a shard has not read yet.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.Unread) })},
	{name: "penstock_longest_pass_seconds", kind: "gauge", help: "The longest pass of a shard since the start.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return s.LongestPass.Seconds() })},
	{name: "penstock_passes_total", kind: "counter", help: "Passes of a shard that found something to do.", label: "shard",
		values: shards(func(s *fanout.ShardStats) float64 { return float64(s.Passes) })},

	{name: "penstock_streams_total", kind: "counter", help: "Streams that began.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Joins })},
	{name: "penstock_lost_sockets_total", kind: "counter", help: "Streams that did not begin: their sockets found no room in their shard's descriptor table.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Lost })},
	{name: "penstock_delivered_events_total", kind: "counter", help: "Events sent, counted once for each subscriber.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Deliveries })},
	{name: "penstock_sent_bytes_total", kind: "counter", help: "Bytes of streams that the kernel took.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.BytesOut })},
	{name: "penstock_compress_in_bytes_total", kind: "counter", help: "Bytes of events for compressed streams before they were compressed, counted once for each subscriber.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.PackedFrom })},
	{name: "penstock_compress_out_bytes_total", kind: "counter", help: "The same after they were compressed, with the framing.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.PackedTo })},
	{name: "penstock_sends_total", kind: "counter", help: "Send system calls.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Sends })},
	{name: "penstock_batches_total", kind: "counter", help: "Batches flushed, counted once for each audience.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Batches })},
	{name: "penstock_heartbeats_total", kind: "counter", help: "Heartbeats sent.",
		values: sum(func(s *fanout.ShardStats) uint64 { return s.Heartbeats })},
	{name: "penstock_resumes_total", kind: "counter", help: "Streams with a last event id, by what became of it.", label: "result",
		values: reasons(func(i int) string { return fanout.ResumeResult(i).String() }, func(s *fanout.ShardStats) []uint64 { return s.Resumes[:] })},
	{name: "penstock_gaps_total", kind: "counter", help: "Gap events sent, by reason.", label: "reason",
		values: reasons(func(i int) string { return gapNames[i] }, func(s *fanout.ShardStats) []uint64 { return s.Gaps[:] })},
	{name: "penstock_disconnects_total", kind: "counter", help: "Streams that ended, by reason.", label: "reason",
		values: reasons(func(i int) string { return fanout.Disconnect(i).String() }, func(s *fanout.ShardStats) []uint64 { return s.Disconnects[:] })},

	{name: "penstock_publish_to_send_seconds", kind: "histogram", help: "From an event's publication to the end of its flush, for each flushed batch's oldest event.",
		histogram: merge(func(s *fanout.ShardStats) *fanout.Histogram { return &s.PublishToSend })},
	{name: "penstock_pass_seconds", kind: "histogram", help: "How long the shards' passes took.",
		histogram: merge(func(s *fanout.ShardStats) *fanout.Histogram { return &s.PassSeconds })},
	{name: "penstock_batch_bytes", kind: "histogram", help: "Sizes of the batches flushed.",
		histogram: merge(func(s *fanout.ShardStats) *fanout.Histogram { return &s.BatchBytes })},
}

// gapNames are the reasons of gaps, as their data names them.
var gapNames = [...]string{fanout.GapLag: encode.GapLag, fanout.GapResume: encode.GapResume, fanout.GapRestart: encode.GapRestart, fanout.GapUnknownID: encode.GapUnknownID}

// outcomes are what becomes of connections and requests in accept.
var outcomes = []struct {
	name  string
	count func(*accept.Stats) uint64
}{
	{"short_stream", func(s *accept.Stats) uint64 { return s.ShortStreams }},
	{"short_answer", func(s *accept.Stats) uint64 { return s.Short - min(s.Short, s.ShortStreams) }},
	{"long", func(s *accept.Stats) uint64 { return s.Long }},
	{"long_stream", func(s *accept.Stats) uint64 { return s.LongStreams }},
	{"refused", func(s *accept.Stats) uint64 { return s.Refused }},
	{"busy", func(s *accept.Stats) uint64 { return s.Busy }},
	{"unadmitted", func(s *accept.Stats) uint64 { return s.Unadmitted }},
	{"unjoined", func(s *accept.Stats) uint64 { return s.Unjoined }},
	{"bad_head", func(s *accept.Stats) uint64 { return s.BadHeads }},
	{"bad_body", func(s *accept.Stats) uint64 { return s.BadBody }},
	{"timeout", func(s *accept.Stats) uint64 { return s.Timeouts }},
	{"silent", func(s *accept.Stats) uint64 { return s.Silent }},
	{"reset", func(s *accept.Stats) uint64 { return s.Resets }},
	{"flood", func(s *accept.Stats) uint64 { return s.Floods }},
	{"accept_error", func(s *accept.Stats) uint64 { return s.Errors }},
}

// process are the metrics of the process, by the names that dashboards expect. The library finds
// their values.
var process = []family{
	{name: "process_cpu_seconds_total", kind: "counter", help: "CPU time of the process."},
	{name: "process_resident_memory_bytes", kind: "gauge", help: "Memory of the process."},
	{name: "process_start_time_seconds", kind: "gauge", help: "When the process started, in seconds since 1970."},
	{name: "process_num_threads", kind: "gauge", help: "Threads of the process."},
	{name: "process_open_fds", kind: "gauge", help: "Open descriptors."},
	{name: "process_max_fds", kind: "gauge", help: "Limit of open descriptors."},
	{name: "go_goroutines", kind: "gauge", help: "Goroutines."},
	{name: "go_memstats_heap_inuse_bytes", kind: "gauge", help: "Go's heap in use."},
	{name: "go_memstats_next_gc_bytes", kind: "gauge", help: "Size of Go's heap at which the next collection begins."},
	{name: "go_gc_cpu_seconds_total", kind: "counter", help: "CPU time of Go's collector."},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// begin writes what stands before a family's values.
func (m *family) begin(w io.Writer) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
}

// write writes a family.
func (m *family) write(w io.Writer, h *house, f *figures) {
	m.begin(w)
	if m.histogram != nil {
		m.writeHistogram(w, m.histogram(f))
		return
	}
	m.values(h, f, func(label string, v float64) {
		name := m.name
		if m.label != "" {
			name = fmt.Sprintf("%s{%s=%q}", m.name, m.label, label)
		}
		if m.name == "penstock_build_info" {
			name = fmt.Sprintf("%s{version=%q,goversion=%q}", m.name, label, runtime.Version())
		}
		if v == float64(uint64(v)) {
			metrics.WriteGaugeUint64(w, name, uint64(v))
		} else {
			metrics.WriteGaugeFloat64(w, name, v)
		}
	})
}

// writeHistogram writes cumulated buckets, as Prometheus wants them.
func (m *family) writeHistogram(w io.Writer, h fanout.Histogram) {
	var total uint64
	for i, n := range h.Counts {
		total += n
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = strconv.FormatFloat(h.Bounds[i], 'g', -1, 64)
		}
		metrics.WriteCounterUint64(w, fmt.Sprintf("%s_bucket{le=%q}", m.name, bound), total)
	}
	if len(h.Counts) == 0 {
		metrics.WriteCounterUint64(w, m.name+`_bucket{le="+Inf"}`, 0)
	}
	metrics.WriteCounterFloat64(w, m.name+"_sum", h.Sum)
	metrics.WriteCounterUint64(w, m.name+"_count", total)
}

// writeProcess writes the metrics of the process, picked out of the library's.
func writeProcess(w io.Writer) {
	var all bytes.Buffer
	metrics.WriteProcessMetrics(&all)
	metrics.WriteFDMetrics(&all)
	for line := range strings.Lines(all.String()) {
		name, _, _ := strings.Cut(line, " ")
		if i := slices.IndexFunc(process, func(m family) bool { return m.name == name }); i >= 0 {
			process[i].begin(w)
			io.WriteString(w, line)
		}
	}
}

// metrics answers GET /metrics.
func (a *API) metrics(resp *fasthttp.Response, r *request) *failure {
	if f := noParameters(r); f != nil {
		return f
	}
	f := a.figures()
	w := resp.BodyWriter()
	for i := range families {
		families[i].write(w, a.house, &f)
	}
	writeProcess(w)
	resp.Header.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	resp.Header.SetCanonical(hCacheControl, vNoStore)
	return nil
}
