package main

// The tune command: what of this machine is too small for so many streams. What it looks at is in
// package tuning.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"penstock/server"
	"penstock/server/tuning"
)

// exitTooSmall is the exit code when the streams asked about can't be held.
const exitTooSmall = 4

// mostConnections is the most that may be asked about: what --max-connections takes.
const mostConnections = 100_000_000

type tuneCmd struct {
	Connections int         `default:"10000" placeholder:"N" help:"Streams that the machine is to hold."`
	RingSize    server.Size `default:"256MiB" placeholder:"SIZE" help:"The server's --ring-size."`
	Format      string      `default:"text" placeholder:"text|sysctl|json" help:"text for people; sysctl: a file for /etc/sysctl.d with what has to change; json: everything."`
	JSON        bool        `name:"json" help:"The same as --format json."`
	Apply       bool        `help:"Set the kernel's settings that have to change, and say which; what is advice stays. Without it nothing is changed."`
	Nats        []string    `placeholder:"URL" help:"Look at a stream of these NATS servers instead of the machine."`
	NatsStream  string      `default:"PENSTOCK" placeholder:"NAME" help:"The stream; with --nats."`
	NatsCreds   string      `placeholder:"FILE" help:"A NATS user's JWT and seed; with --nats."`
	NatsNKey    string      `name:"nats-nkey" placeholder:"FILE" help:"An nkey's seed; with --nats."`
	NatsTLSCA   string      `name:"nats-tls-ca" placeholder:"FILE" help:"Certificates that NATS servers are trusted by; with --nats."`

	Root string `hidden:"" default:"/" type:"path" help:"Where proc and sys are."`
}

// Help is shown by tune --help.
func (c *tuneCmd) Help() string {
	return `Looks at the limits of this machine, of this process's control group and of the shell it is started from, and says for each what it is, what so many streams need, why, and the command that sets it. tuning.md has the whole story.

Exit codes: 0, 1 when --apply could not set something, 2 for wrong flags, 4 when the machine can't hold so many streams as it is.`
}

// Run looks, sets what it is told to, and writes the report.
func (c *tuneCmd) Run(rc *runContext) error {
	if err := c.check(); err != nil {
		return err
	}
	if len(c.Nats) > 0 {
		return c.tuneStream(rc)
	}
	defaults := server.DefaultConfig()
	m := tuning.At(c.Root, os.Getenv)
	plan := tuning.Plan{Connections: c.Connections, Ring: int64(c.RingSize), Heap: int64(defaults.KeepSize + defaults.LagMemory)}
	report := tuning.Check(m, plan)
	failed := 0
	if c.Apply {
		changes := tuning.Apply(m, report)
		report = tuning.Check(m, plan)
		report.Set = changes
		for _, change := range changes {
			if change.Error != "" {
				failed++
			}
		}
	}
	var err error
	switch c.Format {
	case "sysctl":
		err = report.WriteSysctl(rc.Stdout)
	case "json":
		err = report.WriteJSON(rc.Stdout)
	default:
		err = report.WriteText(rc.Stdout)
	}
	switch {
	case err != nil:
		return fmt.Errorf("tune: %w", err)
	case !report.Fits:
		return exitCodeError{errors.New("tune: " + report.Verdict()), exitTooSmall}
	case failed > 0:
		return fmt.Errorf("tune: %d of %d settings could not be set; see above", failed, len(report.Set))
	}
	return nil
}

// tuneStream looks at the settings of the stream on NATS.
func (c *tuneCmd) tuneStream(rc *runContext) error {
	if c.Apply || c.Format != "text" {
		return usagef("--nats: allowed is text alone, and nothing is set")
	}
	settings := server.DefaultConfig()
	settings.Nats, settings.NatsStream, settings.NatsCreds, settings.NatsNKey, settings.NatsTLSCA = c.Nats, c.NatsStream, c.NatsCreds, c.NatsNKey, c.NatsTLSCA
	findings, err := server.InspectStream(settings)
	if err != nil {
		return fmt.Errorf("tune: %w", err)
	}
	bad := 0
	for _, f := range findings {
		if f.Want == "" {
			fmt.Fprintf(rc.Stdout, "ok    %s: %s\n", f.Setting, f.Now)
			continue
		}
		bad++
		fmt.Fprintf(rc.Stdout, "set   %s: %s; wanted is %s: %s\n", f.Setting, f.Now, f.Want, f.Why)
		if f.Set != "" {
			fmt.Fprintf(rc.Stdout, "      %s\n", f.Set)
		}
	}
	if bad > 0 {
		return exitCodeError{fmt.Errorf("tune: %d settings of the stream %s should be others", bad, c.NatsStream), exitTooSmall}
	}
	return nil
}

// check says which flag is wrong.
func (c *tuneCmd) check() error {
	if c.Connections < 1 || c.Connections > mostConnections {
		return usagef("--connections %d: allowed are 1 to %d", c.Connections, mostConnections)
	}
	if c.RingSize < 64<<10 || c.RingSize > 1<<40 {
		return usagef("--ring-size %s: allowed are 64KiB to 1TiB", c.RingSize)
	}
	if c.JSON {
		if c.Format != "text" && c.Format != "json" {
			return usagef("--json and --format %s: allowed is one of them", c.Format)
		}
		c.Format = "json"
	}
	if formats := []string{"text", "sysctl", "json"}; !slices.Contains(formats, c.Format) {
		return usagef("--format %q: allowed are %s", c.Format, strings.Join(formats, ", "))
	}
	if c.Apply && c.Format == "sysctl" {
		return usagef("--apply says what it sets, and --format sysctl is a file alone: allowed is one of them")
	}
	return nil
}
