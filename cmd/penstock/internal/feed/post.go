package feed

// Posting: a batch as NDJSON to POST /publish, until it is in or refused. Run's goroutine.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/cmd/penstock/internal/answer"
)

const (
	firstWait = 250 * time.Millisecond // before the second try, doubled with each
	mostWait  = 15 * time.Second       // between two tries, unless the server asks for more
	tryTime   = 2 * time.Minute        // for one request; a server may make publishers wait for its shards
)

// A FatalError ends the feed: what follows would fare no better.
type FatalError struct{ Err error }

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }

// published is what POST /publish says of a batch.
type published struct {
	FirstID string `json:"firstId"`
	LastID  string `json:"lastId"`
}

// post publishes a batch, whole or in parts. What the server will not take is counted and told.
// The error is a *FatalError, or the context's.
func (f *Feed) post(ctx context.Context, batch []Record) error {
	if f.o.Once {
		for i := range batch {
			if r := &batch[i]; r.Key == "" {
				r.Key = f.keys + strconv.Itoa(r.Line)
			}
		}
	}
	for began, tries := f.o.Now(), 0; ; tries++ {
		ids, err := f.try(ctx, batch)
		if err == nil {
			f.counts.Published += len(batch)
			if f.counts.FirstID == "" {
				f.counts.FirstID = ids.FirstID
			}
			f.counts.LastID = ids.LastID
			return nil
		}
		said, _ := errors.AsType[*answer.Error](err)
		retryAfter := time.Duration(0)
		switch {
		case said == nil:
			if _, ok := errors.AsType[*FatalError](err); ok {
				return err
			}
			if !neverSent(err) {
				f.unsure(batch) // the request went out and no answer came back
			}
		case said.Status < 500 && said.Status != http.StatusTooManyRequests:
			return f.refused(ctx, batch, said)
		case said.Status == http.StatusNotImplemented:
			return &FatalError{err}
		case said.Status == http.StatusBadGateway, said.Status == http.StatusGatewayTimeout:
			f.unsure(batch) // a proxy's words: it does not know what the server did
			fallthrough
		default:
			retryAfter = said.RetryAfter
		}
		if ctx.Err() != nil {
			return &FatalError{fmt.Errorf("interrupted while %s was not published: %w", lines(batch), err)}
		}
		d := max(min(firstWait<<min(tries, 10), mostWait), retryAfter)
		d += time.Duration(f.o.Random() * float64(d) / 4)
		if f.o.RetryFor > 0 && f.o.Now().Add(d).Sub(began) > f.o.RetryFor {
			return &FatalError{fmt.Errorf("gave up on %s after %d tries in %s: %w", lines(batch), tries+1, f.o.Now().Sub(began).Round(time.Millisecond), err)}
		}
		f.o.Note(fmt.Sprintf("%v; trying again in %s", err, d.Round(10*time.Millisecond)))
		f.counts.Retries++
		if err := f.o.Wait(ctx, d); err != nil {
			return &FatalError{fmt.Errorf("interrupted before %s was published", lines(batch))}
		}
	}
}

// unsure remembers that a batch may be in although nobody said so: sent again, what has no key may
// be there twice. It is the same batch each time, so it counts once.
func (f *Feed) unsure(batch []Record) {
	last := batch[len(batch)-1].Line
	if last == f.unsureLine {
		return
	}
	f.unsureLine = last
	for i := range batch {
		if batch[i].Key == "" {
			f.counts.Unsure++
		}
	}
}

// refused deals with an answer that would be the same the next time. The server judges a batch
// whole, so halves are tried until the events it will not take are alone.
func (f *Feed) refused(ctx context.Context, batch []Record, said *answer.Error) error {
	oneTopic := !slices.ContainsFunc(batch, func(r Record) bool { return r.Topic != batch[0].Topic })
	switch said.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
	default:
		return &FatalError{said}
	}
	switch {
	case len(batch) == 1:
		said.Reason = strings.TrimPrefix(said.Reason, "line 1: ") // of the request; ours is another
		f.refuse(batch[0].Line, said)
		return nil
	case said.Status == http.StatusForbidden && oneTopic:
		for i := range batch {
			f.refuse(batch[i].Line, fmt.Errorf("topic %q: %w", batch[i].Topic, said))
		}
		return nil
	}
	half := len(batch) / 2
	if err := f.post(ctx, batch[:half]); err != nil {
		return err
	}
	return f.post(ctx, batch[half:])
}

// try makes one request.
func (f *Feed) try(ctx context.Context, batch []Record) (ids published, err error) {
	f.body = f.body[:0]
	for i := range batch {
		f.body = appendRecord(f.body, &batch[i])
	}
	// One that has begun shall end, or nobody knows what became of it: an interrupt leaves it
	// a moment.
	trying, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(f.o.Grace, cancel) })
	defer stop()
	req, err := http.NewRequestWithContext(trying, http.MethodPost, f.o.URL, bytes.NewReader(f.body))
	if err != nil {
		return ids, &FatalError{err}
	}
	for key, values := range f.o.Header {
		req.Header[key] = values
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := f.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the method and the URL, which whoever reads it has typed
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			err = &FatalError{err}
		}
		return ids, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ids, answer.Read(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return ids, err
	}
	if json.Unmarshal(body, &ids) != nil || ids.LastID == "" {
		return ids, &FatalError{fmt.Errorf("%s answered %q, which is not what a Penstock says", f.o.URL, answer.Printable(string(body[:min(len(body), 100)])))}
	}
	return ids, nil
}

// neverSent tells of an error that came before any of the request went out.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// appendRecord appends a record as POST /publish takes it, a line of NDJSON.
func appendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, `{"topic":`...)
	dst = appendString(dst, r.Topic)
	if r.Event != "" {
		dst = append(dst, `,"event":`...)
		dst = appendString(dst, r.Event)
	}
	if r.Retry != 0 {
		dst = append(dst, `,"retry":`...)
		dst = strconv.AppendInt(dst, int64(r.Retry), 10)
	}
	if r.Key != "" {
		dst = append(dst, `,"key":`...)
		dst = appendString(dst, r.Key)
	}
	// As a string whatever it is: a string's text is sent as it stands.
	dst = append(dst, `,"data":`...)
	dst = appendString(dst, string(r.Data))
	return append(dst, "}\n"...)
}

// lines names where a batch stands in the input.
func lines(batch []Record) string {
	first, last := batch[0].Line, batch[len(batch)-1].Line
	if first == last {
		return fmt.Sprintf("line %d", first)
	}
	return fmt.Sprintf("lines %d to %d", first, last)
}

// jitter is a random number from 0 to 1.
func jitter() float64 { return rand.Float64() }
