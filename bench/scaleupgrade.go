package main

// Upgrades of a server that holds many times more streams than its limit of descriptors: what its
// streams see of it, how long it takes, what both processes hold meanwhile. A part of the command scale.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"penstock/bench/peers"
)

// ScaleUpgrades are upgrades with more and more streams, each of a server of its own.
type ScaleUpgrades struct {
	Date    string         `json:"date"`
	Version string         `json:"version"`
	Command string         `json:"command"`
	Shards  int            `json:"shards"`
	Limit   uint64         `json:"limit"`
	Rate    int            `json:"rate"` // ticks a second
	Every   int            `json:"every"`
	Steps   []ScaleUpgrade `json:"steps"`
}

// A ScaleUpgrade is one of them.
type ScaleUpgrade struct {
	Streams  int     `json:"streams"`
	Ticking  int     `json:"ticking"`  // streams that have ticks
	Calm     float64 `json:"calm"`     // ms: the longest time between two ticks while nothing happens, of most streams (median) ...
	CalmMost float64 `json:"calmMost"` // ... and of any
	Pause    float64 `json:"pause"`    // ms: the same with the upgrade
	Most     float64 `json:"most"`
	Took     float64 `json:"took"` // seconds from the signal to the end of the old process
	Lost     int     `json:"lost"` // events that some stream has not had, or twice; and streams that ended
	Before   float64 `json:"before"`
	Old      float64 `json:"old"`   // bytes resident: of the old process at most, ...
	New      float64 `json:"new"`   // ... of the new one, ...
	Both     float64 `json:"both"`  // ... of both together at a time, ...
	After    float64 `json:"after"` // ... and of the new one two seconds later
}

const (
	tickEvery  = 400 // one of so many streams has ticks
	tickRate   = 50  // a second
	tickSettle = 2 * time.Second
)

// scaleUpgradesOnly measures upgrades anew, beside the other figures as they were.
func (s *session) scaleUpgradesOnly(ctx context.Context, r *Scale, p *peers.Peer, steps []int, each int) error {
	if r.Command != "make bench-scale" {
		var err error
		if r.Upgrades, err = s.scaleUpgrades(ctx, r, p, steps, each); err == nil {
			fmt.Fprint(os.Stderr, "\n", r.Upgrades.about(), "\n", r.Upgrades.table())
		}
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.out, "scale.json"))
	if err != nil {
		return fmt.Errorf("-rows upgrade goes with figures that are there: %w", err)
	}
	was := new(Scale)
	if err := json.Unmarshal(b, was); err != nil {
		return err
	}
	if was.Upgrades, err = s.scaleUpgrades(ctx, r, p, steps, each); err != nil {
		return err
	}
	return was.write(s.peers.Root, s.out)
}

// scaleUpgrades measures an upgrade with each number of streams.
func (s *session) scaleUpgrades(ctx context.Context, r *Scale, p *peers.Peer, steps []int, each int) (*ScaleUpgrades, error) {
	all := &ScaleUpgrades{Date: r.Date, Version: r.Version, Command: r.Command + " -rows upgrade", Limit: r.Limit, Rate: tickRate, Every: tickEvery}
	if r.Command == "make bench-scale" {
		all.Command = "go run ./bench scale -rows upgrade"
	}
	for _, n := range steps {
		err := s.with(ctx, p, n, each, func(server *peers.Running, hs *holders) error {
			st, err := s.scaleUpgrade(ctx, server, hs, n)
			if err != nil {
				return err
			}
			all.Shards = st.shards
			all.Steps = append(all.Steps, st.ScaleUpgrade)
			fmt.Fprintf(os.Stderr, "upgrade of %d streams: %.2f s, %d lost; silences of %d streams: calm %.0f ms, at most %.0f; with it %.0f, at most %.0f; %.0f MB before, %.0f and %.0f, together %.0f, %.0f after\n",
				n, st.Took, st.Lost, st.Ticking, st.Calm, st.CalmMost, st.Pause, st.Most, st.Before/1e6, st.Old/1e6, st.New/1e6, st.Both/1e6, st.After/1e6)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

type upgradeTrial struct {
	ScaleUpgrade
	shards int
}

// scaleUpgrade upgrades one server.
func (s *session) scaleUpgrade(ctx context.Context, server *peers.Running, hs *holders, streams int) (st upgradeTrial, err error) {
	st.Streams = streams
	if _, err = hs.tell("ticks " + strconv.Itoa(tickEvery)); err != nil {
		return st, err
	}
	if _, err = hs.fill(streams); err != nil {
		return st, err
	}
	var stats struct{ Shards []struct{ Streams int } }
	body, err := get(server.Base + "/stats")
	if err == nil {
		err = json.Unmarshal(body, &stats)
	}
	if err != nil {
		return st, err
	}
	st.shards = len(stats.Shards)
	stop := tick(ctx, server.Base)
	defer func() {
		if terr := stop(); err == nil {
			err = terr
		}
	}()

	// Calm, then an event to all, so that each stream has had one from the old process.
	if err := wait(ctx, tickSettle); err != nil {
		return st, err
	}
	calm, err := watch(ctx, hs)
	if err != nil {
		return st, err
	}
	st.Calm, st.CalmMost, st.Ticking = calm.Median, calm.Most, len(calm.values)
	var event ScaleStep
	event.Streams = streams
	if err := broadcast(ctx, server, hs, &event); err != nil {
		return st, err
	}
	before, err := hs.tell("tell")
	if err != nil {
		return st, err
	}

	pid := server.PID()
	st.Before = resident(pid)
	if _, err := hs.tell("watch"); err != nil {
		return st, err
	}
	// Not by serve --upgrade: that looks for the server in the descriptors of every process, and here
	// those of the holders are as many as the streams.
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		return st, err
	}
	now := 0
	for pause := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-pause.C:
		}
		old, taking := resident(pid), 0.0
		if child := childOf(pid); child != 0 {
			now = child
		}
		if now != 0 {
			taking = resident(now)
		}
		if math.IsNaN(old) && math.IsNaN(taking) || time.Since(began) > 30*time.Second {
			return st, fmt.Errorf("upgrade: process %d has not handed over", pid)
		}
		if !math.IsNaN(taking) {
			st.New = max(st.New, taking)
		}
		if math.IsNaN(old) { // it has ended
			pause.Stop()
			break
		}
		st.Old = max(st.Old, old)
		if !math.IsNaN(taking) {
			st.Both = max(st.Both, old+taking)
		}
	}
	st.Took = time.Since(began).Seconds()
	if err := wait(ctx, tickSettle); err != nil {
		return st, err
	}
	after, err := hs.tell("tell")
	if err != nil {
		return st, err
	}
	pauses := spread(after.Silences)
	st.Pause, st.Most, st.After = pauses.Median, pauses.Most, resident(now)
	if err := broadcast(ctx, server, hs, &event); err != nil {
		return st, fmt.Errorf("after the upgrade: %w", err)
	}
	last, err := hs.tell("tell")
	if err != nil {
		return st, err
	}
	st.Lost = (streams - last.Streams) + last.Failed + last.Astray + max(0, 1-before.Fewest) + (before.Most - 1) + max(0, 1-last.Fewest) + (last.Most - 1)
	return st, nil
}

type silences struct {
	Spread
	values []float64
}

// watch looks at the silences of a while.
func watch(ctx context.Context, hs *holders) (s silences, err error) {
	if _, err := hs.tell("watch"); err != nil {
		return s, err
	}
	if err := wait(ctx, tickSettle); err != nil {
		return s, err
	}
	h, err := hs.tell("tell")
	return silences{spread(h.Silences), h.Silences}, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// tick publishes ticks, one after the other, until stop is called; the error is the first publish that
// could not be done again.
func tick(ctx context.Context, base string) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		beat := time.NewTicker(time.Second / tickRate)
		defer beat.Stop()
		for n, tries := 1, 0; ; {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-beat.C:
			}
			// A key, so that one whose answer was lost can be published again.
			resp, err := client.Post(fmt.Sprintf("%s/publish/%s?key=%d", base, tickTopic, n), "text/plain", strings.NewReader(tickData+strconv.Itoa(n)))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					n, tries = n+1, 0
					continue
				}
				err = errors.New(resp.Status)
			}
			if tries++; tries > 100 && ctx.Err() == nil {
				done <- fmt.Errorf("publish tick %d: %w", n, err)
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// childOf is a process that pid has started and that lives; 0: none.
func childOf(pid int) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if fields := strings.Fields(string(b)); len(fields) > 0 {
			n, _ := strconv.Atoi(fields[0])
			return n
		}
	}
	return 0
}

func (u *ScaleUpgrades) about() string {
	return fmt.Sprintf("%s, Penstock %s, %d shards with tables of their own under a limit of %s descriptors; one stream of %d has a tick %d times a second, and its longest time without one is what it sees of a pause. The streams are held and the ticks published on the same two cores. Again: `%s`\n",
		u.Date, u.Version, u.Shards, thousands(float64(u.Limit)), u.Every, u.Rate, u.Command)
}

func (u *ScaleUpgrades) table() string {
	var b strings.Builder
	b.WriteString("| streams | longest silence, most (p50) | any | without an upgrade, p50 | any | signal to the end of the old process | lost | old process: before, at most | new: at most, 2 s later | both at most |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range u.Steps {
		fmt.Fprintf(&b, "| %s | %.0f ms | %.0f ms | %.0f ms | %.0f ms | %.2f s | %d | %.0f, %.0f MB | %.0f, %.0f MB | %.0f MB |\n",
			thousands(float64(s.Streams)), s.Pause, s.Most, s.Calm, s.CalmMost, s.Took, s.Lost, s.Before/1e6, s.Old/1e6, s.New/1e6, s.After/1e6, s.Both/1e6)
	}
	return b.String()
}

// sentence says it in one.
func (u *ScaleUpgrades) sentence() string {
	s := u.Steps[len(u.Steps)-1]
	return fmt.Sprintf("An upgrade of such a server with %s streams took %.1f s, %.2f s of silence for a stream that has an event every %d ms (%.2f s at most), and lost %d events; both processes together held %.0f MB, the new one %.0f MB afterwards ([upgrade.md](upgrade.md)).\n",
		thousands(float64(s.Streams)), s.Took, s.Pause/1e3, 1000/u.Rate, s.Most/1e3, s.Lost, s.Both/1e6, s.After/1e6)
}

// verdicts hold the last step against what is promised.
func (u *ScaleUpgrades) verdicts() []string {
	s := u.Steps[len(u.Steps)-1]
	word := "kept"
	if s.Lost != 0 {
		word = "**not kept**"
	}
	return []string{fmt.Sprintf("an upgrade of %s streams loses nothing and ends no stream: %d: %s", thousands(float64(s.Streams)), s.Lost, word)}
}
