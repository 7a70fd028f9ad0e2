package main

// Feeds: what compression is measured with, and its publisher.
//
// The load test's own events carry a filler that no compressor should be judged by. These are
// trades as an exchange sends them and pieces of a page as htmx and Datastar users do.

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"
)

// A feed publishes events of a kind at a rate, to one topic.
type feed struct {
	Kind     string // "trades" or "html"
	Rate     int    // events a second
	Base     string // of the server
	Duration time.Duration

	taken uint64 // events that the server took
}

// feedTopic is where feeds publish to: the only topic of a run whose names begin with feedPrefix.
const (
	feedPrefix = "coding."
	feedTopic  = feedPrefix + "0"
)

// publish publishes as many events as are due within the duration, each at its time or, where
// the server holds publishers back, as soon as it lets them; at most four times as long.
func (f *feed) publish(ctx context.Context) error {
	events, err := f.events(int(float64(f.Rate)*f.Duration.Seconds()) + 1)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, data := range events {
		due := time.Duration(i) * time.Second / time.Duration(f.Rate)
		if due >= f.Duration || time.Since(begun) > 4*f.Duration {
			break
		}
		timer.Reset(due - time.Since(begun))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		resp, err := client.Post(f.Base+"/publish/"+feedTopic, "", bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("feed: %w", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("feed: %w", err)
		}
		switch resp.StatusCode {
		case http.StatusOK:
			f.taken++
		case http.StatusServiceUnavailable: // it waited as long as publishers may
		default:
			return fmt.Errorf("feed: %s", resp.Status)
		}
	}
	return nil
}

// events answers n events' data.
func (f *feed) events(n int) ([][]byte, error) {
	switch f.Kind {
	case "trades":
		return trades(n, os.Getenv("PENSTOCK_TRADES"))
	case "html":
		return fragments(n), nil
	}
	return nil, fmt.Errorf("feed %q: trades and html are known", f.Kind)
}

// A trade is what a recording has of one.
type trade struct {
	second        uint64
	price, amount string
}

// trades are n events of some 100 bytes in the form of an exchange's stream: of the recording in
// a file (second, price, amount, side), again and again, or of a seeded walk where there is none.
// What a recording has not, the times within a second and the numbers, is seeded.
func trades(n int, file string) ([][]byte, error) {
	rows := walk(1000)
	if file != "" {
		var err error
		if rows, err = recording(file); err != nil {
			return nil, fmt.Errorf("PENSTOCK_TRADES: %w", err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	events := make([][]byte, 0, n)
	at, number := uint64(0), uint64(398273645) // at: microseconds
	for i := range n {
		row := rows[i%len(rows)]
		at = max(at+1+uint64(rng.ExpFloat64()*20000), (row.second+uint64(i/len(rows))*1000)*1e6+rng.Uint64N(50000))
		number += 1 + rng.Uint64N(2)
		events = append(events, fmt.Appendf(nil, `{"E":%d,"s":"BTCUSDT","t":%d,"p":"%s","q":"%s","T":%d,"m":%t}`,
			at/1000+2+rng.Uint64N(20), number, row.price, row.amount, at/1000, rng.IntN(2) == 0))
	}
	return events, nil
}

func recording(name string) ([]trade, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows []trade
	for i, l := range lines {
		if len(l) < 3 {
			return nil, fmt.Errorf("%s, line %d: %d fields; second, price, amount, side are wanted", name, i+1, len(l))
		}
		second, err := strconv.ParseUint(l[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, i+1, err)
		}
		rows = append(rows, trade{second, l[1], l[2]})
	}
	if len(rows) == 0 {
		return nil, errors.New(name + ": no lines in it")
	}
	return rows, nil
}

func walk(n int) (rows []trade) {
	rng := rand.New(rand.NewPCG(3, 4))
	price, second := 15990.0, uint64(1605499846)
	for range n {
		price += rng.NormFloat64()
		if rng.IntN(8) == 0 {
			second++
		}
		rows = append(rows, trade{second, strconv.FormatFloat(price, 'f', 2, 64), strconv.FormatFloat(rng.ExpFloat64()/20, 'f', 6, 64)})
	}
	return rows
}

// fragments are n pieces of a page of some 2 KB: a table with the same tags again and again, and a
// few words and numbers that are new.
func fragments(n int) [][]byte {
	words := []string{"revenue", "quarter", "growth", "shares", "market", "index", "trading", "volume", "forecast", "report", "analyst", "rate", "bond", "yield", "sector", "energy", "price", "record", "fell", "rose", "steady", "guidance"}
	rng := rand.New(rand.NewPCG(5, 6))
	events := make([][]byte, n)
	for i := range events {
		var b bytes.Buffer
		b.WriteString("elements <table id=\"board\" class=\"min-w-full divide-y divide-gray-200\"><tbody>\n")
		for b.Len() < 1850 {
			color := [...]string{"text-green-600", "text-red-600"}[rng.IntN(2)]
			fmt.Fprintf(&b, "elements <tr id=\"row-%d\" class=\"hover:bg-gray-50\"><td class=\"px-4 py-2 font-mono\">SYM%03d</td><td class=\"px-4 py-2 text-right %s\">%d.%02d</td><td class=\"px-4 py-2\">%s %s %s</td></tr>\n",
				rng.IntN(500), rng.IntN(500), color, rng.IntN(1000), rng.IntN(100),
				words[rng.IntN(len(words))], words[rng.IntN(len(words))], words[rng.IntN(len(words))])
		}
		b.WriteString("elements </tbody></table>")
		events[i] = b.Bytes()
	}
	return events
}
