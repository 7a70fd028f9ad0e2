package main

// The subscribe command: a stream on standard output, for people and for pipes. Runs on the main
// goroutine.

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"penstock/cmd/penstock/internal/answer"
	"penstock/cmd/penstock/internal/follow"
	"penstock/encode"
)

type subscribeCmd struct {
	URL   string   `arg:"" help:"A Penstock, as http://host:port, with topics behind it; or, alone, the URL of any event stream."`
	Topic []string `arg:"" optional:"" help:"Topics to subscribe to, and patterns: * stands for one token, a last ** for one or more."`

	Output      string        `name:"output" short:"o" enum:"text,ndjson,raw" default:"text" placeholder:"text|ndjson|raw" help:"How events are written. text: for people. ndjson: a line of JSON each, what penstock publish takes back. raw: an event stream again."`
	LastEventID string        `name:"last-event-id" placeholder:"ID" help:"Resume after this id. Without it: from now on."`
	Rewind      string        `name:"rewind" placeholder:"N|DURATION|all" help:"Without an id: begin with the newest N events of each topic, with those of so long ago, or with all there are."`
	Snapshot    bool          `name:"snapshot" help:"Begin with the newest event of each topic."`
	Mode        string        `name:"mode" placeholder:"all|latest" help:"latest: only the newest event of each topic, whenever the server sends."`
	Interval    string        `name:"interval" placeholder:"DURATION" help:"The server sends no more often than this."`
	Count       int           `name:"count" short:"n" placeholder:"N" help:"Exit after so many events."`
	Event       []string      `name:"event" short:"e" sep:"none" placeholder:"TYPE" help:"Only events of this type; message is the one of events without any. May be repeated. Gaps are shown in any case."`
	RetryAll    bool          `name:"retry-all" help:"Come back after any answer, also where EventSource gives up: 401, 404, 503, another content type."`
	Idle        time.Duration `name:"idle-timeout" placeholder:"DURATION" help:"Come back when the stream has been silent for this long. A Penstock sends at least a heartbeat every 15 seconds."`
	Quiet       bool          `name:"quiet" short:"q" help:"Say nothing on standard error but what ends the command, and gaps."`
	remote
}

// Help is what `penstock subscribe --help` shows below its first line.
func (c *subscribeCmd) Help() string {
	return `Comes back by itself after errors and ended streams, resuming after the last id, until the server
says that there is no more (204) or refuses. Ctrl-C ends it with 0.

  penstock subscribe http://localhost:8080 demo.stocks.ACME
  penstock subscribe http://localhost:8080 'demo.stocks.*' --snapshot --mode latest --interval 1s
  penstock subscribe https://elsewhere.example/sse -o ndjson | penstock publish http://localhost:8080 news`
}

// Run writes events until the stream is over, Count events are written, or the context ends.
func (c *subscribeCmd) Run(rc *runContext) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	header, err := c.headers()
	if err != nil {
		return err
	}
	switch {
	case c.Count < 0:
		return usagef("--count %d: it takes a number from 1", c.Count)
	case strings.ContainsAny(c.LastEventID, "\x00\r\n"):
		return usagef("--last-event-id %q: an id has no NUL, CR or LF", c.LastEventID)
	case c.Idle < 0:
		return usagef("--idle-timeout %s: it takes a duration from 1s; without the flag the command waits for ever", c.Idle)
	}

	say := func(line string) { fmt.Fprintln(rc.Stderr, "penstock:", line) }
	out := follow.Output{
		W: rc.Stdout, Format: follow.Format(c.Output), Types: c.Event, Count: c.Count,
		OwnIDs: len(c.Topic) > 0,
		Gap: func(g *encode.Gap) {
			say(fmt.Sprintf("gap (%s): events after %s and before %d are lost on %s", g.Reason, answer.Printable(g.After), g.Before, answer.Printable(strings.Join(g.Topics, ", "))))
		},
	}
	if len(c.Topic) == 1 && !strings.ContainsAny(c.Topic[0], "*>,") {
		out.Topic = c.Topic[0] // a frame does not name its topic, so of several we cannot know
	}
	options := follow.Options{URL: target, Header: header, LastID: c.LastEventID, RetryAll: c.RetryAll, Idle: c.Idle}
	if !c.Quiet {
		options.Note = say
	}
	err = follow.New(options).Run(rc.Ctx, out.Block, out.Flush)
	switch status, _ := errors.AsType[*answer.Error](err); {
	case errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed):
		return nil // whoever read has enough
	case status != nil && status.Status == 200 && len(c.Topic) == 0:
		return fmt.Errorf("subscribe: %s: the answer is %s, no event stream; for a Penstock name a topic behind the URL", target, status.Type)
	case status != nil && status.Status == 200:
		return fmt.Errorf("subscribe: %s: the answer is %s, no event stream", target, status.Type)
	case err != nil:
		return fmt.Errorf("subscribe: %s: %w", target, err)
	}
	return nil
}

// target is the stream's URL.
func (c *subscribeCmd) target() (string, error) {
	u, err := parseURL(c.URL)
	if err != nil {
		return "", err
	}
	query := url.Values{}
	for _, p := range []struct{ name, value string }{{"rewind", c.Rewind}, {"mode", c.Mode}, {"interval", c.Interval}} {
		if p.value != "" {
			query.Set(p.name, p.value) // what it takes is the server's to say
		}
	}
	if c.Snapshot {
		query.Set("snapshot", "true")
	}
	if len(c.Topic) == 0 {
		for name := range query {
			return "", usagef("--%s is for a Penstock, which is named by its address and topics behind it; the URL of a stream has its own query", name)
		}
		return c.URL, nil
	}
	if u.RawQuery != "" {
		return "", usagef("URL %q: with topics behind it, it is a Penstock's address and has no query", c.URL)
	}
	u = u.JoinPath("events")
	query["topic"] = c.Topic
	u.RawQuery = query.Encode()
	return u.String(), nil
}
