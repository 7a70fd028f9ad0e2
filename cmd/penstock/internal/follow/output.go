package follow

// Output: a block of a stream as text for people, as a line of JSON, or as a block again. Its
// owner's goroutine.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"penstock/cmd/penstock/internal/answer"
	"penstock/encode"
)

// A Format is how events are written.
type Format string

const (
	Text   Format = "text"   // time, id, type and data; for people, so control characters are shown as escapes
	NDJSON Format = "ndjson" // a line each: {"topic","event","data","id","time"}, what `penstock publish` takes
	Raw    Format = "raw"    // an event stream again, of whole blocks
)

// An Output writes what a Follower reads. Its fields are set before its first call.
type Output struct {
	W      io.Writer
	Format Format
	Topic  string   // of all events, where that is known; "" otherwise
	Types  []string // only events of these types; none: all. Gaps are always written
	Count  int      // after so many events Block returns ErrStop; 0: never

	// OwnIDs tells that ids are a Penstock's, times of publication in microseconds; otherwise an
	// event's time is that of its arrival.
	OwnIDs bool

	// Gap is told of each gap; nil: nobody is.
	Gap func(g *encode.Gap)

	Now func() time.Time // nil: the clock

	w      *bufio.Writer
	frame  []byte
	events int
}

// Block writes a block, or keeps it until Flush. The errors are those of W, and ErrStop after
// Count events.
func (o *Output) Block(d *encode.Decoded) error {
	if o.w == nil {
		o.w = bufio.NewWriterSize(o.W, 64<<10)
	}
	if gap := asGap(d); gap != nil {
		if o.Gap != nil {
			o.Gap(gap)
		}
		if o.Format == Text {
			return nil // where people read, stderr is what Gap writes to
		}
		return o.write(d)
	}
	if !d.HasData {
		if o.Format == Raw {
			return o.writeRaw(d)
		}
		return nil
	}
	if len(o.Types) > 0 && !slices.Contains(o.Types, string(d.Type)) {
		return nil
	}
	if err := o.write(d); err != nil {
		return err
	}
	if o.events++; o.events == o.Count {
		return ErrStop
	}
	return nil
}

// Flush writes what Block has kept.
func (o *Output) Flush() error {
	if o.w == nil {
		return nil
	}
	return o.w.Flush()
}

func (o *Output) write(d *encode.Decoded) error {
	switch o.Format {
	case NDJSON:
		return o.writeNDJSON(d)
	case Raw:
		return o.writeRaw(d)
	default:
		return o.writeText(d)
	}
}

// time is when the event was published, where its id tells, else now.
func (o *Output) time(d *encode.Decoded) time.Time {
	if id, err := encode.ParseID(d.ID); o.OwnIDs && d.HasID && err == nil {
		// From 2001 to 2100: the sequence numbers of another store are far below.
		if t := time.UnixMicro(int64(id)); id < 1<<62 && t.Year() > 2000 && t.Year() < 2100 {
			return t
		}
	}
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// writeText writes one line, and one more for each further line of the data, indented.
func (o *Output) writeText(d *encode.Decoded) error {
	head := o.time(d).Local().Format("2006-01-02 15:04:05.000")
	if d.HasID && len(d.ID) > 0 {
		head += "  " + answer.Printable(string(d.ID))
	}
	indent := "\n" + strings.Repeat(" ", utf8.RuneCountInString(head)+2)
	if t := string(d.Type); t != "message" {
		head += "  " + answer.Printable(t)
	}
	o.w.WriteString(head)
	o.w.WriteString("  ")
	for i, line := range bytes.Split(d.Data, []byte("\n")) {
		if i > 0 {
			o.w.WriteString(indent)
		}
		o.w.WriteString(answer.Printable(string(line)))
	}
	return o.w.WriteByte('\n')
}

func (o *Output) writeNDJSON(d *encode.Decoded) error {
	line := struct {
		Topic string `json:"topic,omitempty"`
		Event string `json:"event,omitempty"`
		Data  string `json:"data"`
		ID    string `json:"id,omitempty"`
		Time  string `json:"time"`
	}{
		Topic: o.Topic,
		Data:  string(d.Data),
		Time:  o.time(d).UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
	if t := string(d.Type); t != "message" {
		line.Event = t
	}
	if d.HasID {
		line.ID = string(d.ID)
	}
	encoder := json.NewEncoder(o.w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(&line)
}

// writeRaw writes a block of the same meaning: fields in Penstock's order, lines ended by LF,
// comments without their text.
func (o *Output) writeRaw(d *encode.Decoded) error {
	b := o.frame[:0]
	for range d.Comments {
		b = append(b, ":\n"...)
	}
	retry := max(d.Retry, 0)
	if d.HasData {
		e := encode.Event{Type: string(d.Type), Data: d.Data, Retry: retry}
		if e.Type == "message" {
			e.Type = ""
		}
		b, _ = encode.AppendFrame(b, &e)
	} else if d.Retry >= 0 {
		b = fmt.Appendf(b, "retry: %d\n", d.Retry)
	}
	if d.HasID {
		b = append(b, "id: "...)
		b = append(b, d.ID...)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	o.frame = b
	_, err := o.w.Write(b)
	return err
}

// asGap reads a gap event of a Penstock; nil where the block is something else, an event that
// some other server calls by that name among it.
func asGap(d *encode.Decoded) *encode.Gap {
	if !d.HasData || string(d.Type) != "gap" {
		return nil
	}
	var g encode.Gap
	if json.Unmarshal(d.Data, &g) != nil || g.Reason == "" {
		return nil
	}
	return &g
}
