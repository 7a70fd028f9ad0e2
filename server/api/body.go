package api

// Bodies of a publish: three content types, each to a list of publications. Any goroutine.

import (
	"bytes"
	"errors"
	"slices"

	"penstock/encode"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// A bodyType says how a body is read.
type bodyType uint8

const (
	dataBody   bodyType = iota // the event's data, as it is
	ndjsonBody                 // an event a line
	formBody                   // names and values, the topic among them
)

// bodyKind tells how to read a body. A form is one only where neither path nor query names a
// topic: curl -d says "form" of everything.
func bodyKind(contentType []byte, hasTopic bool) bodyType {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	contentType = bytes.TrimSpace(contentType)
	switch {
	case foldEqual(contentType, "application/x-ndjson"):
		return ndjsonBody
	case !hasTopic && foldEqual(contentType, "application/x-www-form-urlencoded"):
		return formBody
	}
	return dataBody
}

// body returns the body without its content coding, and refuses one that is too large, however
// small it was packed.
func (a *API) body(p *publish, req *fasthttp.Request, r *request, kind bodyType) ([]byte, *failure) {
	most, flag := a.o.MaxBatchSize, "--max-batch-size"
	if kind == dataBody && a.o.MaxEventSize < most {
		most, flag = a.o.MaxEventSize, "--max-event-size"
	}
	tooLarge := func(size string) *failure {
		return failf(fasthttp.StatusRequestEntityTooLarge, "the body has %s bytes; at most %d (%s)", size, most, flag)
	}
	body := req.Body()
	switch coding := r.headers.coding; {
	case coding == nil, foldEqual(coding, "identity"):
	case foldEqual(coding, "gzip"), foldEqual(coding, "x-gzip"):
		if !a.mayUnpack(p, min(int64(most), int64(len(body))*mostRatio)) {
			return nil, a.unavailable(overBodyMemory, "too many packed bodies in hand; nothing was published, try again")
		}
		var err error
		body, err = req.BodyGunzipWithLimit(most)
		if errors.Is(err, fasthttp.ErrBodyTooLarge) {
			return nil, tooLarge("more, once unpacked: over " + itoa(most))
		}
		if err != nil {
			return nil, badRequest("the body is not gzip, as Content-Encoding says: %v", err)
		}
	default:
		return nil, badRequest("Content-Encoding %s: it takes gzip, or none", quote(coding))
	}
	if len(body) > most {
		return nil, tooLarge(itoa(len(body)))
	}
	return body, nil
}

// mostRatio is how much deflate may grow by (RFC 1951): 258 bytes for two bits.
const mostRatio = 1032

// mayUnpack reserves memory for a packed body until p is released; false when there is none. accept
// bounds the bodies in hand as they were sent.
func (a *API) mayUnpack(p *publish, n int64) bool {
	if a.unpacked.Add(n) > a.live().BodyMemory {
		a.unpacked.Add(-n)
		return false
	}
	p.unpacked = n
	return true
}

// readData makes the body the data of an event for each topic.
func (a *API) readData(p *publish, body []byte) *failure {
	if len(p.topics) == 0 {
		return badRequest("no topic: name one as /publish/{topic} or ?topic=, repeated or joined with commas; application/x-ndjson and application/x-www-form-urlencoded may name it in the body")
	}
	return a.addAll(p, p.topics, encode.Event{Type: string(p.fields.event), Data: body, Retry: p.fields.retry}, p.fields.close, borrow(p.fields.key))
}

// readForm reads a form: the topics and one event for them.
func (a *API) readForm(p *publish, r *request, body []byte) *failure {
	if p.fields.hasEvent || p.fields.hasRetry || p.fields.hasClose || r.headers.key == nil && p.fields.key != nil {
		return badRequest("parameters event, retry, key and close belong into the form, beside its topic")
	}
	q := pairs{text: body, scratch: p.arena}
	f := a.readFields(p, &q, "form", "a form takes topic, data, event (or type), retry, key and close")
	p.arena = q.scratch
	switch {
	case f != nil:
		return f
	case len(p.topics) == 0:
		return badRequest("no topic in the form; it takes topic, data, event (or type), retry, key and close, or the topic in the path, and then the body is the data")
	case !p.fields.hasData && !p.fields.close:
		return badRequest("no data in the form; it takes topic, data, event (or type), retry, key and close")
	}
	return a.readData(p, p.fields.data)
}

// addAll adds an event for each topic, which ends with it if closing. Together they are as large as
// a batch may be, whatever the product of topics and lines.
func (a *API) addAll(p *publish, topics []string, e encode.Event, closing bool, key string) *failure {
	// What an event costs beside its data, so that a million empty ones are not free.
	const each = 64
	for _, name := range topics {
		p.batch = append(p.batch, topic.Publication{Topic: name, Event: e, Close: closing, Key: key})
		if len(topics) > 1 {
			if p.size += len(e.Data) + each; p.size > a.o.MaxBatchSize {
				return failf(fasthttp.StatusRequestEntityTooLarge, "%d topics for each event make a batch of over %d bytes, which is the most (--max-batch-size)", len(topics), a.o.MaxBatchSize)
			}
		}
	}
	return nil
}

// readNDJSON reads an event a line. The batch is judged as a whole: the first line that can't be
// taken refuses all.
func (a *API) readNDJSON(p *publish, body []byte) *failure {
	if p.fields.hasEvent || p.fields.hasRetry || p.fields.hasClose || p.fields.key != nil {
		return badRequest("parameters event, retry, close and key (and Idempotency-Key): with application/x-ndjson each line has its own; the query takes topic")
	}
	// Room at once: growing by doubles costs more than reading the lines. A body of line breaks
	// alone gets no more than this.
	p.batch = slices.Grow(p.batch, min(bytes.Count(body, lineBreak)+1, keptEvents))
	s := scanner{arena: p.arena}
	defer func() { p.arena = s.arena }()
	var e event
	for number := 1; len(body) > 0; number++ {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		blank, err := s.event(line, &e)
		if err != nil {
			return badRequest("line %d: %v", number, err)
		}
		if blank {
			continue
		}
		if f := a.addLine(p, &e); f != nil {
			f.text = "line " + itoa(number) + ": " + f.text
			return f
		}
	}
	if len(p.batch) == 0 {
		return badRequest(`no event in the body; application/x-ndjson has one a line: {"topic":"...","data":...}`)
	}
	return nil
}

var lineBreak = []byte("\n")

// addLine checks a line's event and adds it.
func (a *API) addLine(p *publish, e *event) *failure {
	// The sequencer judges the event itself, all of the batch before any of it.
	out := encode.Event{Type: p.kinds.keep(e.kind), Data: e.data, Retry: e.retry}
	if !e.hasTopic {
		if len(p.topics) == 0 {
			return badRequest(`no topic; give the line a "topic", or name one in the path or the query for all lines`)
		}
		return a.addAll(p, p.topics, out, e.close, borrow(e.key))
	}
	name, known := p.allowed.find(e.topic)
	if !known {
		var err error
		if name, err = a.name(e.topic); err != nil {
			return badRequest("%v", err)
		}
		if err := p.who.MayPublish(name); err != nil {
			return a.publishFailure(err)
		}
		p.allowed.add(name)
	}
	p.batch = append(p.batch, topic.Publication{Topic: name, Event: out, Close: e.close, Key: borrow(e.key)})
	return nil
}

// lineOf finds the line of the batch's event at index.
func (p *publish) lineOf(body []byte, index int) int {
	s, e := scanner{}, event{}
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if blank, _ := s.event(line, &e); blank {
			continue
		}
		if e.hasTopic {
			index--
		} else {
			index -= len(p.topics)
		}
		if index < 0 {
			break
		}
	}
	return number
}
