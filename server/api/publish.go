package api

// Publishing: one request, one event or a batch of them. Any goroutine; it may wait in the
// sequencer until the shards have caught up.

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"unsafe"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/auth"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// A publish is a request on its way to the sequencer, with the scratch that it needs. They are
// used again: the hot path allocates nothing.
//
// What batch refers to lies in the request's body, in arena, or is a string of its own; all of
// that stays until the answer is written.
type publish struct {
	who auth.Publisher

	topics []string // of the path and the query; of a form's body
	fields fields

	batch []topic.Publication
	ids   []uint64
	fresh int    // events of the batch that are new: their keys had not been used
	arena []byte // data and names that had to be unescaped
	size  int    // bytes of the batch's data, a little for each event included

	answer   []byte
	unpacked int64 // reserved of house.unpacked
	quick    bool  // on the accept thread: gives up where it would wait
	waits    bool  // it would have

	allowed names // topics that a line has named, and that who may publish to
	kinds   names // event types that a line has named
}

// fields are what a query or a form says about an event.
type fields struct {
	event    []byte
	hasEvent bool // as event or as type
	retry    int
	hasRetry bool
	data     []byte // a form's
	hasData  bool
	close    bool // the topic ends with the event
	hasClose bool
	key      []byte
}

var publishes = sync.Pool{New: func() any { return new(publish) }}

// Scratch over these sizes is not kept: one huge batch should not stay in memory for ever.
const (
	keptEvents = 1 << 15
	keptArena  = 1 << 20
)

func (a *API) release(p *publish) {
	if p.unpacked > 0 {
		a.unpacked.Add(-p.unpacked)
	}
	if cap(p.batch) > keptEvents || cap(p.ids) > keptEvents || cap(p.arena) > keptArena || cap(p.topics) > keptEvents {
		return
	}
	clear(p.topics)
	clear(p.batch) // nothing in the pool keeps a body alive
	p.topics, p.batch, p.ids, p.arena = p.topics[:0], p.batch[:0], p.ids[:0], p.arena[:0]
	p.who, p.fields, p.size, p.unpacked = auth.Publisher{}, fields{}, 0, 0
	p.quick, p.waits = false, false
	p.allowed.forget()
	p.kinds.forget()
	publishes.Put(p)
}

// publish answers POST /publish.
func (a *API) publish(ctx *fasthttp.RequestCtx, r *request) *failure {
	p := publishes.Get().(*publish)
	defer a.release(p)
	return a.publishWith(p, ctx, r)
}

func (a *API) publishWith(p *publish, ctx *fasthttp.RequestCtx, r *request) *failure {
	if f := a.admit(p, r); f != nil {
		return f
	}
	if f := a.readTarget(p, r); f != nil {
		return f
	}
	kind := bodyKind(r.header.ContentType(), len(p.topics) > 0)
	body, f := a.body(p, &ctx.Request, r, kind)
	if f != nil {
		return f
	}
	switch kind {
	case ndjsonBody:
		f = a.readNDJSON(p, body)
	case formBody:
		f = a.readForm(p, r, body)
	default:
		f = a.readData(p, body)
	}
	if f != nil {
		return f
	}
	p.ids = grow(p.ids, len(p.batch))
	giveBack, f := a.charge(r, len(p.batch))
	if f != nil {
		return f
	}
	if err := a.append(p); err != nil {
		giveBack()
		return a.batchFailure(p, kind, body, err)
	}
	p.answer = p.appendAnswer(p.answer[:0], kind)
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	ctx.Response.SetBody(p.answer)
	return nil
}

// append gives what is to be published to the sequencer.
func (a *API) append(p *publish) (err error) {
	switch {
	case len(p.batch) > 1 || p.batch[0].Key != "":
		if p.quick {
			return topic.ErrWouldWait
		}
		p.fresh, err = a.house.publish.PublishBatch(p.batch, p.ids)
		return err
	case p.quick:
		p.ids[0], err = a.o.Sequencer.TryPublish(&p.batch[0])
		p.waits = err == topic.ErrWouldWait
	default:
		p.ids[0], err = a.house.publish.Publish(&p.batch[0])
	}
	p.fresh = 1
	return err
}

// Quick answers a publish of one event, without a key and a content coding, unless it would have to
// wait or is refused: the long way says why. With a backplane each waits. The accept thread.
func (a *API) Quick(ctx *fasthttp.RequestCtx) accept.Quickness {
	r := request{header: &ctx.Request.Header, listener: accept.Source(ctx).Listener, client: accept.Source(ctx).Remote.Addr()}
	if a.o.Backplane != nil || a.judge(&r) != nil || r.at != atPublish || isOptions(r.header) || r.headers.coding != nil {
		return accept.NotQuick
	}
	p := publishes.Get().(*publish)
	defer a.release(p)
	p.quick = true
	r.share(&ctx.Response)
	if a.publishWith(p, ctx, &r) != nil {
		if p.waits {
			return accept.MustWait
		}
		return accept.NotQuick
	}
	a.count.response(ctx.Response.StatusCode())
	return accept.Answered
}

// admit asks the policy who publishes.
func (a *API) admit(p *publish, r *request) *failure {
	// Whether the request is local is asked only where it matters: with a token it does not.
	policy := a.rules().policy
	who, err := policy.Publisher(r.headers.authorization, !policy.Configured() && a.local(r))
	if err != nil {
		return a.publishFailure(err)
	}
	p.who = who
	if f := a.mayPublish(r); f != nil {
		return f
	}
	if a.full() {
		return a.outOfMemory()
	}
	if key := r.headers.key; key != nil {
		if err := topic.CheckKey(borrow(key)); err != nil {
			return badRequest("header Idempotency-Key: %v", err)
		}
		p.fields.key = key
	}
	return nil
}

// readTarget reads the topics and parameters of the path and the query.
func (a *API) readTarget(p *publish, r *request) *failure {
	q := pairs{text: r.query, scratch: p.arena}
	defer func() { p.arena = q.scratch }()
	if r.named {
		names, err := q.plain(r.topic, 0, false)
		if err != nil {
			return badRequest("topic in the path: %v", err)
		}
		if f := a.publishTo(p, names); f != nil {
			return f
		}
	}
	if len(r.query) == 0 {
		return nil
	}
	return a.readFields(p, &q, "query", "/publish takes topic, event (or type), retry, key and close")
}

// readFields reads names and values, of a query or of a form, which alone has data.
func (a *API) readFields(p *publish, q *pairs, where, allowed string) *failure {
	form := where == "form"
	for {
		name, value, ok, err := q.next()
		if err != nil {
			return badRequest("%s: %v", where, err)
		}
		if !ok {
			return nil
		}
		e := &p.fields
		switch string(name) {
		case "topic":
			if f := a.publishTo(p, value); f != nil {
				return f
			}
		case "event", "type":
			if e.hasEvent {
				return badRequest("parameter %s: event (or type) is there twice; it takes one value", quote(name))
			}
			e.event, e.hasEvent = value, true
		case "retry":
			if e.hasRetry {
				return twice(name)
			}
			retry, ok := milliseconds(value)
			if !ok {
				return badRequest("parameter retry: %s; it takes whole milliseconds, 0 to %d", quote(value), encode.MaxRetry)
			}
			e.retry, e.hasRetry = retry, true
		case "close":
			if e.hasClose {
				return twice(name)
			}
			if !either(value, "false", "true", &e.close) {
				return badRequest("parameter close: %s; it takes true or false", quote(value))
			}
			e.hasClose = true
		case "key":
			if e.key != nil {
				return badRequest("parameter key: the key is there twice; it takes one value, as key or as the header Idempotency-Key")
			}
			if err := topic.CheckKey(borrow(value)); err != nil {
				return badRequest("parameter key: %v", err)
			}
			e.key = value
		case "data":
			if form {
				if e.hasData {
					return twice(name)
				}
				e.data, e.hasData = value, true
				continue
			}
			fallthrough
		default:
			if !ignored(name) {
				return badRequest("parameter %s: unknown; %s (and ignores names that begin with _)", quote(name), allowed)
			}
		}
	}
}

// publishTo adds topics joined with commas. The same topic twice counts once.
func (a *API) publishTo(p *publish, names []byte) *failure {
	for more := true; more; {
		var b []byte
		b, names, more = bytes.Cut(names, comma)
		name, err := a.name(b)
		if err != nil {
			return badRequest("%v", err)
		}
		if err := p.who.MayPublish(name); err != nil {
			return a.publishFailure(err)
		}
		if contains(p.topics, name) {
			continue
		}
		if most := a.live().MaxTopicsPerSubscriber; len(p.topics) == most {
			return badRequest("more than %d topics: one publish takes at most %d (--max-topics-per-subscriber)", most, most)
		}
		p.topics = append(p.topics, name)
	}
	return nil
}

// contains searches a list that usually has one name.
func contains(list []string, name string) bool {
	for _, s := range list {
		if s == name {
			return true
		}
	}
	return false
}

// milliseconds reads a reconnection time as a query or a line gives it: digits alone.
func milliseconds(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 10 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= encode.MaxRetry
}

// batchFailure says what the sequencer had against a batch, and names the line that it is about.
func (a *API) batchFailure(p *publish, kind bodyType, body []byte, err error) *failure {
	index := 0
	var one *topic.BatchError
	if errors.As(err, &one) {
		index, err = one.Index, one.Err
	}
	f := a.publishFailure(err)
	if kind == ndjsonBody && f.retryAfter == 0 {
		f.text = "line " + itoa(p.lineOf(body, index)) + ": " + f.text
	}
	return f
}

// appendAnswer appends the answer to a publish that went well.
func (p *publish) appendAnswer(dst []byte, kind bodyType) []byte {
	last := p.ids[len(p.ids)-1]
	if kind == ndjsonBody {
		dst = append(dst, `{"count":`...)
		dst = strconv.AppendInt(dst, int64(p.fresh), 10)
		dst = append(dst, `,"firstId":"`...)
		dst = strconv.AppendUint(dst, p.ids[0], 10)
		dst = append(dst, `","lastId":"`...)
		dst = strconv.AppendUint(dst, last, 10)
		return append(dst, "\"}\n"...)
	}
	dst = append(dst, `{"id":"`...)
	dst = strconv.AppendUint(dst, last, 10)
	if len(p.ids) > 1 {
		dst = append(dst, `","ids":{`...)
		for i, id := range p.ids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, p.batch[i].Topic)
			dst = append(dst, `:"`...)
			dst = strconv.AppendUint(dst, id, 10)
			dst = append(dst, '"')
		}
		return append(dst, "}}\n"...)
	}
	return append(dst, "\"}\n"...)
}

// grow makes room for n ids.
func grow(ids []uint64, n int) []uint64 {
	if cap(ids) < n {
		return make([]uint64, n)
	}
	return ids[:n]
}

// borrow looks at bytes as a string without a copy: for look-ups that keep nothing of it.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func itoa(n int) string { return strconv.Itoa(n) }
