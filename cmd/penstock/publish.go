package main

// The publish command: events from the command line, a file or a pipe to a server. Runs on the
// main goroutine; feed reads the input on another.

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"penstock/cmd/penstock/internal/feed"
	"penstock/encode"
)

type publishCmd struct {
	URL   string `arg:"" help:"The server, as http://host:port."`
	Topic string `arg:"" optional:"" help:"The topic of events that name none themselves."`

	Data   *string `name:"data" short:"d" placeholder:"TEXT" help:"Publish one event with this data and print its id; standard input is not read."`
	Event  string  `name:"event" short:"e" placeholder:"TYPE" help:"The type of events that name none themselves."`
	Key    string  `name:"key" placeholder:"KEY" help:"The key of --data's event: published again with the same key within two minutes it gets the same id, and nothing more is published."`
	Once   bool    `name:"once" help:"Give each event of standard input that has no key one of its own, so that none is published twice when an answer was lost and its batch is sent again."`
	Format string  `name:"format" short:"f" enum:"auto,lines,ndjson,csv" default:"auto" placeholder:"lines|ndjson|csv" help:"How standard input is written. lines: each line is the data of an event. ndjson: lines of {\"topic\",\"data\",\"event\"}. csv: a header, then rows, each published as a JSON object. Without it: ndjson where the first line is one that penstock subscribe -o ndjson wrote, else lines."`

	TopicField string `name:"topic-field" placeholder:"NAME" help:"The column, or the member of the JSON object on each line, that has the topic; with TOPIC it is TOPIC.value."`
	DataField  string `name:"data-field" placeholder:"NAME" help:"The one that has the data. Default: all of the line or row."`
	TimeField  string `name:"time-field" placeholder:"NAME" help:"The one that has the time, for --replay: seconds, milliseconds or microseconds since 1970, or RFC 3339."`

	Columns []string `name:"columns" placeholder:"NAME" help:"The names of CSV's columns, where no header has them."`

	Replay bool    `name:"replay" help:"Keep the recorded pace, as --time-field tells it."`
	Speed  float64 `name:"speed" default:"1" placeholder:"FACTOR" help:"How many times faster to replay."`
	Rate   string  `name:"rate" placeholder:"N" help:"At most so many events a second; N/m and N/h are per minute and hour."`

	RetryFor time.Duration `name:"retry-for" default:"1m" placeholder:"DURATION" help:"How long to try again when the server is busy or out of reach; 0s: for ever."`
	remote
}

// Help is what `penstock publish --help` shows below its first line.
func (c *publishCmd) Help() string {
	return `Reads to the end of its input and sends events in batches, what there is as soon as the input
pauses. Lines that are refused are named, the others published; then the exit code is 1.

  penstock publish http://localhost:8080 hello -d 'it works'
  penstock publish http://localhost:8080 hello < lines.txt
  penstock publish http://localhost:8080 trades -f csv --topic-field symbol --replay --time-field t --speed 1000 < trades.csv`
}

// Run publishes the input and tells what became of it.
func (c *publishCmd) Run(rc *runContext) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	options.Note = func(line string) { fmt.Fprintln(rc.Stderr, "penstock:", line) }
	reader := feed.ReaderOptions{
		Format: feed.Format(c.Format), Topic: c.Topic, Event: c.Event,
		TopicField: c.TopicField, DataField: c.DataField, TimeField: c.TimeField, Columns: c.Columns, Key: c.Key,
	}
	in := rc.Stdin
	if c.Data != nil {
		reader.Format = feed.Whole
		in = strings.NewReader(*c.Data)
	}
	counts, err := feed.New(options).Run(rc.Ctx, feed.NewReader(in, reader))
	if c.Data != nil && err == nil && counts.Published == 1 {
		_, err = fmt.Fprintln(rc.Stdout, counts.LastID)
		return err
	}
	report(rc.Stderr, counts)
	switch {
	case err != nil:
		return fmt.Errorf("publish: %w", err)
	case counts.Refused > 0:
		return errors.New("publish: not everything was published")
	case counts.Unread > 0:
		return errors.New("publish: interrupted before everything was published")
	}
	return nil
}

// options checks the flags and says what they mean.
func (c *publishCmd) options() (o feed.Options, err error) {
	u, err := parseURL(c.URL)
	if err != nil {
		return o, err
	}
	if u.RawQuery != "" {
		return o, usagef("URL %q: a Penstock's address has no query", c.URL)
	}
	o.URL = u.JoinPath("publish").String()
	if o.Header, err = c.headers(); err != nil {
		return o, err
	}
	if c.Rate != "" {
		if o.Pace.Rate, err = feed.ParseRate(c.Rate); err != nil {
			return o, usagef("--rate: %w", err)
		}
	}
	if err := (&encode.Event{Type: c.Event}).Check(); err != nil {
		return o, usagef("--event: %w", err)
	}
	named := c.TopicField != "" || c.DataField != "" || c.TimeField != ""
	switch {
	case c.Topic == "" && c.TopicField == "" && (c.Format != "ndjson" && c.Format != "auto" || c.Data != nil):
		return o, usagef("no topic: name it behind the URL, or the field that has it with --topic-field")
	case c.Columns != nil && c.Format != "csv":
		return o, usagef("--columns is for --format csv")
	case c.Data == nil && c.Key != "":
		return o, usagef("--key is for --data; events of standard input have keys of their own as ndjson, or get them with --once")
	case c.Data != nil && (named || c.Replay || c.Rate != ""):
		return o, usagef("--data publishes one event: --rate, --replay and the flags that name fields are for standard input")
	case c.Replay != (c.TimeField != ""):
		return o, usagef("--replay and --time-field belong together: the one keeps the pace that the other's times tell")
	case c.Replay && c.Rate != "":
		return o, usagef("--replay and --rate exclude each other: a recording has a pace of its own, and --speed changes it")
	case !c.Replay && c.Speed != 1:
		return o, usagef("--speed is for --replay")
	case !(c.Speed > 0) || math.IsInf(c.Speed, 0):
		return o, usagef("--speed %v: it takes a number above 0", c.Speed)
	case c.RetryFor < 0:
		return o, usagef("--retry-for %s: it takes a duration from 0s", c.RetryFor)
	}
	if c.Replay {
		o.Pace.Speed = c.Speed
	}
	o.RetryFor, o.Once = c.RetryFor, c.Once
	return o, nil
}

// report writes what became of the input, one line.
func report(w io.Writer, n feed.Counts) {
	text := fmt.Sprintf("penstock: %d published", n.Published)
	if n.Published > 0 {
		text += fmt.Sprintf(" (ids %s to %s)", n.FirstID, n.LastID)
	}
	for _, fact := range []struct {
		n    int
		what string
	}{
		{n.Refused, "refused"},
		{n.Skipped, "skipped, for they are a server's words about its stream"},
		{n.Unread, "read and not published"},
		{n.Unsure, "perhaps published once more than counted, for an answer was lost"},
	} {
		if fact.n > 0 {
			text += fmt.Sprintf(", %d %s", fact.n, fact.what)
		}
	}
	fmt.Fprintln(w, text)
}
