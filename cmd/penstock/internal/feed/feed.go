package feed

// The Feed: one goroutine reads, Run's paces and posts. While a batch is on its way the next one
// gathers in the channel between the two: batches grow with load, and when the input pauses
// what there is goes out at once.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxBatch      = 1000     // events in a request
	maxBatchBytes = 1 << 20  // of their data, unless one alone has more
	readAhead     = maxBatch // records that wait to be posted
	maxTold       = 20       // refused lines that are told one by one
)

// Options say where and how to publish.
type Options struct {
	URL      string      // of POST /publish
	Header   http.Header // sent with each request
	Pace     Pace
	RetryFor time.Duration // how long a batch is tried again when the server or the way to it fails; 0: for ever
	Grace    time.Duration // how long a request may still take once the context has ended; 0: 5s

	// Once gives each event without a key one of its own, so that a batch that is tried again
	// after its answer was lost is not published twice.
	Once bool

	// Note is told, as a line without its end, what a person should know: refused lines, retries.
	// Run's goroutine. nil: nobody is told.
	Note func(line string)

	Transport http.RoundTripper                                // nil: Go's default
	Now       func() time.Time                                 // nil: the machine's clock
	Wait      func(ctx context.Context, d time.Duration) error // nil: the machine's clock
	Random    func() float64                                   // from 0 to 1, for jitter; nil: the machine's source
}

// Counts are what became of the input.
type Counts struct {
	Published int    // events that the server has, or had, in its ring
	Refused   int    // lines that it did not take, or could not have
	Skipped   int    // lines that were no events: what a server says of its own stream
	Unread    int    // events that were read and not sent, for something ended the feed
	Unsure    int    // events without a key that may have been published although no answer came
	Retries   int    // requests that were made again
	FirstID   string // of the first event published
	LastID    string // of the last
}

// A Feed publishes the records of one Reader.
type Feed struct {
	o          Options
	client     http.Client
	counts     Counts
	told       int
	body       []byte
	unsureLine int
	keys       string // with Once: what the keys of this feed begin with
}

// New prepares a Feed. Any goroutine.
func New(o Options) *Feed {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Random == nil {
		o.Random = jitter
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Second
	}
	return &Feed{o: o, client: http.Client{Transport: o.Transport}, keys: rand.Text() + "-"}
}

// read is what the reading goroutine found: a record, or the error in its place.
type read struct {
	record Record
	err    error
}

// Run publishes what the Reader reads, to the end of the input or of the context, which is no
// error. The error is a *FatalError or that of the input. Counts hold in any case. One
// goroutine, once.
//
// The reading goroutine may outlive Run where the context has ended and the input's Read does
// not return: nothing can call it back.
func (f *Feed) Run(ctx context.Context, in *Reader) (Counts, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	input := make(chan read, readAhead)
	go func() {
		defer close(input)
		for {
			record, err := in.Next()
			if err == io.EOF {
				return
			}
			select {
			case input <- read{record, err}:
			case <-reading.Done():
				return
			}
			if _, ok := errors.AsType[*LineError](err); err != nil && !ok {
				return
			}
		}
	}()
	err := f.publish(ctx, input)
	stop()
	for len(input) > 0 {
		if r := <-input; r.err == nil {
			f.counts.Unread++
		}
	}
	return f.counts, err
}

// publish gathers batches and posts them.
func (f *Feed) publish(ctx context.Context, input <-chan read) error {
	var batch []Record
	var held *Record // read, and not due yet
	var due time.Time
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		published := f.counts.Published + f.counts.Refused
		err := f.post(ctx, batch)
		if err != nil {
			f.counts.Unread += len(batch) - (f.counts.Published + f.counts.Refused - published)
		}
		clear(batch)
		batch, size = batch[:0], 0
		return err
	}
	defer func() {
		if held != nil {
			f.counts.Unread++
		}
	}()
	for {
		if held == nil {
			r, ok, err := f.receive(ctx, input, len(batch) == 0)
			if err != nil {
				return errors.Join(flush(), err)
			}
			if !ok { // the input pauses or has ended
				if err := flush(); err != nil {
					return err
				}
				if ctx.Err() != nil || r.err == io.EOF {
					return nil
				}
				continue
			}
			held, due = &r.record, f.o.Pace.Due(&r.record, f.o.Now())
		}
		if now := f.o.Now(); due.After(now) {
			if err := flush(); err != nil {
				return err
			}
			if err := f.o.Wait(ctx, due.Sub(f.o.Now())); err != nil {
				return nil
			}
		}
		batch = append(batch, *held)
		size += len(held.Data)
		held = nil
		if len(batch) == maxBatch || size >= maxBatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// receive takes the next record; it waits for one only where block is true. ok is false where
// there is none: io.EOF in r.err tells the input's end. The error is that of the input.
func (f *Feed) receive(ctx context.Context, input <-chan read, block bool) (r read, ok bool, err error) {
	for ctx.Err() == nil {
		if block {
			select {
			case r, ok = <-input:
			case <-ctx.Done():
				return read{}, false, nil
			}
		} else {
			select {
			case r, ok = <-input:
			default:
				return read{}, false, nil
			}
		}
		switch line, isLine := errors.AsType[*LineError](r.err); {
		case !ok:
			return read{err: io.EOF}, false, nil
		case r.err == nil:
			return r, true, nil
		case !isLine:
			return read{}, false, r.err
		default:
			f.notPublished(line)
		}
	}
	return read{}, false, nil
}

// notPublished counts a line that is no event for the server, and tells why.
func (f *Feed) notPublished(line *LineError) {
	if _, ok := errors.AsType[*SkippedError](line.Err); ok {
		f.counts.Skipped++
		f.tell(line.Error())
		return
	}
	f.refuse(line.Line, line.Err)
}

// refuse counts a line that is not published, and tells why.
func (f *Feed) refuse(line int, err error) {
	f.counts.Refused++
	f.tell(fmt.Sprintf("line %d: %v", line, err))
}

// tell passes on what is wrong with a line, for the first ones of them.
func (f *Feed) tell(text string) {
	switch f.told++; {
	case f.told <= maxTold:
		f.o.Note(text)
	case f.told == maxTold+1:
		f.o.Note("further lines that are not published are only counted")
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
