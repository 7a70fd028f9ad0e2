package main

// Feeds: publishers of what compression is measured with (bench/samples).

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"penstock/bench/samples"
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
		trades, err := samples.Trades(n)
		events := make([][]byte, len(trades))
		for i, t := range trades {
			events[i] = t.Data
		}
		return events, err
	case "html":
		return samples.Fragments(n), nil
	}
	return nil, fmt.Errorf("feed %q: trades and html are known", f.Kind)
}
