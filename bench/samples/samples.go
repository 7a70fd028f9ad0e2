// Package samples is what compression is measured with: data as real publishers send it, the same
// at each call.
//
// The load test's own events carry a filler that no compressor should be judged by. These are
// trades as an exchange sends them and pieces of a page as users of htmx and Datastar do. Any
// goroutine.
package samples

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

// A Trade is an event's data and its time at the exchange, in microseconds since 1970. Times
// increase.
type Trade struct {
	At   uint64
	Data []byte
}

// Trades are n trades of one symbol, of some 100 bytes each, in the form of an exchange's stream:
// those of the recording that the variable PENSTOCK_TRADES names (a file of lines second, price,
// amount, side), again and again, or of a seeded walk where it is not set. What a recording has
// not, the times within a second and the numbers, is seeded. The error names the file and its
// line.
func Trades(n int) ([]Trade, error) {
	rows := walk(1000)
	if file := os.Getenv("PENSTOCK_TRADES"); file != "" {
		var err error
		if rows, err = recording(file); err != nil {
			return nil, fmt.Errorf("PENSTOCK_TRADES: %w", err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	trades := make([]Trade, 0, n)
	at, number := uint64(0), uint64(398273645) // at: microseconds
	for i := range n {
		row := rows[i%len(rows)]
		at = max(at+1+uint64(rng.ExpFloat64()*20000), (row.second+uint64(i/len(rows))*1000)*1e6+rng.Uint64N(50000))
		number += 1 + rng.Uint64N(2)
		trades = append(trades, Trade{at, fmt.Appendf(nil, `{"E":%d,"s":"BTCUSDT","t":%d,"p":"%s","q":"%s","T":%d,"m":%t}`,
			at/1000+2+rng.Uint64N(20), number, row.price, row.amount, at/1000, rng.IntN(2) == 0)})
	}
	return trades, nil
}

// A row is what a recording has of a trade.
type row struct {
	second        uint64
	price, amount string
}

func recording(name string) ([]row, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, l := range lines {
		if len(l) < 3 {
			return nil, fmt.Errorf("%s, line %d: %d fields; second, price, amount, side are wanted", name, i+1, len(l))
		}
		second, err := strconv.ParseUint(l[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, i+1, err)
		}
		rows = append(rows, row{second, l[1], l[2]})
	}
	if len(rows) == 0 {
		return nil, errors.New(name + ": no lines in it")
	}
	return rows, nil
}

func walk(n int) (rows []row) {
	rng := rand.New(rand.NewPCG(3, 4))
	price, second := 15990.0, uint64(1605499846)
	for range n {
		price += rng.NormFloat64()
		if rng.IntN(8) == 0 {
			second++
		}
		rows = append(rows, row{second, strconv.FormatFloat(price, 'f', 2, 64), strconv.FormatFloat(rng.ExpFloat64()/20, 'f', 6, 64)})
	}
	return rows
}

// Fragments are n pieces of a page of some 2 KB: a table with the same tags again and again, and a
// few words and numbers that are new.
func Fragments(n int) [][]byte {
	words := []string{"revenue", "quarter", "growth", "shares", "market", "index", "trading", "volume", "forecast", "report", "analyst", "rate", "bond", "yield", "sector", "energy", "price", "record", "fell", "rose", "steady", "guidance"}
	rng := rand.New(rand.NewPCG(5, 6))
	fragments := make([][]byte, n)
	for i := range fragments {
		var b bytes.Buffer
		b.WriteString("elements <table id=\"board\" class=\"min-w-full divide-y divide-gray-200\"><tbody>\n")
		for b.Len() < 1850 {
			color := [...]string{"text-green-600", "text-red-600"}[rng.IntN(2)]
			fmt.Fprintf(&b, "elements <tr id=\"row-%d\" class=\"hover:bg-gray-50\"><td class=\"px-4 py-2 font-mono\">SYM%03d</td><td class=\"px-4 py-2 text-right %s\">%d.%02d</td><td class=\"px-4 py-2\">%s %s %s</td></tr>\n",
				rng.IntN(500), rng.IntN(500), color, rng.IntN(1000), rng.IntN(100),
				words[rng.IntN(len(words))], words[rng.IntN(len(words))], words[rng.IntN(len(words))])
		}
		b.WriteString("elements </tbody></table>")
		fragments[i] = b.Bytes()
	}
	return fragments
}
