// Package follow reads an event stream, any server's, and goes on where it stopped for as long
// as that makes sense: what a browser's EventSource does, on a command line. It writes what it
// reads as text for people, as NDJSON or as an event stream again.
package follow

// The Follower: connect, read, wait, come back. Run's goroutine does all of it.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"time"

	"penstock/cmd/penstock/internal/answer"
	"penstock/encode"
)

// ErrStop ends Run without an error when the function that it calls returns it.
var ErrStop = errors.New("follow: enough")

const (
	// defaultRetry is the reconnection time until a stream sets one, Chrome's.
	defaultRetry = 3 * time.Second
	// leastRetry is the shortest one: a stream that says `retry: 0` and ends must not make us spin.
	leastRetry = 100 * time.Millisecond
	// mostRetry bounds what failures add to it. A stream may ask for more.
	mostRetry = time.Minute
	// streamType is the media type of an event stream.
	streamType = "text/event-stream"
)

// Options say what to follow and how. All but URL may be left out.
type Options struct {
	URL      string      // of the stream, whole
	Header   http.Header // sent with each request
	LastID   string      // resume after it; "": from now on
	RetryAll bool        // try again after any status, where EventSource gives up

	// Idle is how long the stream may be silent before it is taken for dead and asked for again;
	// 0: for ever. A Penstock sends something every 15 seconds.
	Idle time.Duration

	// Note is told, as a line without its end, what a person should know: connections lost, and when they are
	// tried again. It runs on Run's goroutine. nil: nobody is told.
	Note func(line string)

	// Transport makes the requests; nil: one as Go's default, without compression.
	Transport http.RoundTripper
	// Wait returns nil after d, or the context's error; nil: by the machine's clock.
	Wait func(ctx context.Context, d time.Duration) error
	// Random is from 0 to 1, for the jitter; nil: from the machine's source.
	Random func() float64
}

// A Follower follows one stream.
type Follower struct {
	o        Options
	client   http.Client
	lastID   string
	retry    time.Duration // the reconnection time, as the stream set it
	failures int           // connections that failed since one was made
}

// New prepares a Follower. Any goroutine.
func New(o Options) *Follower {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		// A stream that is compressed by something that does not flush comes late or never.
		t.DisableCompression = true
		o.Transport = t
	}
	return &Follower{o: o, client: http.Client{Transport: o.Transport}, lastID: o.LastID, retry: defaultRetry}
}

// errDone is a 204: the server has no more, and a client shall not ask again.
var errDone = errors.New("204")

// Run follows the stream and calls each for every block, and flush when what has come by now
// has been handed over. It comes back by itself after errors and after a clean end alike, with
// the last id it has seen, as WHATWG HTML 9.2.3 says: after the reconnection time, which grows
// with each failure, and up to half as much more. It returns nil when the context ends, when
// the server answers 204, and when each or flush returns ErrStop; else their error, or a
// *answer.Error. The Decoded is lent to each until it returns. One goroutine.
func (f *Follower) Run(ctx context.Context, each func(*encode.Decoded) error, flush func() error) error {
	for {
		err := f.once(ctx, each, flush)
		if ctx.Err() != nil || errors.Is(err, ErrStop) {
			return nil
		}
		if errors.Is(err, errDone) {
			f.o.Note("the server has no more (204)")
			return nil
		}
		if mine, ok := errors.AsType[callerError](err); ok {
			return mine.error
		}
		status, _ := errors.AsType[*answer.Error](err)
		if status != nil && !f.o.RetryAll {
			return err
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return err // asking again makes no certificate better
		}
		delay := f.delay(status)
		switch {
		case err == nil:
			f.o.Note(fmt.Sprintf("the stream has ended; asking for more in %s", short(delay)))
		default:
			f.o.Note(fmt.Sprintf("%v; trying again in %s", plain(err), short(delay)))
		}
		if err := f.o.Wait(ctx, delay); err != nil {
			return nil
		}
	}
}

// delay is how long to wait before the next request.
func (f *Follower) delay(status *answer.Error) time.Duration {
	d := max(f.retry, leastRetry)
	for range f.failures - 1 {
		if d >= mostRetry {
			break
		}
		d = min(2*d, mostRetry)
	}
	if status != nil {
		d = max(d, status.RetryAfter)
	}
	return d + time.Duration(f.o.Random()*float64(d)/2)
}

// A callerError is what one of the caller's functions returned.
type callerError struct{ error }

// once makes one connection and reads it to its end; nil is a clean end.
func (f *Follower) once(ctx context.Context, each func(*encode.Decoded) error, flush func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := func() {}
	if f.o.Idle > 0 {
		idle := time.AfterFunc(f.o.Idle, func() { cancel(fmt.Errorf("silent for %s", short(f.o.Idle))) })
		defer idle.Stop()
		alive = func() { idle.Reset(f.o.Idle) }
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.URL, nil)
	if err != nil {
		return callerError{err}
	}
	req.Header.Set("Accept", streamType)
	req.Header.Set("Cache-Control", "no-store")
	for key, values := range f.o.Header {
		req.Header[key] = values
	}
	if f.lastID != "" {
		req.Header["Last-Event-ID"] = []string{f.lastID}
	}
	f.failures++
	resp, err := f.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close()
	if err := judge(resp); err != nil {
		return err
	}
	f.failures = 0
	err = f.read(resp.Body, each, flush, alive)
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// judge tells what is wrong with an answer, nil where it is a stream.
func judge(resp *http.Response) error {
	if resp.StatusCode == http.StatusNoContent {
		return errDone
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && media == streamType {
		return nil
	}
	return answer.Read(resp)
}

// read decodes body to its end.
func (f *Follower) read(body io.Reader, each func(*encode.Decoded) error, flush func() error, alive func()) error {
	var decoder encode.Decoder
	var failed error
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			bad := decoder.Decode(buf[:n], func(d *encode.Decoded) {
				if failed != nil {
					return // nothing after what failed has been seen, so nothing of it moves the last id
				}
				if d.Retry >= 0 {
					f.retry = time.Duration(d.Retry) * time.Millisecond
				}
				// A stream keeps the id of the one before it until it sets its own: the letter of
				// 9.2.6 would forget it, and no browser does.
				if d.HasID {
					f.lastID = string(d.ID)
				}
				failed = each(d)
			})
			if flushed := flush(); flushed != nil && (failed == nil || errors.Is(failed, ErrStop)) {
				failed = flushed
			}
			if failed != nil {
				if errors.Is(failed, ErrStop) {
					return ErrStop
				}
				return callerError{failed}
			}
			if bad != nil {
				return callerError{bad} // it would be the same the next time
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// plain takes the method and the URL off an error of net/http: who reads it has typed the URL.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// short writes a time as a person would: 2.1s, 300ms.
func short(d time.Duration) string {
	if d >= time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
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
