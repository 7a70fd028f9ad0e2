package encode

// What tests and benchmarks compress: frames as real publishers make them.

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"penstock/bench/samples"
)

// trades are n frames of 147 bytes: one symbol's, in the form of an exchange's trade stream.
func trades(t testing.TB, n int) [][]byte {
	all, err := samples.Trades(n)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	frames := make([][]byte, n)
	id := uint64(0) // microseconds
	for i, trade := range all {
		id = max(id+1, trade.At+4000+rng.Uint64N(2000))
		frame, _ := AppendFrame(nil, &Event{Type: "trade", Data: trade.Data})
		frames[i] = AppendID(frame, id)
	}
	return frames
}

// fragments are n frames of some 2 KB, pieces of a page as htmx and Datastar users send them.
func fragments(n int) [][]byte {
	rng := rand.New(rand.NewPCG(5, 6))
	frames := make([][]byte, n)
	id := uint64(firstID)
	for i, data := range samples.Fragments(n) {
		id += rng.Uint64N(20000)
		frame, _ := AppendFrame(nil, &Event{Type: "datastar-patch-elements", Data: data})
		frames[i] = AppendID(frame, id)
	}
	return frames
}

// ticks are n frames of some 30 bytes: a price alone.
func ticks(n int) [][]byte {
	rng := rand.New(rand.NewPCG(7, 8))
	frames := make([][]byte, n)
	id, price := uint64(firstID), 187.25
	for i := range frames {
		price += rng.NormFloat64() / 10
		id += uint64(rng.ExpFloat64() * 10000)
		frame, _ := AppendFrame(nil, &Event{Data: strconv.AppendFloat(nil, price, 'f', 2, 64)})
		frames[i] = AppendID(frame, id)
	}
	return frames
}

// tickers are n trades of 500 symbols, a few of which make most of them.
func tickers(n int) [][]byte {
	rng := rand.New(rand.NewPCG(9, 10))
	zipf := rand.NewZipf(rng, 1.1, 1, 499)
	var prices [500]float64
	var names [500]string
	for i := range prices {
		prices[i] = 9 + 300*rng.Float64()
		names[i] = string([]byte{'A' + byte(rng.IntN(26)), 'A' + byte(rng.IntN(26)), 'A' + byte(rng.IntN(26)), 'A' + byte(rng.IntN(26))})
	}
	frames := make([][]byte, n)
	id := uint64(firstID)
	for i := range frames {
		s := zipf.Uint64()
		prices[s] *= 1 + 0.0004*rng.NormFloat64()
		id += uint64(rng.ExpFloat64() * 10000)
		frame, _ := AppendFrame(nil, &Event{Type: "trade", Data: fmt.Appendf(nil,
			`{"symbol":"%s","price":%.2f,"size":%d,"time":"2026-11-21T06:%02d:%02d.%03dZ"}`,
			names[s], prices[s], 1+rng.IntN(1000), id/60e6%60, id/1e6%60, id/1e3%1000)})
		frames[i] = AppendID(frame, id)
	}
	return frames
}

// batches joins frames, n each; what is left over is left out.
func batches(frames [][]byte, n int) [][]byte {
	var joined [][]byte
	for ; len(frames) >= n; frames = frames[n:] {
		joined = append(joined, bytes.Join(frames[:n], nil))
	}
	return joined
}
