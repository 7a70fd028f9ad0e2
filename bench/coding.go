package main

// The command coding: what compressing once for all gives and costs, beside no compression and
// beside a compressor for each stream.

import (
	"context"
	"fmt"
	"os"

	"penstock/bench/peers"
	"penstock/encode"
	"penstock/loadtest"
)

// Figures of streams that are fed: their events are others' ones to the load test.
var (
	fedDeliveries = func(r *loadtest.Report) float64 { return float64(r.Streams.Deliveries(r.Streams.Foreign)) }
	fedCPU        = figure{"CPU a delivery", "us", func(r *loadtest.Report) float64 { return r.Server.CPUMeasured * 1e6 / fedDeliveries(r) }}
	fedBytes      = figure{"on the wire a delivery", "B", func(r *loadtest.Report) float64 {
		return float64(r.Streams.BytesIn-r.Streams.BytesHead) / fedDeliveries(r)
	}}
	fedMemory = figure{"memory at most, a stream", "B", func(r *loadtest.Report) float64 {
		return (float64(r.Server.MemoryMost) - float64(r.Server.MemoryBefore)) / float64(r.Most)
	}}
	fedRatio    = figure{"ratio", "", func(r *loadtest.Report) float64 { return r.Ratio }}
	fedTogether = figure{"events a read", "", func(r *loadtest.Report) float64 { return fedDeliveries(r) / float64(r.Streams.Reads) }}
	fedInTime   = figure{"of what was due", "%", func(r *loadtest.Report) float64 {
		return 100 * fedDeliveries(r) / float64(r.Publish.Published*r.Most)
	}}
)

// Contenders of the command coding. Few streams are read event by event, so that it costs the
// load test little to hold them all, and equally little with each coding.
const (
	plainly = "identity"
	shared  = "shared gzip"
	wider   = "shared gzip, 32 KiB"
	each    = "a gzip each"
)

// Of those with a compressor each there are a tenth or fewer, for 800 KB each.
func codings(kind string, rate, zipped int) []contender {
	asking := func(coding encode.Coding, subscribers int) func(*loadtest.Config) {
		return func(c *loadtest.Config) {
			c.Coding, c.CheckShare, c.TopicName = coding, 0.02, feedPrefix
			if subscribers > 0 {
				c.Subscribers, c.CheckShare = subscribers, 0.1
			}
		}
	}
	f := &feed{Kind: kind, Rate: rate}
	cs := []contender{
		{name: plainly, peer: peer("penstock").peer, set: asking(encode.Identity, 0), feed: f},
		{name: shared, peer: peer("penstock").peer, set: asking(encode.Gzip, 0), feed: f},
	}
	cs = append(cs, contender{
		name: wider, set: asking(encode.Gzip, 0), feed: f,
		peer: peers.Variant("penstock-window", "encode/shared.go", "WindowSize = 8 << 10", "WindowSize = 32 << 10"),
	})
	return append(cs, contender{name: each, peer: peers.Own("gzip-each", "a loop that compresses for each stream with a compressor of its own, and writes"), set: asking(encode.Gzip, zipped), feed: f})
}

// codingRows are the rows of the command coding.
func codingRows() []row {
	fed := func(subscribers int) func(*loadtest.Config) {
		return func(c *loadtest.Config) { c.Subscribers, c.Rate = subscribers, 0 }
	}
	figures := []figure{fedBytes, fedRatio, fedCPU, perSend, fedMemory, fedTogether, fedInTime}
	cheap := promise{figure: fedCPU.name, who: shared, against: plainly, bound: 1.1}
	small := promise{figure: fedRatio.name, who: shared, against: each, bound: 0.85, least: true}
	return []row{
		{
			name: "trades", title: "10,000 subscribers of one topic, 100 trades a second",
			contenders: codings("trades", 100, 1_000), config: fed(10_000), figures: figures, promises: []promise{cheap},
		},
		{
			name: "html", title: "10,000 subscribers of one topic, 100 pieces of HTML of 2 KB a second",
			contenders: codings("html", 100, 1_000), config: fed(10_000), figures: figures, promises: []promise{cheap},
		},
		{
			name: "trades-alone", title: "1,000 subscribers, 100 trades a second: each goes out alone",
			contenders: codings("trades", 100, 200), config: fed(1_000), figures: figures, promises: []promise{cheap, small},
		},
		{
			name: "html-alone", title: "1,000 subscribers, 50 pieces of HTML of 2 KB a second: each goes out alone",
			contenders: codings("html", 50, 200), config: fed(1_000), figures: figures, promises: []promise{cheap},
		},
	}
}

// coding runs the rows and writes what they found.
func (s *session) coding(ctx context.Context) error {
	res := &Result{
		Title: "What compressed streams give and cost", Date: today(), Command: "PENSTOCK_TRADES=trades.csv go run ./bench coding",
		Rounds: s.rounds, Seconds: s.duration.Seconds(), Machine: loadtest.ThisMachine(), Version: s.version(ctx),
	}
	if err := s.rows(ctx, res, codingRows()); err != nil {
		return err
	}
	trades := "PENSTOCK_TRADES names no file: the trades are a seeded walk, whose ratio is some tenths lower than that of real ones"
	if os.Getenv("PENSTOCK_TRADES") != "" {
		trades = "the trades are a recording, with seeded numbers"
	}
	res.Notes = append(res.Notes, trades,
		fmt.Sprintf("%q is a bare loop with a compress/gzip for each stream; it has 1,000 of them instead of 10,000, and 200 instead of 1,000, or it would not keep up", each),
		fmt.Sprintf("%q is Penstock built with that window; what is sent is counted at the streams, without heads and with HTTP's framing; two streams in a hundred are read event by event, of the others bytes are counted", wider),
	)
	return s.save(res, "coding")
}
