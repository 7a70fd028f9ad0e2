package loadtest

// The report: what a run found, as JSON has it. Text is made of it in text.go, HTML in html.go.

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Percentiles are of times in microseconds; Count 0: nothing was measured.
type Percentiles struct {
	Count int64 `json:"count"`
	Mean  int64 `json:"mean"`
	P50   int64 `json:"p50"`
	P90   int64 `json:"p90"`
	P99   int64 `json:"p99"`
	P999  int64 `json:"p999"`
	Max   int64 `json:"max"`
}

func percentilesOf(h *hdrhistogram.Histogram) Percentiles {
	if h.TotalCount() == 0 {
		return Percentiles{}
	}
	return Percentiles{
		Count: h.TotalCount(), Mean: int64(h.Mean()), P50: h.ValueAtPercentile(50), P90: h.ValueAtPercentile(90),
		P99: h.ValueAtPercentile(99), P999: h.ValueAtPercentile(99.9), Max: h.Max(),
	}
}

// A Report is what a run found. Times are in microseconds, CPU times in seconds, memory in bytes.
type Report struct {
	Sentence string    `json:"sentence"`
	Started  time.Time `json:"started"`
	Version  string    `json:"version"`
	Command  []string  `json:"command"`
	Config   Config    `json:"config"`
	Machine  Machine   `json:"machine"`

	Connecting  float64 `json:"connecting"` // seconds until all streams had been tried
	Measured    float64 `json:"measured"`   // seconds, the last events' way included
	Interrupted bool    `json:"interrupted"`

	Streams      Tally        `json:"streams"`
	Most         uint64       `json:"most"` // streams at once
	Publish      PublishTally `json:"publish"`
	Errors       Reasons      `json:"errors"`
	Deliveries   uint64       `json:"deliveries"`   // to all streams; in proportion to bytes where some are not checked
	DeliveryRate float64      `json:"deliveryRate"` // a second, of the part with publishing
	PublishRate  float64      `json:"publishRate"`
	PerRead      float64      `json:"eventsPerRead"`
	Ratio        float64      `json:"ratio"` // plain bytes of a byte that came, framing aside

	Latency   Percentiles `json:"latency"` // from when an event was due to its receipt; not of subscribers that are slow by intention or catch up after they were away, and in a storm of a part only of those who stay
	Connect   Percentiles `json:"connect"`
	FirstByte Percentiles `json:"firstByte"` // of the answer, after the request had left
	Resume    Percentiles `json:"resume"`    // from wanting to come back until everything published by then has come
	Late      Percentiles `json:"late"`      // of publishers: from due to sent
	Ack       Percentiles `json:"ack"`       // from sent to answered

	Server Server   `json:"server"`
	Client Client   `json:"client"`
	Shares Shares   `json:"shares"` // of the machine's time in the measured part
	Limits []string `json:"limits"` // what limited the run
	Notes  []string `json:"notes"`  // what could not be measured, and why
	Missed []string `json:"missed"` // conditions
	Rows   []Second `json:"rows"`
}

// Server is what /proc said of the server's processes; zeros where they are not known.
type Server struct {
	Name          string  `json:"name"`
	Processes     int     `json:"processes"`
	MemoryBefore  uint64  `json:"memoryBefore"`
	MemoryStreams uint64  `json:"memoryStreams"` // with all streams connected
	MemoryAfter   uint64  `json:"memoryAfter"`
	MemoryMost    uint64  `json:"memoryMost"`
	PerStream     float64 `json:"perStream"` // bytes of memory
	CPUConnect    float64 `json:"cpuConnect"`
	CPUMeasured   float64 `json:"cpuMeasured"`
	PerSetup      float64 `json:"perSetup"`    // microseconds of CPU for a stream to begin
	PerDelivery   float64 `json:"perDelivery"` // microseconds of CPU, publishing included
	PerPublish    float64 `json:"perPublish"`  // microseconds of CPU, delivering included
}

// Client is what the run itself used.
type Client struct {
	Processes   int     `json:"processes"`
	Readers     int     `json:"readers"`
	Memory      uint64  `json:"memory"`
	CPUMeasured float64 `json:"cpuMeasured"`
	ReaderBusy  float64 `json:"readerBusy"`    // share of the measured part that the busiest reader ran
	ReaderWait  float64 `json:"readerWaited"`  // share in which one was ready to run and did not
	PublishBusy float64 `json:"publisherBusy"` // the same of the publisher
	PublishWait float64 `json:"publisherWaited"`
}

// Shares are cores: 2.0 is all of a machine of two.
type Shares struct {
	Server    float64 `json:"server"`
	Client    float64 `json:"client"`
	Others    float64 `json:"others"`
	Interrupt float64 `json:"interrupts"`
	Steal     float64 `json:"steal"`
	Idle      float64 `json:"idle"`
}

// A Second is a row of the report: a second, or more of them in a long run.
type Second struct {
	At        int     `json:"at"`   // seconds since the run began
	Span      int     `json:"span"` // seconds
	Events    uint64  `json:"events"`
	Bytes     uint64  `json:"bytes"`
	Published uint64  `json:"published"`
	Live      int64   `json:"live"`
	P50       int64   `json:"p50"`
	P90       int64   `json:"p90"`
	P99       int64   `json:"p99"`
	Max       int64   `json:"max"`
	Memory    uint64  `json:"serverMemory"`
	CPU       float64 `json:"serverCPU"` // cores
	ClientCPU float64 `json:"clientCPU"` // cores
	Steal     float64 `json:"steal"`     // cores
}

// errors counts everything that went wrong by reason.
func (r *Report) errors() uint64 {
	n := uint64(0)
	for v := range maps.Values(r.Errors) {
		n += v
	}
	return n
}

// OK says that no stream failed or was cut and no publish was refused, whatever the figures.
func (r *Report) OK() bool { return len(r.Errors) == 0 }

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// rowsOf turns the collector's rows into the report's.
func rowsOf(rows []row) []Second {
	out := make([]Second, 0, len(rows))
	var before Sample
	for _, w := range rows {
		s := Second{
			At: w.second, Span: w.span, Events: w.events, Bytes: w.bytes, Published: w.published, Live: w.live,
			P50: w.latency.p50, P90: w.latency.p90, P99: w.latency.p99, Max: w.latency.max,
			Memory: w.sample.ServerRSS,
		}
		if w.sample.At != 0 {
			if t := float64(w.sample.At-before.At) / 1e9; before.At != 0 && t > 0 {
				s.CPU = (w.sample.ServerCPU - before.ServerCPU) / t
				s.ClientCPU = (w.sample.ClientCPU - before.ClientCPU) / t
				s.Steal = (w.sample.Steal - before.Steal) / t
			}
			before = w.sample
		}
		out = append(out, s)
	}
	return out
}

// byCount answers reasons, the most frequent first.
func (r Reasons) byCount() []string {
	return slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		if r[a] != r[b] {
			return int(min(max(int64(r[b])-int64(r[a]), -1), 1))
		}
		if a < b {
			return -1
		}
		return 1
	})
}

// WriteHTML writes the report as one HTML file without outside requests.
func (r *Report) WriteHTML(w io.Writer) error { return writeHTML(w, r) }
