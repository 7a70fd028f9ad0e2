package loadtest

// A run: its phases, one after the other.
//
//	look      at the server's process, before anything happens
//	connect   until every subscriber has had its first try
//	measure   publish for the set time
//	drain     until everything acknowledged has come, or the grace is over
//	end       judge what is missing, close, report
//
// Run belongs to one goroutine; readers and the publisher are threads of their own.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options is what a run needs beside its Config.
type Options struct {
	Progress io.Writer // lines for a person; nil: none
	Terminal bool      // Progress is one: a line that renews itself
	Part     []string  // program and arguments that call Part; nil: a run is one process

	// Feed, where it is not nil, publishes what the run does not know: events of others, for it
	// (Tally.Foreign). It is called, on a goroutine of its own, when the measured part begins,
	// which then lasts until it returns, whatever Config.Duration says.
	Feed func(ctx context.Context) error
}

// A UsageError is a Config that cannot be.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Run makes a run and reports what it found. When ctx ends it stops early and still reports. The
// error is a *UsageError, or says why no run was possible; what goes wrong with streams is in the
// report (Report.OK).
func Run(ctx context.Context, cfg Config, o Options) (*Report, error) {
	if err := cfg.Check(); err != nil {
		return nil, &UsageError{err}
	}
	p, err := newPlan(ctx, cfg, 0)
	if err != nil {
		if _, ok := errors.AsType[*unreachableError](err); ok {
			return nil, err
		}
		return nil, &UsageError{err}
	}
	r := &run{plan: p, collector: newCollector(), progress: newProgress(o), started: time.Now()}
	if err := r.spread(o.Part); err != nil {
		return nil, err
	}
	if r.board, err = newBoard(p.lanes); err != nil {
		return nil, err
	}
	defer r.board.close()
	return r.all(ctx, &o)
}

// A run is a run under way.
type run struct {
	plan      *plan
	board     *board
	collector *collector
	progress  *progress
	server    *ServerProcess
	started   time.Time
	notes     []string
	readers   []part
	children  []int // pids of parts that are processes
	processes int
	threads   int // readers a process

	stop      atomic.Bool // publishers: no more
	published atomic.Uint64
	looked    Sample // before the first connection
	connected Sample
	ended     Sample
	cpuBefore map[int]status
	most      uint64
	memory    uint64
}

// A part is a share of the subscribers, on threads of this process or in another.
type part struct {
	wait func() error
}

// all goes through the phases.
func (r *run) all(ctx context.Context, o *Options) (*Report, error) {
	cfg := &r.plan.cfg
	var err error
	if r.server, err = findServer(cfg.PID, r.plan.base.addr); err != nil {
		if cfg.PID != 0 {
			return nil, &UsageError{err}
		}
		r.notes = append(r.notes, "the server's memory and CPU are not known: "+err.Error())
	}
	r.looked = r.server.sample(true, nil)
	if err := r.start(o.Part); err != nil {
		return nil, err
	}
	begun := clock()
	if cfg.Subscribers > 0 {
		r.until(ctx, "connecting", func(m moment) bool { return m.readers >= r.plan.readers && m.settled || hopeless(m) })
	}
	r.connected = r.server.sample(true, r.children)
	connecting := float64(clock()-begun) / 1e9
	m := r.collector.now()
	r.cpuBefore = r.collector.byTeller()

	start := clock() + int64(50*time.Millisecond)
	r.board.setStart(start)
	var pub *publisher
	pubDone := make(chan error, 1)
	var over atomic.Bool // the publisher is done
	measured := r.server.sample(false, r.children)
	fed := make(chan error, 1)
	alive := cfg.Subscribers == 0 || m.tally.Live > 0
	if alive && ctx.Err() == nil {
		r.board.setPhase(phaseMeasure)
		end := start + int64(cfg.Duration)
		if r.plan.pub != nil {
			if pub, err = newPublisher(r.plan, r.board, func(second int, n uint64) {
				r.published.Add(n)
				r.collector.published(second, n)
			}); err != nil {
				return nil, r.abort(err)
			}
			go func() {
				pubDone <- pub.run(start, end, r.stop.Load)
				over.Store(true)
			}()
		}
		if o.Feed != nil {
			go func() {
				fed <- o.Feed(ctx)
				over.Store(true)
			}()
		}
		r.until(ctx, "measuring", func(m moment) bool {
			return clock() >= end && o.Feed == nil || over.Load() || cfg.Subscribers > 0 && m.tally.Live == 0 && !r.plan.returns
		})
		r.stop.Store(true)
	}
	if pub != nil {
		if err := <-pubDone; err != nil {
			return nil, r.abort(err)
		}
	}
	if o.Feed != nil && over.Load() {
		if err := <-fed; err != nil {
			return nil, r.abort(err)
		}
	}
	published := float64(clock()-start) / 1e9
	if cfg.Rate != AsAcknowledged {
		published = min(published, cfg.Duration.Seconds())
	}
	r.board.setPhase(phaseDrain)
	if cfg.Subscribers > 0 {
		giveUp := clock() + int64(cfg.Grace)
		// What was said before the phase changed does not count.
		first := clock() + int64(100*time.Millisecond)
		rest := resting{feed: o.Feed != nil}
		r.until(context.WithoutCancel(ctx), "draining", func(m moment) bool {
			return clock() > giveUp || clock() > first && m.drained && rest.is(&m)
		})
	}
	r.ended = r.server.sample(true, r.children)
	r.board.setPhase(phaseEnd)
	for _, p := range r.readers {
		if err := p.wait(); err != nil {
			return nil, err
		}
	}
	r.progress.done()
	rep := r.report(pub, connecting, measured, published)
	rep.Interrupted = ctx.Err() != nil
	if rep.Interrupted {
		rep.Notes = append(rep.Notes, "interrupted: the run ended before its time")
	}
	return rep, nil
}

// A resting knows when nothing comes any more: what a feed has published has no numbers that
// would tell.
type resting struct {
	feed  bool
	bytes uint64
	since int64
}

func (s *resting) is(m *moment) bool {
	now := clock()
	if s.bytes != m.tally.BytesIn {
		s.bytes, s.since = m.tally.BytesIn, now
	}
	return !s.feed || s.since > 0 && now-s.since > int64(lingering)
}

// hopeless says that nobody gets in: a run that only fails need not fail to its end.
func hopeless(m moment) bool { return m.tally.Began == 0 && m.tally.Failed >= 500 }

// abort ends readers after an error of our own.
func (r *run) abort(err error) error {
	r.board.setPhase(phaseEnd)
	for _, p := range r.readers {
		err = errors.Join(err, p.wait())
	}
	return err
}

// spread decides on processes and threads.
func (r *run) spread(command []string) error {
	cfg := &r.plan.cfg
	if cfg.Subscribers == 0 {
		return nil
	}
	most := openMost()
	r.processes = cfg.Processes
	if r.processes == 0 {
		r.processes = (cfg.Subscribers + most - 1) / most
	}
	r.processes = min(r.processes, cfg.Subscribers)
	if each := (cfg.Subscribers + r.processes - 1) / r.processes; each > most {
		return &UsageError{fmt.Errorf("--subscribers %d in %d processes: %d descriptors each, and the limit (ulimit -n) leaves %d; --processes %d", cfg.Subscribers, r.processes, each, most, (cfg.Subscribers+most-1)/most)}
	}
	if ports := r.ports(); cfg.Subscribers > ports {
		r.notes = append(r.notes, fmt.Sprintf("%d streams and about %d local ports: connects will fail; --source 127.0.0.0/28 gives more addresses to connect from", cfg.Subscribers, ports))
	}
	if r.processes > 1 && len(command) == 0 {
		return errors.New("more than one process: the program that runs this has no command for parts")
	}
	r.threads = cfg.Threads
	if r.threads == 0 {
		r.threads = max(1, runtime.NumCPU()/2/r.processes)
	}
	r.threads = max(1, min(r.threads, cfg.Subscribers/r.processes))
	first := 0
	for i := range r.processes {
		count := (cfg.Subscribers - first) / (r.processes - i)
		r.plan.readers += len(r.plan.spans(first, count, r.threads))
		first += count
	}
	return nil
}

// ports answers how many connections can be made to one address and port.
func (r *run) ports() int {
	low, high := 32768, 60999
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &low, &high)
	}
	return (high - low + 1) * max(1, len(r.plan.sources))
}

// start starts the readers, in this process or in others.
func (r *run) start(command []string) error {
	cfg := &r.plan.cfg
	if cfg.Subscribers == 0 {
		return nil
	}
	if r.processes == 1 {
		var err error
		if r.readers, err = startReaders(r.plan, r.board, r.collector.tell, 0, r.plan.spans(0, cfg.Subscribers, r.threads)); err != nil {
			return r.abort(err)
		}
		return nil
	}
	first, index := 0, 0
	for i := range r.processes {
		count := (cfg.Subscribers - first) / (r.processes - i)
		p, err := r.process(command, errand{
			Config: r.plan.cfg, Run: r.plan.run, Begin: r.plan.begin, Readers: r.plan.readers,
			Threads: r.threads, Index: index, First: first, Count: count,
		})
		if err != nil {
			return r.abort(err)
		}
		r.readers = append(r.readers, p)
		index += len(r.plan.spans(first, count, r.threads))
		first += count
	}
	return nil
}

// thread runs f beside.
func thread(f func() error) part {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return part{wait: sync.OnceValue(func() error { return <-done })}
}

// until waits for a condition, with progress and a sample each second.
func (r *run) until(ctx context.Context, phase string, done func(moment) bool) {
	step := time.NewTicker(10 * time.Millisecond)
	defer step.Stop()
	second := r.plan.second(clock())
	for {
		m := r.collector.now()
		r.most = max(r.most, uint64(max(m.tally.Live, 0)))
		if done(m) || ctx.Err() != nil {
			r.progress.show(phase, r, m, true)
			return
		}
		r.progress.show(phase, r, m, false)
		if s := r.plan.second(clock()); s != second {
			sample := r.server.sample(false, r.children)
			r.memory = max(r.memory, sample.ServerRSS)
			r.collector.sampled(second, sample)
			second = s
		}
		select {
		case <-ctx.Done():
		case <-step.C:
		}
	}
}

// report makes the report of a run that has ended.
func (r *run) report(pub *publisher, connecting float64, measured Sample, published float64) *Report {
	c, cfg := r.collector, &r.plan.cfg
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(1 << 62)
	rep := &Report{
		Started: r.started, Version: cfg.Version, Command: cfg.Command, Config: *cfg, Machine: ThisMachine(),
		Connecting: connecting, Measured: float64(r.ended.At-measured.At) / 1e9,
		Most: r.most, Errors: Reasons{}, Notes: r.notes,
		Latency: percentilesOf(c.latency), Connect: percentilesOf(c.connects),
		FirstByte: percentilesOf(c.firstBytes), Resume: percentilesOf(c.resumes),
		Rows: rowsOf(c.rows),
	}
	for _, s := range c.last {
		rep.Streams.add(&s.tally)
		rep.Client.ReaderBusy = max(rep.Client.ReaderBusy, (s.cpu-r.cpuBefore[s.index].cpu).Seconds()/rep.Measured)
		rep.Client.ReaderWait = max(rep.Client.ReaderWait, (s.wait-r.cpuBefore[s.index].wait).Seconds()/rep.Measured)
	}
	rep.Streams.Live = 0
	rep.Errors.addAll(c.reasons)
	if pub != nil {
		rep.Publish = pub.tally
		rep.Errors.addAll(pub.reasons)
		rep.Late, rep.Ack = percentilesOf(pub.late), percentilesOf(pub.acks)
		rep.PublishRate = float64(pub.tally.Published) / published
		rep.Client.PublishBusy = pub.cpu.run.Seconds() / rep.Measured
		rep.Client.PublishWait = pub.cpu.wait.Seconds() / rep.Measured
	}
	rep.Deliveries = rep.Streams.Deliveries(rep.Streams.Events)
	if published > 0 {
		rep.DeliveryRate = float64(rep.Deliveries) / published
	}
	if rep.Streams.Reads > 0 {
		rep.PerRead = float64(rep.Deliveries) / float64(rep.Streams.Reads)
	}
	rep.Ratio = rep.Streams.Ratio()
	if s := cfg.CheckShare; s != 0 && s < 1 {
		rep.Notes = append(rep.Notes, fmt.Sprintf("%v of the streams are read event by event; of the others bytes are counted, and deliveries in proportion to them", s))
	}
	if n := rep.Streams.Uncoded; n > 0 {
		rep.Notes = append(rep.Notes, fmt.Sprintf("%s streams were asked for in %v and came without", grouped(n), cfg.Coding))
	}
	r.serverFigures(rep, measured)
	rep.Client.Processes, rep.Client.Readers = 1+len(r.children), r.plan.readers
	rep.Client.Memory = r.ended.ClientRSS
	rep.Client.CPUMeasured = r.ended.ClientCPU - measured.ClientCPU
	t := rep.Measured
	rep.Shares = Shares{
		Server: (r.ended.ServerCPU - measured.ServerCPU) / t, Client: rep.Client.CPUMeasured / t,
		Interrupt: (r.ended.Interrupt - measured.Interrupt) / t, Steal: (r.ended.Steal - measured.Steal) / t,
		Idle: (r.ended.Idle - measured.Idle) / t,
	}
	rep.Shares.Others = max(0, (r.ended.Busy-measured.Busy)/t-rep.Shares.Server-rep.Shares.Client-rep.Shares.Interrupt)
	rep.Limits = rep.limits()
	rep.Sentence = rep.sentence()
	for _, text := range cfg.FailIf {
		if cond, err := parseCondition(text); err == nil { // Check has read it before
			if m := cond.missed(rep); m != "" {
				rep.Missed = append(rep.Missed, m)
			}
		}
	}
	return rep
}

// serverFigures are those of the server's processes.
func (r *run) serverFigures(rep *Report, measured Sample) {
	if r.server == nil {
		return
	}
	s := &rep.Server
	s.Name, s.Processes = r.server.Name, len(r.server.PIDs)
	s.MemoryBefore, s.MemoryStreams, s.MemoryAfter = r.looked.ServerRSS, r.connected.ServerRSS, r.ended.ServerRSS
	s.MemoryMost = max(r.memory, s.MemoryBefore, s.MemoryStreams, s.MemoryAfter)
	s.CPUConnect = r.connected.ServerCPU - r.looked.ServerCPU
	s.CPUMeasured = r.ended.ServerCPU - measured.ServerCPU
	if n := r.most; n > 0 {
		s.PerStream = (float64(s.MemoryStreams) - float64(s.MemoryBefore)) / float64(n)
		s.PerSetup = s.CPUConnect * 1e6 / float64(n)
	}
	if n := rep.Deliveries; n > 0 {
		s.PerDelivery = s.CPUMeasured * 1e6 / float64(n)
	}
	if n := rep.Publish.Published; n > 0 {
		s.PerPublish = s.CPUMeasured * 1e6 / float64(n)
	}
}

// limits says what limited the run, as far as it shows.
func (rep *Report) limits() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	c, sh := &rep.Client, &rep.Shares
	if c.ReaderBusy > 0.9 {
		say("this load test: its busiest reader ran %.0f%% of the time; --threads or --processes give it more cores, another machine all of them", c.ReaderBusy*100)
	}
	if c.ReaderWait > 0.15 {
		say("the machine: a reader was ready to run and had to wait %.0f%% of the time, which is in the latencies", c.ReaderWait*100)
	}
	if c.PublishBusy > 0.9 {
		say("this load test: its publisher ran %.0f%% of the time", c.PublishBusy*100)
	}
	if full := sh.Server + sh.Client + sh.Others + sh.Interrupt + sh.Steal; sh.Idle < 0.05*float64(rep.Machine.Cores) && full > 0 {
		say("the machine: no core was idle (server %.2f, this load test %.2f, others %.2f, steal %.2f)", sh.Server, sh.Client, sh.Others, sh.Steal)
	}
	if sh.Steal > 0.05*float64(rep.Machine.Cores) {
		say("the host: it took %.2f cores for others", sh.Steal)
	}
	if sh.Others > 0.1*float64(rep.Machine.Cores) {
		say("other processes used %.2f cores", sh.Others)
	}
	if rep.Config.Rate > 0 && rep.Publish.Unsent > 0 {
		say("publishing: %s events were due and no connection was free (answers took %s at the median); --publishers or --publish-batch", grouped(rep.Publish.Unsent), microseconds(float64(rep.Ack.P50)))
	}
	return out
}
