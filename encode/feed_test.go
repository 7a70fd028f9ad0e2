package encode

// What tests and benchmarks compress: frames as real publishers make them.

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// trades are at least n frames of 147 bytes, in the form of an exchange's trade
// stream: one symbol, prices and amounts and seconds of the recording that
// PENSTOCK_TRADES names (second, price, amount, side), or of a seeded walk. What a
// recording has not, the times within a second and the numbers, is seeded.
func trades(t testing.TB, n int) [][]byte {
	rows := recordedTrades(t)
	if rows == nil {
		rows = walkedTrades(1000)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	frames := make([][]byte, 0, n+len(rows))
	at, id, number := uint64(0), uint64(0), uint64(398273645) // at, id: microseconds
	for lap := uint64(0); len(frames) < n; lap++ {
		for _, row := range rows {
			at = max(at+1+uint64(rng.ExpFloat64()*20000), (row.second+lap*1000)*1e6+rng.Uint64N(50000))
			id = max(id+1, at+4000+rng.Uint64N(2000))
			number += 1 + rng.Uint64N(2)
			e := Event{Type: "trade", Data: fmt.Appendf(nil,
				`{"E":%d,"s":"BTCUSDT","t":%d,"p":"%s","q":"%s","T":%d,"m":%t}`,
				at/1000+2+rng.Uint64N(20), number, row.price, row.amount, at/1000, rng.IntN(2) == 0)}
			frame, _ := AppendFrame(nil, &e)
			frames = append(frames, AppendID(frame, id))
		}
	}
	return frames
}

type tradeRow struct {
	second        uint64
	price, amount string
}

func recordedTrades(t testing.TB) (rows []tradeRow) {
	name := os.Getenv("PENSTOCK_TRADES")
	if name == "" {
		return nil
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		second, err := strconv.ParseUint(r[0], 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rows = append(rows, tradeRow{second, r[1], r[2]})
	}
	return rows
}

func walkedTrades(n int) (rows []tradeRow) {
	rng := rand.New(rand.NewPCG(3, 4))
	price, second := 15990.0, uint64(1605499846)
	for range n {
		price += rng.NormFloat64()
		if rng.IntN(8) == 0 {
			second++
		}
		rows = append(rows, tradeRow{second, strconv.FormatFloat(price, 'f', 2, 64), strconv.FormatFloat(rng.ExpFloat64()/20, 'f', 6, 64)})
	}
	return rows
}

// fragments are n frames of some 2 KB, as htmx and Datastar users send them: a
// piece of a page with the same tags again and again, and a few words and numbers
// that are new.
func fragments(n int) [][]byte {
	words := []string{"revenue", "quarter", "growth", "shares", "market", "index", "trading", "volume", "forecast", "report", "analyst", "rate", "bond", "yield", "sector", "energy", "price", "record", "fell", "rose", "steady", "guidance"}
	rng := rand.New(rand.NewPCG(5, 6))
	frames := make([][]byte, n)
	id := uint64(firstID)
	for i := range frames {
		var b bytes.Buffer
		b.WriteString("elements <table id=\"board\" class=\"min-w-full divide-y divide-gray-200\"><tbody>\n")
		for b.Len() < 1850 {
			color := [...]string{"text-green-600", "text-red-600"}[rng.IntN(2)]
			fmt.Fprintf(&b, "elements <tr id=\"row-%d\" class=\"hover:bg-gray-50\"><td class=\"px-4 py-2 font-mono\">SYM%03d</td><td class=\"px-4 py-2 text-right %s\">%d.%02d</td><td class=\"px-4 py-2\">%s %s %s</td></tr>\n",
				rng.IntN(500), rng.IntN(500), color, rng.IntN(1000), rng.IntN(100),
				words[rng.IntN(len(words))], words[rng.IntN(len(words))], words[rng.IntN(len(words))])
		}
		b.WriteString("elements </tbody></table>")
		id += rng.Uint64N(20000)
		frame, _ := AppendFrame(nil, &Event{Type: "datastar-patch-elements", Data: b.Bytes()})
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
