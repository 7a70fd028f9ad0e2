package main

// A trial: one server, one load, one report. And rounds of them, in turn.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

// A contender is a server in a row, and what is different for it.
type contender struct {
	name string // in tables; "": the peer's
	peer *peers.Peer
	set  func(*loadtest.Config) // nil: nothing
	feed *feed                  // nil: the load test's own events
}

func (c *contender) label() string {
	if c.name != "" {
		return c.name
	}
	return c.peer.Name
}

// try starts the contender, loads it and answers the report.
func (s *session) try(ctx context.Context, c *contender, cfg loadtest.Config) (*loadtest.Report, error) {
	server, err := c.peer.Start(ctx, &s.peers)
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	server.Aim(&cfg)
	if c.set != nil {
		c.set(&cfg)
	}
	cfg.Command = []string{"go", "run", "./bench"}
	e := errand{Config: cfg}
	if c.feed != nil {
		f := *c.feed
		f.Base, f.Duration = server.Base, cfg.Duration
		e.Feed = &f
	}
	in, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Ports of the trial before may wait; the next one gets others. A trial must end.
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+cfg.Grace+2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "load")
	var out, says bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &says
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("load on %s: %w: %s%s", c.label(), err, says.String(), server.Log())
	}
	var r loadtest.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("load on %s: %w", c.label(), err)
	}
	return &r, nil
}

// rounds tries all contenders in turn, beginning with another one each time. skipped says why some
// were left out.
func (s *session) allRounds(ctx context.Context, title string, cs []contender, cfg loadtest.Config) (reports map[string][]*loadtest.Report, skipped map[string]string, err error) {
	reports, skipped = map[string][]*loadtest.Report{}, map[string]string{}
	var there []contender
	for _, c := range cs {
		if err := c.peer.Available(&s.peers); err != nil {
			skipped[c.label()] = err.Error()
			continue
		}
		there = append(there, c)
	}
	for round := range s.rounds {
		for i := range there {
			c := &there[(i+round)%len(there)]
			if skipped[c.label()] != "" {
				continue
			}
			r, err := s.try(ctx, c, cfg)
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if err != nil {
				// One that does not work here is left out, and the others go on.
				fmt.Fprintf(os.Stderr, "%-22s %s\n", c.label(), err)
				skipped[c.label()] = err.Error()
				delete(reports, c.label())
				continue
			}
			reports[c.label()] = append(reports[c.label()], r)
			fmt.Fprintf(os.Stderr, "%-14s %d/%d %-22s %s%s\n", title, round+1, s.rounds, c.label(), r.Sentence, cpu(r))
		}
	}
	return reports, skipped, nil
}

// cpu is what the sentence leaves out.
func cpu(r *loadtest.Report) string {
	switch {
	case r.Server.PerDelivery > 0:
		return fmt.Sprintf(", %.2f us a delivery", r.Server.PerDelivery)
	case r.Server.PerPublish > 0:
		return fmt.Sprintf(", %.2f us an event", r.Server.PerPublish)
	}
	return fmt.Sprintf(", %.0f B and %.1f us a stream", r.Server.PerStream, r.Server.PerSetup)
}
