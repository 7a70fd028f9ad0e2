package loadtest

// What is counted: a tally for each thread, summed up when it is asked for.
//
// A tally is written on its thread alone; the collector gets copies.

import (
	"maps"
	"reflect"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Tally counts what happened to subscribers. All are totals of the run but Live.
type Tally struct {
	Opened    uint64 `json:"opened"`    // connections begun, those of coming back included
	Live      int64  `json:"live"`      // streams now
	Began     uint64 `json:"began"`     // streams that began
	Failed    uint64 `json:"failed"`    // streams that never began
	Ended     uint64 `json:"ended"`     // streams that the server or the network ended
	Left      uint64 `json:"left"`      // streams that the scenario ended
	Resumed   uint64 `json:"resumed"`   // streams begun again with a last id
	Blank     uint64 `json:"blank"`     // streams begun again without one, for none was ever sent
	BytesIn   uint64 `json:"bytesIn"`   // on the wire, heads and framing included
	BytesHead uint64 `json:"bytesHead"` // of that, heads
	Reads     uint64 `json:"reads"`     // that brought bytes
	Uncoded   uint64 `json:"uncoded"`   // streams that began without the coding that was asked for
	Heartbeat uint64 `json:"heartbeat"` // blocks without data

	// Of bodies, without heads and framing.
	BytesPlain  uint64 `json:"bytesPlain"`  // of streams that are checked: of events
	BytesCoded  uint64 `json:"bytesCoded"`  // the same as they came, compressed or not
	BytesUnread uint64 `json:"bytesUnread"` // of the other streams, as they came

	// Of streams that are checked, from here on.
	Events    uint64 `json:"events"`    // of this run, each once
	Foreign   uint64 `json:"foreign"`   // events of others
	Lost      uint64 `json:"lost"`      // missing, and nobody said so
	Announced uint64 `json:"announced"` // missing, and a gap event said so
	Skipped   uint64 `json:"skipped"`   // of streams with mode=latest: a newer event of the topic came in their place
	Doubled   uint64 `json:"doubled"`
	Reordered uint64 `json:"reordered"`
	Torn      uint64 `json:"torn"`
	Gaps      uint64 `json:"gaps"`      // gap events
	EmptyGaps uint64 `json:"emptyGaps"` // topics named in a gap event that missed nothing
	BadGaps   uint64 `json:"badGaps"`   // gap events that cannot be: not JSON, topics not asked for, after not before before
	IDsBack   uint64 `json:"idsBack"`   // ids (decimal ones) that were not greater than the one before
	Stray     uint64 `json:"stray"`     // events of topics that were not asked for
	Early     uint64 `json:"early"`     // events received before they were due: two clocks, or a forged stamp
}

// add adds another tally, field by field.
func (t *Tally) add(o *Tally) {
	to, from := reflect.ValueOf(t).Elem(), reflect.ValueOf(o).Elem()
	for i := range to.NumField() {
		if f := to.Field(i); f.CanUint() {
			f.SetUint(f.Uint() + from.Field(i).Uint())
		} else {
			f.SetInt(f.Int() + from.Field(i).Int())
		}
	}
}

// Deliveries is how many deliveries all streams had where those that are checked had n: in
// proportion to their bytes. Where all are checked it is n.
func (t *Tally) Deliveries(n uint64) uint64 {
	if t.BytesUnread == 0 || t.BytesCoded == 0 {
		return n
	}
	return uint64(float64(n) * (1 + float64(t.BytesUnread)/float64(t.BytesCoded)))
}

// Ratio is how many plain bytes came as one byte, framing aside; 0 where nothing came.
func (t *Tally) Ratio() float64 {
	if t.BytesCoded == 0 {
		return 0
	}
	return float64(t.BytesPlain) / float64(t.BytesCoded)
}

// missing is all that did not come.
func (t *Tally) missing() uint64 { return t.Lost + t.Announced }

// Reasons counts errors by what they were. Their number is bounded.
type Reasons map[string]uint64

const maxReasons = 64

func (r Reasons) add(reason string, n uint64) {
	if _, ok := r[reason]; !ok && len(r) >= maxReasons {
		reason = "other reasons"
	}
	r[reason] += n
}

func (r Reasons) addAll(o Reasons) {
	for k, n := range maps.All(o) {
		r.add(k, n)
	}
}

// maxLatency bounds what a histogram can hold, in microseconds; greater values count as this.
const maxLatency = int64(10 * 60 * 1e6)

// newHistogram makes a histogram of microseconds, exact to 0.1%.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, 3) }

// record records microseconds.
func record(h *hdrhistogram.Histogram, us int64) {
	_ = h.RecordValue(min(max(us, 0), maxLatency)) // in range: it cannot fail
}
