package main

// The command soak: a server under changing load for as long as one likes, and nothing may be lost,
// grow or leak. The exit code tells.
//
// Round after round a load test (churn, resumes, slow and stalled readers, bursts) runs against one
// server with tight limits, beside a nuisance (nuisance.go) that hits each of them. Between two rounds nobody
// is there, and what the server then holds is compared.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"penstock/loadtest"
)

// A soak is one run.
type soak struct {
	s     *session
	base  string // of the server
	debug string
	cmd   *exec.Cmd
	says  bytes.Buffer
	ended chan error

	begun    time.Time
	memory   []sample // while load is on
	rounds   int
	total    loadtest.Tally
	sent     uint64
	refusals map[string]uint64
	wrong    []string
}

// A sample is the server's memory at a moment.
type sample struct {
	at  time.Duration
	rss uint64
}

// What nobody may take from the server while nobody is there: a count's growth beyond these is a leak.
// Connections of Go's HTTP client and the pool of fasthttp come and go.
const (
	slackDescriptors = 2
	slackGoroutines  = 8
	slackMemory      = 24 << 20
	slackShare       = 1.15
)

// soakFlags are limits that this load hits.
var soakFlags = []string{
	"--ring-size", "2MiB", "--send-buffer", "16KiB", "--max-event-size", "64KiB", "--keep-size", "1MiB", "--lag-memory", "1MiB",
	"--max-topics", "2000", "--max-connections", "1900", "--max-connections-per-ip", "1000", "--max-requests", "256",
	"--handshake-timeout", "2s", "--drain-time", "1s", "--retry-min", "100ms", "--retry-max", "500ms",
}

// idle is what a server holds while nobody is there.
type idle struct {
	descriptors, goroutines int
}

// soak runs for so long.
func (s *session) soak(ctx context.Context) error {
	k := &soak{s: s, ended: make(chan error, 1), refusals: map[string]uint64{}}
	if err := k.start(); err != nil {
		return err
	}
	defer k.cmd.Process.Kill()
	warm := min(20*time.Second, s.duration/4)
	if err := k.round(ctx, warm); err != nil { // pools and the ring fill
		return err
	}
	before, err := k.atRest(ctx, idle{})
	if err != nil {
		return err
	}
	k.begun, k.memory, k.total, k.sent = time.Now(), nil, loadtest.Tally{}, 0
	fmt.Printf("warm after %s: %d descriptors, %d goroutines\n", warm, before.descriptors, before.goroutines)
	for ctx.Err() == nil {
		left := s.duration - time.Since(k.begun)
		if left < 5*time.Second && k.rounds > 1 {
			break
		}
		if err := k.round(ctx, min(max(left/3, 6*time.Second), time.Minute)); err != nil {
			return err
		}
		after, err := k.atRest(ctx, before)
		if err != nil {
			return err
		}
		fmt.Printf("%8s  %d rounds, %d events delivered, %d resumed, %d lost, memory %d MB, %d descriptors, %d goroutines\n",
			time.Since(k.begun).Round(time.Second), k.rounds, k.total.Events, k.total.Resumed, k.total.Lost,
			k.memory[len(k.memory)-1].rss>>20, after.descriptors, after.goroutines)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	k.judge()
	k.drain()
	if len(k.wrong) > 0 {
		return fmt.Errorf("soak of %s:\n  %s\n%s", s.duration, strings.Join(k.wrong, "\n  "), k.says.String())
	}
	fmt.Printf("soak of %s: %d events published, %d delivered, %d resumes, %d gaps told, nothing lost, doubled or out of order; refused %v\n",
		s.duration, k.sent, k.total.Events, k.total.Resumed, k.total.Gaps, k.refusals)
	return nil
}

// start starts the server.
func (k *soak) start() error {
	var ports [2]string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ports[i] = l.Addr().String()
		l.Close()
	}
	k.base, k.debug = "http://"+ports[0], "http://"+ports[1]
	args := append([]string{"serve", "--listen", ports[0], "--debug", ports[1]}, soakFlags...)
	k.cmd = exec.Command(k.s.peers.Penstock, append(args, k.s.peers.Extra...)...)
	k.cmd.Stdout, k.cmd.Stderr = &k.says, &k.says
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := k.cmd.Start(); err != nil {
		return err
	}
	go func() { k.ended <- k.cmd.Wait() }()
	for range 200 {
		if a, err := http.Get(k.base + "/healthz"); err == nil {
			a.Body.Close()
			return nil
		}
		select {
		case err := <-k.ended:
			return fmt.Errorf("the server ended: %v\n%s", err, k.says.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("the server does not answer within 10 s")
}

// round is one load test beside the nuisance.
func (k *soak) round(ctx context.Context, d time.Duration) error {
	c, err := loadtest.Scenario("mixed")
	if err != nil {
		return err
	}
	c.URL, c.PID, c.Duration, c.Seed = k.base, k.cmd.Process.Pid, d, uint64(k.rounds+1)
	c.Subscribers, c.Topics, c.Watch, c.Rate, c.Size = 800, 200, 5, 600, 400
	c.ChurnRate, c.Away, c.SlowShare, c.ConnectRate, c.Processes = 60, 500*time.Millisecond, 0.03, 2_000, 1
	c.Storm = k.rounds%2 == 1
	c.TopicName = "soak." + strconv.Itoa(k.rounds)
	k.rounds++

	ctx, cancel := context.WithTimeout(ctx, d+c.Grace+time.Minute)
	defer cancel()
	n := newNuisance(strings.TrimPrefix(k.base, "http://"))
	go n.run(ctx)
	defer n.stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		k.watch(ctx, n.done)
	}()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := json.Marshal(errand{Config: c})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "load")
	var out, says bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &says
	err = cmd.Run()
	n.stop()
	<-watched
	flood(strings.TrimPrefix(k.base, "http://"))
	if err != nil {
		return fmt.Errorf("load: %w: %s%s", err, says.String(), k.says.String())
	}
	var r loadtest.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return err
	}
	t := &r.Streams
	for _, w := range []struct {
		what string
		n    uint64
	}{
		{"events lost", t.Lost}, {"doubled", t.Doubled}, {"out of order", t.Reordered}, {"torn", t.Torn}, {"ids that went back", t.IDsBack},
		{"gaps that cannot be", t.BadGaps}, {"topics named in a gap that missed nothing", t.EmptyGaps}, {"events not asked for", t.Stray},
		{"streams that never began", t.Failed}, {"publishes unanswered", r.Publish.Unknown},
	} {
		if w.n > 0 {
			k.wrong = append(k.wrong, fmt.Sprintf("round %d: %d %s; %v", k.rounds, w.n, w.what, r.Errors))
		}
	}
	k.total.Events += t.Events
	k.total.Resumed += t.Resumed
	k.total.Lost += t.Lost
	k.total.Gaps += t.Gaps
	k.sent += r.Publish.Published
	return nil
}

// watch takes the server's memory while a round goes on, and what it refused.
func (k *soak) watch(ctx context.Context, done <-chan struct{}) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if rss, err := residentOf(k.cmd.Process.Pid); err == nil {
				k.memory = append(k.memory, sample{time.Since(k.begun), rss})
			}
		}
	}
}

// stats is what of /stats is compared.
type stats struct {
	Connections struct {
		Streams  int `json:"streams"`
		Requests int `json:"requests"`
	} `json:"connections"`
	Lag struct {
		Streams int   `json:"streams"`
		Bytes   int64 `json:"bytes"`
	} `json:"lag"`
	Ring struct {
		Bytes int64 `json:"bytes"`
		Size  int64 `json:"size"`
	} `json:"ring"`
	Descriptors struct {
		Open int `json:"open"`
	} `json:"descriptors"`
	Refusals map[string]uint64 `json:"refusals"`
}

// atRest waits until nobody is there, compares /stats with /proc, and the server with what it held
// before.
func (k *soak) atRest(ctx context.Context, before idle) (now idle, err error) {
	var why string
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if now, why, err = k.look(before); err != nil || why == "" {
			return now, err
		}
		select {
		case err := <-k.ended:
			return now, fmt.Errorf("the server ended: %v\n%s", err, k.says.String())
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	k.wrong = append(k.wrong, fmt.Sprintf("after round %d, with nobody there for 20 s: %s", k.rounds, why))
	return now, nil
}

// look looks at the server once; why says what is not as it must be.
func (k *soak) look(before idle) (now idle, why string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	var st stats
	a, err := client.Get(k.base + "/stats")
	if err != nil {
		return now, "", err
	}
	err = json.NewDecoder(a.Body).Decode(&st)
	a.Body.Close()
	if err != nil {
		return now, "", err
	}
	open, err := os.ReadDir("/proc/" + strconv.Itoa(k.cmd.Process.Pid) + "/fd")
	if err != nil {
		return now, "", err
	}
	a, err = client.Get(k.debug + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return now, "", err
	}
	line, _ := bufio.NewReader(a.Body).ReadString('\n')
	a.Body.Close()
	_, err = fmt.Sscanf(line, "goroutine profile: total %d", &now.goroutines)
	if err != nil {
		return now, "", fmt.Errorf("%q: %w", line, err)
	}
	now.descriptors, k.refusals = len(open), st.Refusals
	switch {
	case st.Connections.Streams != 0:
		why = fmt.Sprintf("%d streams in /stats", st.Connections.Streams)
	case st.Lag.Streams != 0 || st.Lag.Bytes != 0:
		why = fmt.Sprintf("%d streams lag, %d bytes held for them", st.Lag.Streams, st.Lag.Bytes)
	case st.Ring.Bytes > st.Ring.Size:
		why = fmt.Sprintf("%d bytes in a ring of %d", st.Ring.Bytes, st.Ring.Size)
	case st.Descriptors.Open-len(open) > slackDescriptors || len(open)-st.Descriptors.Open > slackDescriptors:
		why = fmt.Sprintf("%d descriptors in /stats, %d in /proc", st.Descriptors.Open, len(open))
	case before.descriptors > 0 && now.descriptors > before.descriptors+slackDescriptors:
		why = fmt.Sprintf("%d descriptors, %d before", now.descriptors, before.descriptors)
	case before.goroutines > 0 && now.goroutines > before.goroutines+slackGoroutines:
		why = fmt.Sprintf("%d goroutines, %d before", now.goroutines, before.goroutines)
	}
	return now, why, nil
}

// judge compares the memory of the first third with that of the last, and wants the limits hit.
func (k *soak) judge() {
	third := len(k.memory) / 3
	if third == 0 {
		k.wrong = append(k.wrong, "no sample of the memory")
		return
	}
	median := func(s []sample) uint64 {
		var all []uint64
		for _, m := range s {
			all = append(all, m.rss)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	first, last := median(k.memory[:third]), median(k.memory[len(k.memory)-third:])
	fmt.Printf("memory: median %d MB in the first third, %d MB in the last\n", first>>20, last>>20)
	if float64(last) > slackShare*float64(first)+slackMemory {
		k.wrong = append(k.wrong, fmt.Sprintf("memory grew: median %d MB in the first third, %d MB in the last", first>>20, last>>20))
	}
	for _, want := range []string{"connections", "connections_per_ip"} {
		if k.refusals[want] == 0 {
			k.wrong = append(k.wrong, "no refusal by the limit of "+want+": the load did not reach it")
		}
	}
}

// drain ends the server in good order.
func (k *soak) drain() {
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-k.ended:
		if err != nil {
			k.wrong = append(k.wrong, fmt.Sprintf("after SIGTERM: %v", err))
		}
	case <-time.After(15 * time.Second):
		k.wrong = append(k.wrong, "15 s after SIGTERM it still runs")
	}
}

// residentOf is a process's resident memory, in bytes.
func residentOf(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, err
	}
	return resident * uint64(os.Getpagesize()), nil
}
