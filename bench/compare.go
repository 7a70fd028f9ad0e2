package main

// The command compare: the same scenarios against each peer that is found, in turn.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

// A scene is a scenario that every peer is put through.
type scene struct {
	name, title string
	set         func(*loadtest.Config)
	figures     []figure
	ratio       figure // what the ratio to Penstock is of
	without     []string
}

// scenes take all together below a quarter of an hour on two cores with the peers of Debian.
func scenes() []scene {
	return []scene{
		{"idle", "10,000 idle streams", func(c *loadtest.Config) {
			c.Scenario, c.Subscribers, c.Rate, c.Duration, c.ConnectRate = "idle", 10_000, 0, 2*time.Second, 1_000_000
		}, []figure{perStream, perSetup}, perStream, nil},
		{"broadcast", "5,000 subscribers, 20 events/s", func(c *loadtest.Config) {
			c.Subscribers, c.Rate = 5_000, 20
		}, []figure{perDelivery, inTime, p50, p99, lost}, perDelivery, nil},
		{"fast", "500 subscribers, 1,000 events/s", func(c *loadtest.Config) {
			c.Subscribers, c.Rate = 500, 1_000
		}, []figure{perDelivery, inTime, p50, p99, lost}, perDelivery, nil},
		{"ticker", "5,000 subscribers over 500 topics, 1,000 events/s in bursts", func(c *loadtest.Config) {
			c.Scenario, c.Subscribers, c.Topics, c.Rate, c.Publishers, c.Zipf, c.Bursts = "ticker", 5_000, 500, 1_000, 4, 1, true
		}, []figure{perDelivery, inTime, p50, p99, lost}, perDelivery, nil},
		{"publish", "publishing as fast as acknowledged, 8 connections, no subscribers", func(c *loadtest.Config) {
			c.Scenario, c.Subscribers, c.Topics, c.Rate, c.Publishers = "publish", 0, 8, loadtest.AsAcknowledged, 8
		}, []figure{published, perPublish, answered}, perPublish, nil},
	}
}

// All of compare ends within a quarter of an hour; aside is what a trial takes beside its measured
// part.
const (
	quarter = 14 * time.Minute
	aside   = 2500 * time.Millisecond
)

// rivals are the peers of the comparison.
var rivals = []string{"penstock", "nchan", "nchan-2", "pushpin", "mercure", "centrifugo", "net/http", "fasthttp", "r3labs", "tmaxmax"}

// compare runs the scenes and writes what they found.
func (s *session) compare(ctx context.Context) error {
	begun := time.Now()
	var cs []contender
	res := &Result{
		Title: "Penstock beside its peers", Date: today(), Command: "make compare", Rounds: s.rounds,
		Seconds: s.duration.Seconds(), Machine: loadtest.ThisMachine(), Version: s.version(ctx),
	}
	for _, name := range rivals {
		if len(s.peerList) > 0 && name != "penstock" && !slices.Contains(s.peerList, name) {
			continue
		}
		p, err := peers.Find(name)
		if err != nil {
			return err
		}
		if err := p.Available(&s.peers); err != nil {
			res.Skipped = append(res.Skipped, name+": "+err.Error())
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", name, err)
			continue
		}
		cs = append(cs, contender{peer: p})
		res.Notes = append(res.Notes, fmt.Sprintf("%s: %s. Set: %s.%s", p.Name, p.About, p.Tuning, limit(p)))
	}
	for _, name := range s.peerList {
		if !slices.Contains(rivals, name) {
			return fmt.Errorf("peer %q: not known; %s are", name, strings.Join(rivals, ", "))
		}
	}
	scenes := slices.DeleteFunc(scenes(), func(sc scene) bool { return len(s.only) > 0 && !slices.Contains(s.only, sc.name) })
	if s.duration == 0 {
		trials := max(1, len(scenes)*len(cs)*s.rounds)
		s.duration = min(max(quarter/time.Duration(trials)-aside, 3*time.Second), 10*time.Second).Round(100 * time.Millisecond)
		res.Seconds = s.duration.Seconds()
	}
	for _, sc := range scenes {
		cfg := base(s.duration)
		sc.set(&cfg)
		// A peer that loses events need not be waited for long.
		cfg.Grace = 2 * time.Second
		reports, left, err := s.allRounds(ctx, sc.name, cs, cfg)
		if err != nil {
			return err
		}
		for k, why := range left {
			res.Skipped = append(res.Skipped, k+" in "+sc.name+": "+why)
		}
		rr := rowResult(sc.name, sc.title, sc.figures, cs, reports)
		rr.ratios(sc.ratio)
		res.Rows = append(res.Rows, rr)
	}
	res.Notes = append(res.Notes, fmt.Sprintf("%.0f minutes in all", time.Since(begun).Minutes()))
	name := "compare"
	if len(s.only) > 0 || len(s.peerList) > 0 {
		name = "compare-part"
	}
	if err := res.write(s.out, name); err != nil {
		return err
	}
	fmt.Print(res.markdown())
	return nil
}

func limit(p *peers.Peer) string {
	if p.Limit == "" {
		return ""
	}
	return " Limited by: " + p.Limit + "."
}

// ratios adds a column: how many times Penstock's figure each one's is.
func (r *RowResult) ratios(f figure) {
	own, ok := r.value("penstock", f.name)
	if !ok || own <= 0 {
		return
	}
	r.Figures = append(r.Figures, f.name+", ratio")
	r.Units = append(r.Units, "")
	i := slices.Index(r.Figures, f.name)
	for k := range r.Contenders {
		c := &r.Contenders[k]
		v := c.Values[i].Median / own // 0 where it failed
		c.Values = append(c.Values, Spread{v, v, v})
	}
}

// version asks the binary.
func (s *session) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, s.peers.Penstock, "version").Output()
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(out)) // penstock VERSION (go...)
	if len(f) < 2 {
		return "unknown"
	}
	return strings.TrimSuffix(f[1], ",")
}
