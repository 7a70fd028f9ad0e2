package main

// The loadtest command: flags to a loadtest.Config, and its report to files, a table and an exit
// code. What it does is in package loadtest.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"penstock/encode"
	"penstock/loadtest"
	"penstock/server"
)

// exitMissed is the exit code when a --fail-if holds: for CI.
const exitMissed = 3

// Flags whose default is the scenario's are pointers: nil is "not given".
type loadtestCmd struct {
	URL      string `arg:"" help:"A Penstock (http://host:port), or any event stream's URL; {topic} in it stands for the topic."`
	Scenario string `default:"broadcast" help:"What to do: idle (hold streams), broadcast, ticker (many topics, a few busy ones, bursts), watchlists (many topics a stream), churn (subscribers leave and come back), storm (all at once), slow (some read slowly), publish (no subscribers), mixed, or a YAML file with keys like these flags."`

	Subscribers *int           `group:"load" help:"Streams to hold."`
	Topics      *int           `group:"load" help:"Topics that are published to."`
	Watch       *int           `group:"load" help:"Topics of each subscriber."`
	WatchEvenly *bool          `group:"load" negatable:"" help:"Every topic is as popular as any other; else busy ones are."`
	Rate        *loadtest.Rate `group:"load" placeholder:"N|max" help:"Events a second, all publishers together; max: the next one when the last is answered."`
	Duration    *time.Duration `group:"load" help:"How long to measure (10s)."`
	Events      *uint64        `group:"load" help:"Measure until so many events are published, if the time is not up before."`
	Size        *int           `group:"load" help:"Bytes of an event's data (150)."`
	Zipf        *float64       `group:"load" help:"How uneven topics are: the second is 2^N times less busy than the first; 0: all alike."`
	Bursts      *bool          `group:"load" negatable:"" help:"Events come in bursts as trades do, not evenly."`
	ChurnRate   *float64       `group:"load" help:"Subscribers that leave, a second."`
	Away        *time.Duration `group:"load" help:"How long one that left stays away."`
	Storm       *bool          `group:"load" negatable:"" help:"All leave at once after a third of the time, and come back."`
	StormShare  *float64       `group:"load" help:"Share of subscribers that leave in a storm, 0 to 1 (0: all)."`
	SlowShare   *float64       `group:"load" help:"Share of subscribers that read slowly, 0 to 1."`
	SlowRate    *int           `group:"load" help:"Bytes a second that such a one reads; 0: none, until two thirds of the time are over."`

	Publishers    *int     `group:"publishing" help:"Connections that publish."`
	PublishBatch  *int     `group:"publishing" help:"Events in a request at most, as lines of NDJSON."`
	PublishURL    *string  `group:"publishing" name:"publish-url" help:"Where to publish on a server that is no Penstock; with {topic}, and {data} where that is not in the body."`
	PublishBody   *string  `group:"publishing" help:"The body, with {topic} and {data} ({data})."`
	PublishMethod *string  `group:"publishing" help:"The request's method (POST)."`
	PublishHeader []string `group:"publishing" sep:"none" placeholder:"NAME: VALUE" help:"A header of publish requests; repeatable."`

	ConnectRate *int           `group:"connections" help:"New streams a second (5000)."`
	Source      *string        `group:"connections" placeholder:"PREFIX" help:"Addresses to connect from, like 127.0.0.0/28: each has 28,000 ports."`
	Processes   *int           `group:"connections" help:"Processes to spread the streams over; 0: as many as descriptors call for."`
	Threads     *int           `group:"connections" help:"Threads of each process; 0: one for two cores."`
	Timeout     *time.Duration `group:"connections" help:"How long a stream's first byte or a publish's answer may take (10s)."`
	Grace       *time.Duration `group:"connections" help:"How long the last events may take (5s)."`
	Header      []string       `group:"connections" sep:"none" placeholder:"NAME: VALUE" help:"A header of requests for streams; repeatable."`
	Coding      *encode.Coding `group:"connections" placeholder:"identity|gzip" help:"What streams ask for; gzip is read as it comes, its trailer checked."`
	CheckShare  *float64       `group:"connections" help:"Share of the streams that are read event by event, 0 to 1 (0: all); of the others bytes are counted."`
	TopicName   *string        `group:"connections" help:"What names of topics begin with; a number follows."`
	Seed        *uint64        `group:"connections" help:"What chance begins with: the same seed, the same events."`

	Report string   `group:"reporting" type:"path" placeholder:"FILE" help:"Write the report as one HTML file."`
	JSON   string   `group:"reporting" name:"json" type:"path" placeholder:"FILE" help:"Write the report as JSON; - is standard output, without the table."`
	FailIf []string `group:"reporting" sep:"none" placeholder:"CONDITION" help:"Exit with 3 when this holds, like 'p99>250ms' or 'lost>0'; repeatable."`
	PID    *int     `group:"reporting" name:"pid" help:"The server's process, whose memory and CPU are reported; found by itself where it listens on loopback."`
}

// Help is shown by loadtest --help.
func (c *loadtestCmd) Help() string {
	return `Holds streams, publishes by a schedule, and checks every event at every subscriber: lost, doubled, reordered, torn; latency from the time it was due. https is not spoken.

Exit codes: 0, 1 when streams failed or ended or a publish was refused, 2 for wrong flags, 3 when a --fail-if holds.`
}

// An exitCodeError ends the process with a code of its own.
type exitCodeError struct {
	error
	code int
}

// ExitCode is what the process ends with.
func (e exitCodeError) ExitCode() int { return e.code }

// Run makes a run, writes what it found, and says by its error how it went.
func (c *loadtestCmd) Run(rc *runContext) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cfg.Version = server.Version()
	cfg.Command = append([]string{"penstock"}, os.Args[min(1, len(os.Args)):]...)
	terminal := false
	if f, ok := rc.Stderr.(*os.File); ok {
		info, err := f.Stat()
		terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("loadtest: find this program: %w", err)
	}
	r, err := loadtest.Run(rc.Ctx, cfg, loadtest.Options{Progress: rc.Stderr, Terminal: terminal, Part: []string{self, "loadtest-part"}})
	if _, ok := errors.AsType[*loadtest.UsageError](err); ok {
		return usageError{err}
	} else if err != nil {
		return fmt.Errorf("loadtest: %w", err)
	}
	if c.JSON == "-" {
		err = r.WriteJSON(rc.Stdout)
	} else {
		err = errors.Join(writeFile(c.JSON, r.WriteJSON), r.WriteText(rc.Stdout))
	}
	err = errors.Join(err, writeFile(c.Report, r.WriteHTML))
	switch {
	case err != nil:
		return fmt.Errorf("loadtest: %w", err)
	case !r.OK():
		return errors.New("loadtest: not everything worked; see the errors above")
	case len(r.Missed) > 0:
		return exitCodeError{fmt.Errorf("loadtest: %s", strings.Join(r.Missed, "; ")), exitMissed}
	}
	return nil
}

// partCmd is a part of a load test that is spread over processes; loadtest starts it.
type partCmd struct{}

// Run does what the parent says on standard input.
func (c *partCmd) Run(rc *runContext) error { return loadtest.Part(rc.Stdin, rc.Stdout) }

// writeFile writes a file by w; no name, no file.
func writeFile(name string, w func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	var b bytes.Buffer
	if err := w(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// config makes a Config of the scenario and the flags that were given.
func (c *loadtestCmd) config() (loadtest.Config, error) {
	cfg, err := c.scenario()
	if err != nil {
		return cfg, usageError{err}
	}
	cfg.URL = c.URL
	set(&cfg.Subscribers, c.Subscribers)
	set(&cfg.Topics, c.Topics)
	set(&cfg.Watch, c.Watch)
	set(&cfg.WatchEvenly, c.WatchEvenly)
	set(&cfg.Rate, c.Rate)
	set(&cfg.Duration, c.Duration)
	set(&cfg.Events, c.Events)
	set(&cfg.Size, c.Size)
	set(&cfg.Zipf, c.Zipf)
	set(&cfg.Bursts, c.Bursts)
	set(&cfg.ChurnRate, c.ChurnRate)
	set(&cfg.Away, c.Away)
	set(&cfg.Storm, c.Storm)
	set(&cfg.StormShare, c.StormShare)
	set(&cfg.SlowShare, c.SlowShare)
	set(&cfg.SlowRate, c.SlowRate)
	set(&cfg.Publishers, c.Publishers)
	set(&cfg.Batch, c.PublishBatch)
	set(&cfg.PublishURL, c.PublishURL)
	set(&cfg.PublishBody, c.PublishBody)
	set(&cfg.Method, c.PublishMethod)
	set(&cfg.ConnectRate, c.ConnectRate)
	set(&cfg.Source, c.Source)
	set(&cfg.Processes, c.Processes)
	set(&cfg.Threads, c.Threads)
	set(&cfg.Timeout, c.Timeout)
	set(&cfg.Grace, c.Grace)
	set(&cfg.TopicName, c.TopicName)
	set(&cfg.Coding, c.Coding)
	set(&cfg.CheckShare, c.CheckShare)
	set(&cfg.Seed, c.Seed)
	set(&cfg.PID, c.PID)
	cfg.PublishH = append(cfg.PublishH, c.PublishHeader...)
	cfg.SubscribeH = append(cfg.SubscribeH, c.Header...)
	cfg.FailIf = append(cfg.FailIf, c.FailIf...)
	return cfg, nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// scenario reads a scenario by name, or from a YAML file, whose key "scenario" names the one it
// begins with.
func (c *loadtestCmd) scenario() (loadtest.Config, error) {
	names, _ := loadtest.Scenarios()
	if slices.Contains(names, c.Scenario) || !strings.ContainsAny(c.Scenario, "./") {
		cfg, err := loadtest.Scenario(c.Scenario)
		if err != nil {
			err = fmt.Errorf("%w, or a YAML file", err)
		}
		return cfg, err
	}
	text, err := os.ReadFile(c.Scenario)
	if err != nil {
		return loadtest.Config{}, fmt.Errorf("--scenario %s: %w; a YAML file, or one of %s", c.Scenario, err, strings.Join(names, ", "))
	}
	base := struct {
		Scenario string `yaml:"scenario"`
	}{"broadcast"}
	if err := yaml.Unmarshal(text, &base); err != nil {
		return loadtest.Config{}, fmt.Errorf("--scenario %s: %w", c.Scenario, err)
	}
	cfg, err := loadtest.Scenario(base.Scenario)
	if err == nil {
		err = yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&cfg)
	}
	if err != nil {
		return loadtest.Config{}, fmt.Errorf("--scenario %s: %w", c.Scenario, err)
	}
	return cfg, nil
}
