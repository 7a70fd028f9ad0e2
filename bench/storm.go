package main

// The command storm: everybody is reset at once and comes back within a second, each with its last id.

import (
	"context"
	"math"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

const (
	stormers = 15_000 // who are reset
	stayers  = 1_000  // who are not, and whose latency is held against that of calm
)

// storm runs the storm beside a calm and writes what was found.
func (s *session) storm(ctx context.Context) error {
	res := &Result{
		Title: "A storm of resumes", Date: today(), Command: "go run ./bench storm",
		Rounds: s.rounds, Seconds: stormTime.Seconds(), Machine: loadtest.ThisMachine(),
	}
	res.Version = s.version(ctx)
	if err := s.rows(ctx, res, stormRows(stormers, stayers)); err != nil {
		return err
	}
	return s.save(res, "storm")
}

// stormTime is the measured part: they leave after a third, so that each third has whole seconds.
const stormTime = 15 * time.Second

// Seconds of the report, by what happened in them.
func leftAt(r *loadtest.Report) float64 {
	return r.Connecting + (r.Config.Duration / 3).Seconds()
}

// resumeCPU is what the storm cost beyond calm, for each who came back: the hang-up, the new stream,
// and what it had missed. Calm is the seconds before it.
func resumeCPU(r *loadtest.Report) float64 {
	var calm, storm, seconds float64
	for _, s := range r.Rows {
		switch at, span := float64(s.At), float64(max(s.Span, 1)); {
		case at < r.Connecting+1:
		case at+span <= leftAt(r):
			calm += s.CPU * span
			seconds += span
		case at < leftAt(r)+6:
			storm += (s.CPU - calm/seconds) * span
		}
	}
	if r.Streams.Resumed == 0 || seconds == 0 {
		return math.NaN()
	}
	return storm * 1e6 / float64(r.Streams.Resumed)
}

// stormP99 is the worst second's p99 from the reset on; of a calm run, of the same seconds.
func stormP99(r *loadtest.Report) float64 {
	worst := int64(0)
	for _, s := range r.Rows {
		if s.At >= int(leftAt(r)) {
			worst = max(worst, s.P99)
		}
	}
	return float64(worst) / 1000
}

// stormRows are the row of so many who are reset and so many who stay.
func stormRows(leave, stay int) []row {
	penstock, err := peers.Find("penstock")
	if err != nil {
		panic("bench: " + err.Error())
	}
	perResume := figure{"CPU a resume, the hang-up included", "us", resumeCPU}
	against := figure{"against connecting", "times", func(r *loadtest.Report) float64 { return resumeCPU(r) / r.Server.PerSetup }}
	worst := figure{"worst second's p99 of those who stay", "ms", stormP99}
	return []row{{
		name: "storm", title: "15,000 subscribers, one of 1,000 topics each, 1,000 events/s, are reset at once and come back after a second; 1,000 stay",
		contenders: []contender{
			{name: "penstock", peer: penstock},
			{name: "penstock, calm", peer: penstock, set: func(c *loadtest.Config) { c.Storm = false }},
		},
		config: func(c *loadtest.Config) {
			c.Scenario, c.Subscribers, c.Topics, c.WatchEvenly = "storm", leave+stay, 1_000, true
			c.Rate, c.Publishers, c.Storm, c.StormShare, c.Away = 1_000, 2, true, float64(leave)/float64(leave+stay), time.Second
			c.Duration = stormTime
		},
		figures: []figure{resumed, resumeP50, perResume, perSetup, against, worst, lost},
		promises: []promise{
			{figure: worst.name, who: "penstock", against: "penstock, calm", bound: 3},
			{figure: against.name, who: "penstock", bound: 2},
			{figure: resumed.name, who: "penstock", bound: 5_000, aim: true},
			{figure: lost.name, who: "penstock", bound: 0},
		},
	}}
}
