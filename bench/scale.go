package main

// The command scale: one server process that holds many times more streams than its limit of
// descriptors, step by step: what they cost idle, and how long an event to all of them takes.
// docs/capacity.md.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

// Scale is what the command found: bench/results/scale.json and scale.md.
type Scale struct {
	Date    string           `json:"date"`
	Version string           `json:"version"`
	Command string           `json:"command"`
	Machine loadtest.Machine `json:"machine"`
	Limit   uint64           `json:"limit"`  // descriptors that a process may have
	Shards  int              `json:"shards"` // each with a table of its own
	Holders int              `json:"holders"`
	Idle    float64          `json:"idle"` // seconds, of each step
	Rounds  int              `json:"rounds"`

	BareAccept   Spread  `json:"bareAccept"`   // us of CPU a stream: accept4, recv, send, epoll_ctl
	SharedAccept Spread  `json:"sharedAccept"` // with one descriptor table for all
	TablesAccept Spread  `json:"tablesAccept"` // with tables of the shards' own
	BareBeat     float64 `json:"bareBeat"`     // us of CPU a heartbeat
	BareStreams  int     `json:"bareStreams"`

	Steps    []ScaleStep `json:"steps"`
	Computed []ScaleStep `json:"computed"` // from the growth between the last two

	Upgrades *ScaleUpgrades `json:"upgrades,omitempty"`
}

// A ScaleStep is the server with so many streams.
type ScaleStep struct {
	Streams   int     `json:"streams"`
	Resident  float64 `json:"resident"`  // bytes of the server's process
	PerStream float64 `json:"perStream"` // bytes of it more than without a stream, a stream
	Kernel    float64 `json:"kernel"`    // bytes a stream: slabs and socket buffers of both ends
	Connect   float64 `json:"connect"`   // seconds, from none to all, without what was measured between
	Setup     float64 `json:"setup"`     // us of the server's CPU a stream, of those of this step, without the heartbeats meanwhile
	Idle      float64 `json:"idle"`      // of a core, with heartbeats
	PerBeat   float64 `json:"perBeat"`   // us of CPU a heartbeat
	Beats     int     `json:"beats"`
	Burst     float64 `json:"burst"`     // most heartbeats in a tenth of a second, by the mean
	Broadcast float64 `json:"broadcast"` // seconds from the first stream that has an event to the last
	ToFirst   float64 `json:"toFirst"`   // seconds from before it is published to the first
	PerSend   float64 `json:"perSend"`   // us of CPU a send of it
}

// scaleOptions are the command's own flags.
type scaleOptions struct {
	streams string
	idle    time.Duration
}

// scale holds what is asked for, in steps.
func (s *session) scale(ctx context.Context, o scaleOptions) error {
	steps, err := counts(o.streams)
	if err != nil {
		return err
	}
	most := steps[len(steps)-1]
	r := &Scale{Date: today(), Version: s.version(ctx), Command: "make bench-scale", Machine: loadtest.ThisMachine(), Idle: o.idle.Seconds(), Rounds: s.rounds}
	if o.streams != scaleStreams {
		r.Command = "go run ./bench scale -streams " + o.streams
	}
	r.Limit = r.Machine.OpenMax
	each := int(min(r.Limit, 1<<20)) - 200
	if each < 1000 {
		return fmt.Errorf("a limit of %d open files is too low for holders of streams; at least 1,200", r.Limit)
	}
	apart := peers.With("penstock, tables", "--max-connections", strconv.Itoa(max(most+1000, int(r.Limit)+1)))
	if slices.Equal(s.only, []string{"upgrade"}) {
		return s.scaleUpgradesOnly(ctx, r, apart, steps, each)
	}
	if err := s.scaleAccept(ctx, r, apart, min(10_000, each, most)); err != nil {
		return err
	}
	if err := s.scaleBare(ctx, r, min(10_000, each, most), o.idle); err != nil {
		return err
	}
	if err := s.scaleSteps(ctx, r, apart, steps, each, o.idle); err != nil {
		return err
	}
	if r.Upgrades, err = s.scaleUpgrades(ctx, r, apart, steps, each); err != nil {
		return err
	}
	for _, n := range []int{500_000, 1_000_000} {
		if len(r.Steps) > 1 && n > most {
			r.Computed = append(r.Computed, r.compute(n))
		}
	}
	return r.write(s.peers.Root, s.out)
}

// scaleStreams are the steps of make bench-scale.
const scaleStreams = "10000,50000,100000,200000"

func counts(text string) (steps []int, err error) {
	for _, word := range list(text) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 3_000_000 || len(steps) > 0 && n <= steps[len(steps)-1] {
			return nil, fmt.Errorf("-streams %s: numbers of streams, growing, joined by commas", text)
		}
		steps = append(steps, n)
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("-streams: at least one number")
	}
	return steps, nil
}

// scaleAccept measures what a stream costs to begin: the bare loop, one table, tables of the
// shards' own, in turn.
func (s *session) scaleAccept(ctx context.Context, r *Scale, apart *peers.Peer, streams int) error {
	shared := peers.With("penstock, one table")
	costs := map[*peers.Peer][]float64{}
	floor := peers.Beating(0)
	all := []*peers.Peer{floor, shared, apart}
	for round := range s.rounds {
		for i := range all {
			p := all[(i+round)%len(all)]
			err := s.with(ctx, p, streams, streams, func(server *peers.Running, hs *holders) error {
				before := processCPU(server.PID())
				if _, err := hs.fill(streams); err != nil {
					return err
				}
				cost := (processCPU(server.PID()) - before).Seconds() * 1e6 / float64(streams)
				costs[p] = append(costs[p], cost)
				fmt.Fprintf(os.Stderr, "accept %d/%d: %s, %.1f us a stream\n", round+1, s.rounds, p.Name, cost)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	r.BareAccept, r.SharedAccept, r.TablesAccept = spread(costs[floor]), spread(costs[shared]), spread(costs[apart])
	return nil
}

// scaleBare measures the bare sends of heartbeats.
func (s *session) scaleBare(ctx context.Context, r *Scale, streams int, idle time.Duration) error {
	r.BareStreams = streams
	return s.with(ctx, peers.Beating(15*time.Second), streams, streams, func(server *peers.Running, hs *holders) error {
		if _, err := hs.fill(streams); err != nil {
			return err
		}
		used, h, err := watchIdle(ctx, server.PID(), hs, idle)
		if err != nil {
			return err
		}
		r.BareBeat = used.Seconds() * 1e6 / float64(max(1, h.Reads))
		fmt.Fprintf(os.Stderr, "bare: %d heartbeats, %.1f us each\n", h.Reads, r.BareBeat)
		return nil
	})
}

// with starts a server and holders for so many streams.
func (s *session) with(ctx context.Context, p *peers.Peer, streams, each int, do func(*peers.Running, *holders) error) error {
	server, err := p.Start(ctx, &s.peers)
	if err != nil {
		return err
	}
	defer server.Stop()
	hs, err := startHolders(strings.TrimPrefix(server.Base, "http://"), streams, each)
	if err != nil {
		return err
	}
	defer hs.stop()
	if err := do(server, hs); err != nil {
		return fmt.Errorf("%s: %w; the server said: %s", p.Name, err, server.Log())
	}
	return nil
}

// settleTime is how long all have been idle before that is watched: every stream has had a heartbeat,
// and none waits for its first one any more.
const settleTime = 24 * time.Second

// watchIdle lets all be idle for a while.
func watchIdle(ctx context.Context, pid int, hs *holders, idle time.Duration) (used time.Duration, h held, err error) {
	settle := time.NewTimer(settleTime)
	defer settle.Stop()
	select {
	case <-ctx.Done():
		return 0, h, ctx.Err()
	case <-settle.C:
	}
	if _, err = hs.tell("watch"); err != nil {
		return 0, h, err
	}
	before := processCPU(pid)
	settle.Reset(idle)
	select {
	case <-ctx.Done():
		return 0, h, ctx.Err()
	case <-settle.C:
	}
	used = processCPU(pid) - before
	h, err = hs.tell("tell")
	return used, h, err
}

// scaleSteps holds more and more streams of one server.
func (s *session) scaleSteps(ctx context.Context, r *Scale, p *peers.Peer, steps []int, each int, idle time.Duration) error {
	most := steps[len(steps)-1]
	return s.with(ctx, p, most, each, func(server *peers.Running, hs *holders) error {
		r.Holders = len(hs.all)
		pid := server.PID()
		empty, kernel := resident(pid), float64(kernelMemory())
		var stats struct {
			Shards []struct{ Descriptors *struct{ Limit int } }
		}
		body, err := get(server.Base + "/stats")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &stats); err != nil {
			return err
		}
		if r.Shards = len(stats.Shards); r.Shards == 0 || stats.Shards[0].Descriptors == nil {
			return fmt.Errorf("its shards have no descriptor tables of their own")
		}
		connect, perBeat, begun := 0.0, 0.0, 0
		for _, n := range steps {
			if _, err := hs.tell("watch"); err != nil {
				return err
			}
			before := processCPU(pid)
			took, err := hs.fill(n)
			if err != nil {
				return err
			}
			used := processCPU(pid) - before
			beats, err := hs.tell("tell")
			if err != nil {
				return err
			}
			st := ScaleStep{Streams: n, Setup: (used.Seconds()*1e6 - float64(beats.Reads)*perBeat) / float64(n-begun)}
			connect, begun = connect+took.Seconds(), n
			st.Connect = connect
			used, h, err := watchIdle(ctx, pid, hs, idle)
			if err != nil {
				return err
			}
			st.Beats, st.Idle = h.Reads, used.Seconds()/idle.Seconds()
			perBeat = used.Seconds() * 1e6 / float64(max(1, h.Reads))
			st.PerBeat = perBeat
			for _, beats := range h.Slots {
				st.Burst = max(st.Burst, float64(beats)/(float64(h.Reads)/(10*idle.Seconds())))
			}
			if err := broadcast(ctx, server, hs, &st); err != nil {
				return err
			}
			st.Resident = resident(pid)
			st.PerStream = (st.Resident - empty) / float64(n)
			st.Kernel = (float64(kernelMemory()) - kernel) / float64(n)
			r.Steps = append(r.Steps, st)
			fmt.Fprintf(os.Stderr, "%d streams: %.0f B each, %.0f of the kernel's, %.1f s to connect, idle %.3f cores (%.1f us a heartbeat, burst %.2f), to all in %.3f s\n",
				n, st.PerStream, st.Kernel, st.Connect, st.Idle, st.PerBeat, st.Burst, st.Broadcast)
		}
		return nil
	})
}

// broadcast publishes an event to all, and waits until all have it.
func broadcast(ctx context.Context, server *peers.Running, hs *holders, st *ScaleStep) error {
	if _, err := hs.tell("watch"); err != nil {
		return err
	}
	before, began := processCPU(server.PID()), time.Now()
	resp, err := http.Post(server.Base+"/publish/"+scaleTopic, "text/plain", strings.NewReader(scaleData+", all of you"))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("publish: %s", resp.Status)
	}
	for pause := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		h, err := hs.tell("tell")
		if err != nil {
			return err
		}
		if h.Events >= st.Streams {
			pause.Stop()
			st.Broadcast = float64(h.Last-h.First) / 1e9
			st.ToFirst = float64(h.First-began.UnixNano()) / 1e9
			st.PerSend = (processCPU(server.PID()) - before).Seconds() * 1e6 / float64(st.Streams)
			return nil
		}
		if time.Since(began) > 2*time.Minute {
			return fmt.Errorf("after two minutes %d of %d streams have the event", h.Events, st.Streams)
		}
	}
}

// processCPU is the CPU time of a process's threads that live, as the scheduler counts it.
func processCPU(pid int) (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if ns, _, ok := strings.Cut(string(b), " "); ok {
			n, _ := strconv.ParseInt(ns, 10, 64)
			sum += time.Duration(n)
		}
	}
	return sum
}

// resident is a process's memory in bytes.
func resident(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return math.NaN()
	}
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(syscall.Getpagesize())
}

// compute goes on with the growth between the last two steps.
func (r *Scale) compute(n int) ScaleStep {
	a, b := r.Steps[len(r.Steps)-2], r.Steps[len(r.Steps)-1]
	on := func(f func(*ScaleStep) float64) float64 {
		return f(&b) + (f(&b)-f(&a))*float64(n-b.Streams)/float64(b.Streams-a.Streams)
	}
	c := ScaleStep{Streams: n}
	c.Resident = on(func(s *ScaleStep) float64 { return s.Resident })
	c.Kernel = on(func(s *ScaleStep) float64 { return s.Kernel * float64(s.Streams) }) / float64(n)
	c.PerStream = on(func(s *ScaleStep) float64 { return s.PerStream * float64(s.Streams) }) / float64(n)
	c.Connect = on(func(s *ScaleStep) float64 { return s.Connect })
	c.Idle = on(func(s *ScaleStep) float64 { return s.Idle })
	c.Broadcast = on(func(s *ScaleStep) float64 { return s.Broadcast })
	return c
}

// verdicts hold the figures against what is promised.
func (r *Scale) verdicts() []string {
	last := r.Steps[len(r.Steps)-1]
	word := func(kept bool) string {
		if kept {
			return "kept"
		}
		return "**not kept**"
	}
	beat := last.PerBeat / r.BareBeat
	accept := r.SharedAccept.Median
	handover := r.TablesAccept.Median - r.SharedAccept.Median
	return []string{
		fmt.Sprintf("%s streams in one process under a limit of %s descriptors: at least 200,000: %s", thousands(float64(last.Streams)), thousands(float64(r.Limit)), word(last.Streams >= 200_000)),
		fmt.Sprintf("memory of the process a stream: below 400 B (aim 200 B): %.0f B: %s", last.PerStream, word(last.PerStream < 400)),
		fmt.Sprintf("a heartbeat: at most 1.3 times the bare send: %.1f us, bare %.1f us (%s streams), %.2f times: %s", last.PerBeat, r.BareBeat, thousands(float64(r.BareStreams)), beat, word(beat <= 1.3)),
		fmt.Sprintf("heartbeats are spread and never a burst: most in a tenth of a second %.1f times the mean (all at once would be 150): %s", last.Burst, word(last.Burst < 5)),
		fmt.Sprintf("accept and handshake, hand-over apart: at most 1.25 times the bare loop: %.1f us, bare %.1f us, %.2f times: %s", accept, r.BareAccept.Median, accept/r.BareAccept.Median, word(accept <= 1.25*r.BareAccept.Median)),
		fmt.Sprintf("handing a socket to its shard's table: at most 6 us: %.1f us more than with one table: %s", handover, word(handover <= 6)),
	}
}

// table is the growth, for people.
func (r *Scale) table() string {
	var b strings.Builder
	b.WriteString("| streams | process | a stream | kernel, a stream (both ends) | all connected in | idle, of a core | for each 10,000 | a heartbeat | an event to all, first to last |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	row := func(s ScaleStep, measured bool) {
		note, beat := "", fmt.Sprintf("%.1f us", s.PerBeat)
		if !measured {
			note, beat = " (computed)", ""
		}
		fmt.Fprintf(&b, "| %s%s | %.0f MB | %.0f B | %.1f KB | %.1f s | %.1f%% | %.2f%% | %s | %.2f s |\n",
			thousands(float64(s.Streams)), note, s.Resident/1e6, s.PerStream, s.Kernel/1e3, s.Connect, 100*s.Idle, 100*s.Idle/(float64(s.Streams)/10_000), beat, s.Broadcast)
	}
	for _, s := range r.Steps {
		row(s, true)
	}
	for _, s := range r.Computed {
		row(s, false)
	}
	return b.String()
}

// about says how it was measured.
func (r *Scale) about() string {
	return fmt.Sprintf("%s, Penstock %s, %s, %d cores, %.0f GB, %s. One process with %d shards under a limit of %s descriptors; the streams are held by %d other processes on the same machine, over loopback. Heartbeats every 15 s, watched for %.0f s. Again: `%s`\n",
		r.Date, r.Version, r.Machine.CPU, r.Machine.Cores, float64(r.Machine.Memory)/1e9, r.Machine.Kernel, r.Shards, thousands(float64(r.Limit)), r.Holders, r.Idle, r.Command)
}

// Markers in docs/capacity.md and docs/upgrade.md.
const (
	scaleBegin    = "<!-- scale:begin -->"
	scaleEnd      = "<!-- scale:end -->"
	upgradesBegin = "<!-- upgrades:begin -->"
	upgradesEnd   = "<!-- upgrades:end -->"
)

// write writes the results, and the tables into docs/capacity.md and docs/upgrade.md: of the whole
// proof only.
func (r *Scale) write(root, dir string) error {
	name := "scale"
	if r.Command != "make bench-scale" {
		name = "scale-part"
	}
	var md strings.Builder
	fmt.Fprintf(&md, "# More streams than descriptors\n\n%s\n%s\n", r.about(), r.table())
	for _, v := range r.verdicts() {
		fmt.Fprintf(&md, "- %s\n", v)
	}
	fmt.Fprintf(&md, "\nA stream that begins, us of the server's CPU, medians of %d rounds of %s streams: bare loop %s, one table %s, tables of the shards' own %s. By step:",
		r.Rounds, thousands(float64(r.BareStreams)), within(r.BareAccept), within(r.SharedAccept), within(r.TablesAccept))
	for _, s := range r.Steps {
		fmt.Fprintf(&md, " %.1f to %s,", s.Setup, thousands(float64(s.Streams)))
	}
	md.WriteString(" without the heartbeats that the others get meanwhile.\n\nOf an event to all, us of CPU a send:")
	for _, s := range r.Steps {
		fmt.Fprintf(&md, " %.1f at %s (the first has it after %.1f ms),", s.PerSend, thousands(float64(s.Streams)), 1e3*s.ToFirst)
	}
	md.WriteString(" publishing included.\n")
	if len(r.Computed) > 0 {
		md.WriteString("\nComputed figures go on with the growth between the last two measured steps.\n")
	}
	if r.Upgrades != nil {
		fmt.Fprintf(&md, "\n## Upgrades\n\n%s\n%s\n", r.Upgrades.about(), r.Upgrades.table())
		for _, v := range r.Upgrades.verdicts() {
			fmt.Fprintf(&md, "- %s\n", v)
		}
	}
	if err := writeBoth(dir, name, r, md.String()); err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, "\n", md.String())
	if name != "scale" {
		return nil
	}
	if err := into(root, "capacity.md", scaleBegin, scaleEnd, r.about()+"\n"+r.table()); err != nil || r.Upgrades == nil {
		return err
	}
	if err := into(root, "capacity.md", upgradesBegin, upgradesEnd, r.Upgrades.sentence()); err != nil {
		return err
	}
	return into(root, "upgrade.md", upgradesBegin, upgradesEnd, r.Upgrades.about()+"\n"+r.Upgrades.table())
}

// into writes figures into a document.
func into(root, name, begin, end, figures string) error {
	file := filepath.Join(root, "docs", name)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := inside(string(text), begin, end, figures)
	if err != nil {
		return fmt.Errorf("docs/%s: %w", name, err)
	}
	return os.WriteFile(file, []byte(out), 0o644)
}

// rewrite writes scale.md and the table in docs/capacity.md again, from scale.json if there is one.
func rewrite(root, dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "scale.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var r Scale
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil {
		err = r.write(root, dir)
	}
	return err
}

func within(s Spread) string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", s.Median, s.Least, s.Most)
}
