package main

// The command cluster: several nodes on NATS JetStream, its files on the disk. What carrying events
// costs beside a node alone, NATS and nodes apart; and a rolling restart of all nodes under load.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"penstock/loadtest"
)

// loads runs a load test for each config at once, each in a process of its own.
func loads(ctx context.Context, cfgs []loadtest.Config) ([]*loadtest.Report, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	reports, errs := make([]*loadtest.Report, len(cfgs)), make([]error, len(cfgs))
	var all sync.WaitGroup
	for i, cfg := range cfgs {
		all.Go(func() {
			cfg.Command = []string{"go", "run", "./bench", "cluster"}
			in, err := json.Marshal(errand{Config: cfg})
			if err != nil {
				errs[i] = err
				return
			}
			ctx, cancel := context.WithTimeout(ctx, cfg.Duration+cfg.Grace+3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, self, "load")
			var out, says bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &says
			if err := cmd.Run(); err != nil {
				errs[i] = fmt.Errorf("load %d: %w: %s", i+1, err, says.String())
				return
			}
			reports[i] = new(loadtest.Report)
			errs[i] = json.Unmarshal(out.Bytes(), reports[i])
		})
	}
	all.Wait()
	return reports, errors.Join(errs...)
}

// cluster runs its parts (-rows units,carry,rolling) and writes cluster.json and cluster.md.
func (s *session) cluster(ctx context.Context) error {
	server := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.peers.Scratch, "nats-server"), "github.com/nats-io/nats-server/v2")
	server.Dir = s.peers.Root
	if b, err := server.CombinedOutput(); err != nil {
		return fmt.Errorf("build nats-server: %w\n%s", err, b)
	}
	out := &Result{
		Title: "Several nodes on NATS JetStream", Date: today(), Version: "devel", Rounds: s.rounds, Seconds: s.duration.Seconds(),
		Command: fmt.Sprintf("go run ./bench cluster -streams %d -rate %d -duration %s -rounds %d", s.streams, s.rate, s.duration, s.rounds),
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *Result) error
	}{{"units", s.units}, {"carry", s.carry}, {"rolling", s.rolling}} {
		if len(s.only) > 0 && !contains(s.only, part.name) {
			continue
		}
		if err := part.run(ctx, out); err != nil {
			return err
		}
		if err := out.write(s.out, "cluster"); err != nil {
			return err
		}
	}
	fmt.Print(out.markdown())
	return nil
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

// unitNodes is how many nodes read the stream in the dearer of the two trials of units.
const unitNodes = 4

// units measures what an event costs NATS and a node that has nobody for it: the first node takes what
// is published, and one node or four read it.
func (s *session) units(ctx context.Context, out *Result) error {
	row := RowResult{
		Name: "units", Title: "Events of 150 B for nobody, 2,000 a second, published at the first node",
		Figures: []string{"events a second", "CPU of NATS for an event", "CPU of the first node for an event", "CPU of each other node for an event"},
		Units:   []string{"/s", "us", "us", "us"},
	}
	for _, nodes := range []int{1, unitNodes} {
		values := make([][]float64, len(row.Figures))
		for range s.rounds {
			err := func() error {
				f, err := s.launch(ctx, nodes, true)
				if err != nil {
					return err
				}
				defer f.sink()
				cfg, err := loadtest.Scenario("publish")
				if err != nil {
					return err
				}
				cfg.URL, cfg.PID = f.nodes[0].url(), f.nodes[0].cmd.Process.Pid
				cfg.Rate, cfg.Publishers, cfg.Duration = 2_000, 8, s.duration
				before := []float64{f.nats.cpu()}
				for _, node := range f.nodes {
					before = append(before, node.cpu())
				}
				reports, err := loads(ctx, []loadtest.Config{cfg})
				if err != nil {
					return err
				}
				r := reports[0]
				events := float64(r.Publish.Published)
				if events == 0 {
					return fmt.Errorf("nothing was published: %v", r.Errors)
				}
				others := 0.0
				for i, node := range f.nodes[1:] {
					others += (node.cpu() - before[i+2]) / float64(nodes-1)
				}
				for i, v := range []float64{r.PublishRate, 1e6 * (f.nats.cpu() - before[0]) / events, 1e6 * (f.nodes[0].cpu() - before[1]) / events, 1e6 * others / events} {
					values[i] = append(values[i], v)
				}
				out.Machine = r.Machine
				row.Others, row.Steal = max(row.Others, r.Shares.Others), max(row.Steal, r.Shares.Steal)
				return nil
			}()
			if err != nil {
				return err
			}
		}
		c := ContenderResult{Name: fmt.Sprintf("read by %d", nodes)}
		for _, v := range values {
			c.Values = append(c.Values, spread(v))
		}
		row.Contenders = append(row.Contenders, c)
	}
	out.Rows = append(out.Rows, row)
	return nil
}

// carry measures two nodes with 5,000 streams each (or half of -streams): events of
// the one's publishers reach the other's subscribers, beside two nodes that are alone and publish
// to themselves.
func (s *session) carry(ctx context.Context, out *Result) error {
	each := min(5_000, s.streams/2)
	type result struct{ taken, p50, p99, ack, deliveries, nodes, nats float64 }
	for _, rate := range []loadtest.Rate{20, 200, loadtest.AsAcknowledged} {
		row := RowResult{
			Name: "carry " + rate.String(), Title: fmt.Sprintf("Two nodes, %d subscribers each, %s events/s of 150 B at each", each, rate),
			Figures: []string{"events a second", "publish to receipt, p50", "p99", "acknowledged after, p50", "deliveries a second", "CPU of the nodes", "CPU of NATS"},
			Units:   []string{"/s", "ms", "ms", "ms", "/s", "cores", "cores"},
		}
		found := map[string][]result{}
		for round := range s.rounds {
			for turn := range 2 {
				withNATS := (round+turn)%2 == 0
				r, report, err := func() (r result, report *loadtest.Report, err error) {
					f, err := s.launch(ctx, 2, withNATS)
					if err != nil {
						return r, nil, err
					}
					defer f.sink()
					var cfgs []loadtest.Config
					for i, node := range f.nodes {
						cfg, err := loadtest.Scenario("broadcast")
						if err != nil {
							return r, nil, err
						}
						cfg.URL, cfg.PID = node.url(), node.cmd.Process.Pid
						if withNATS {
							cfg.PublishURL = f.nodes[1-i].url() + "/publish/{topic}"
						}
						cfg.Subscribers, cfg.Rate, cfg.Publishers, cfg.Duration = each, rate, 4, s.duration
						cfg.TopicName = fmt.Sprintf("carry%d", i)
						cfg.Grace = time.Minute // NATS stores as fast as it can, whatever nodes have read
						cfgs = append(cfgs, cfg)
					}
					before := 0.0
					if withNATS {
						before = f.nats.cpu()
					}
					began := time.Now()
					reports, err := loads(ctx, cfgs)
					if err != nil {
						return r, nil, err
					}
					if withNATS {
						r.nats = (f.nats.cpu() - before) / time.Since(began).Seconds()
					}
					for _, one := range reports {
						r.taken += one.PublishRate
						r.p50, r.p99 = max(r.p50, float64(one.Latency.P50)/1e3), max(r.p99, float64(one.Latency.P99)/1e3)
						r.ack = max(r.ack, float64(one.Ack.P50)/1e3)
						r.deliveries += one.DeliveryRate
						r.nodes += one.Server.CPUMeasured / one.Measured
						if t := &one.Streams; t.Lost+t.Announced+t.Doubled+t.Reordered+t.Torn > 0 {
							out.Notes = append(out.Notes, fmt.Sprintf("%s, through JetStream %t: of %d deliveries %d had not come a minute after the end, %d were told by a gap, %d doubled, %d out of order, %d torn",
								row.Name, withNATS, one.Deliveries, t.Lost, t.Announced, t.Doubled, t.Reordered, t.Torn))
						}
					}
					return r, reports[0], nil
				}()
				if err != nil {
					return err
				}
				name := map[bool]string{true: "through JetStream", false: "each node alone"}[withNATS]
				found[name] = append(found[name], r)
				row.Others, row.Steal = max(row.Others, report.Shares.Others), max(row.Steal, report.Shares.Steal)
				out.Machine = report.Machine
				fmt.Fprintf(os.Stderr, "%s, %s: %.0f events/s, p50 %.2f ms, p99 %.2f ms, %.2f cores of nodes, %.2f of NATS\n", row.Name, name, r.taken, r.p50, r.p99, r.nodes, r.nats)
			}
		}
		for _, name := range []string{"each node alone", "through JetStream"} {
			c := ContenderResult{Name: name}
			for _, of := range []func(result) float64{
				func(r result) float64 { return r.taken }, func(r result) float64 { return r.p50 }, func(r result) float64 { return r.p99 },
				func(r result) float64 { return r.ack }, func(r result) float64 { return r.deliveries }, func(r result) float64 { return r.nodes }, func(r result) float64 { return r.nats },
			} {
				var all []float64
				for _, r := range found[name] {
					all = append(all, of(r))
				}
				c.Values = append(c.Values, spread(all))
			}
			row.Contenders = append(row.Contenders, c)
		}
		out.Rows = append(out.Rows, row)
	}
	out.Notes = append(out.Notes,
		"carry: each load's subscribers are on one node, and its publishers, where NATS is, on the other. \"Others\" of a load are the other load's processes and NATS.",
		"\"CPU of NATS\" is its mean from the first stream's connecting to the last event.")
	return nil
}

const rollingNodes = 4

// rolling restarts four nodes one after the other under load. A fifth one, without streams, takes
// what is published. Nothing may be lost, doubled or torn, and nothing may be told by a gap.
func (s *session) rolling(ctx context.Context, out *Result) error {
	f, err := s.launch(ctx, rollingNodes+1, true)
	if err != nil {
		return err
	}
	defer f.sink()
	door, nodes := f.nodes[rollingNodes], f.nodes[:rollingNodes]
	each := s.streams / rollingNodes
	// A node that restarts: its drain, the new one's start, its streams' coming back.
	step := 15*time.Second + time.Duration(each)*time.Second/1_000
	var cfgs []loadtest.Config
	for i, node := range nodes {
		cfg, err := loadtest.Scenario("broadcast")
		if err != nil {
			return err
		}
		cfg.URL, cfg.PublishURL = node.url(), door.url()+"/publish/{topic}"
		cfg.Subscribers, cfg.Rate, cfg.Publishers, cfg.ConnectRate = each, loadtest.Rate(s.rate), 1, 2_000
		cfg.Duration, cfg.Grace = time.Duration(rollingNodes)*step+10*time.Second, 30*time.Second
		cfg.TopicName = fmt.Sprintf("rolling%d", i)
		cfg.ChurnRate, cfg.Away = 1, time.Second // and streams that the server ends come back
		cfgs = append(cfgs, cfg)
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	type answer struct {
		reports []*loadtest.Report
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := loads(loading, cfgs)
		answers <- answer{r, err}
	}()
	pause := func(d time.Duration) error {
		select {
		case a := <-answers:
			return errors.Join(errors.New("the load ended before the restarts did"), a.err)
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// A stream that has not begun can't miss anything: first all of them are there.
	for _, node := range nodes {
		for node.streams() < each {
			if err := pause(100 * time.Millisecond); err != nil {
				return err
			}
		}
	}
	longest := 0.0
	for _, node := range nodes {
		began := time.Now()
		node.down()
		if err := node.up(ctx, node.ready); err != nil {
			return err
		}
		away := time.Since(began)
		longest = max(longest, away.Seconds())
		fmt.Fprintf(os.Stderr, "rolling: %s was away for %.1f s\n", node.name, away.Seconds())
		if err := pause(max(0, step-away)); err != nil {
			return err
		}
	}
	a := <-answers
	if a.err != nil {
		return a.err
	}
	var sum loadtest.Tally
	var published, deliveries, most, blank uint64
	back := 0.0
	for _, r := range a.reports {
		t := &r.Streams
		sum.Lost, sum.Announced, sum.Doubled = sum.Lost+t.Lost, sum.Announced+t.Announced, sum.Doubled+t.Doubled
		sum.Reordered, sum.Torn, sum.Failed = sum.Reordered+t.Reordered, sum.Torn+t.Torn, sum.Failed+t.Failed
		sum.Ended, sum.Resumed, sum.Gaps = sum.Ended+t.Ended, sum.Resumed+t.Resumed, sum.Gaps+t.Gaps
		published, deliveries, most = published+r.Publish.Published, deliveries+r.Deliveries, most+r.Most
		back = max(back, float64(r.Resume.P99)/1e6)
		blank += t.Blank
		for why, n := range r.Errors {
			fmt.Fprintf(os.Stderr, "rolling: %d: %s\n", n, why)
		}
		out.Machine = r.Machine
	}
	if blank > 0 {
		return fmt.Errorf("%d streams ended before they had an id: nothing tells what they should have got", blank)
	}
	row := RowResult{
		Name: "rolling", Title: fmt.Sprintf("%d nodes, %d streams, %d events/s, each node restarted once", rollingNodes, each*rollingNodes, s.rate*rollingNodes),
		Figures: []string{"streams at most", "events", "deliveries", "streams ended", "resumed", "lost", "told by a gap", "doubled", "out of order", "torn", "never back", "a node away, at most", "resume, p99"},
		Units:   []string{"", "", "", "", "", "", "", "", "", "", "", "s", "s"},
	}
	c := ContenderResult{Name: "penstock"}
	for _, v := range []float64{float64(most), float64(published), float64(deliveries), float64(sum.Ended), float64(sum.Resumed), float64(sum.Lost), float64(sum.Announced),
		float64(sum.Doubled), float64(sum.Reordered), float64(sum.Torn), float64(sum.Failed), longest, back} {
		c.Values = append(c.Values, spread([]float64{v}))
	}
	row.Contenders = append(row.Contenders, c)
	row.judge([]promise{{who: "penstock", figure: "lost"}, {who: "penstock", figure: "told by a gap"}, {who: "penstock", figure: "doubled"}, {who: "penstock", figure: "never back"}})
	out.Rows = append(out.Rows, row)
	return nil
}
