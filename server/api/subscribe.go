package api

// A request for a stream: its parameters (parameters.go, ask.go) become a fanout.Subscription, or an error while HTTP can
// still carry one. Both ways come through here; on the short one this is the accept thread.

import (
	"bytes"
	"strconv"

	"penstock/encode"
	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// maxBadID is how much is kept of a last event id that can't be one: what a gap may show of it,
// and a character more, so that the cut is the gap's.
const maxBadID = 64 + 4

// subscribe reads what a request for a stream asks for. The subscription refers to nothing of
// the request. It also fills what r needs to be told to come back. req is nil on the short way,
// where there is no body. A failure with the status 204 says that nothing is left to be sent.
func (a *API) subscribe(r *request, req *fasthttp.Request) (*fanout.Subscription, *failure) {
	sub := fanout.NewSubscription()
	q := asking{a: a, sub: sub}
	if f := q.read(r, req); f != nil {
		return nil, f
	}
	if f := q.finish(); f != nil {
		return nil, f
	}
	who := a.rules().policy.Subscriber(a.local(r))
	for _, name := range sub.Topics {
		if err := who.MaySubscribe(name); err != nil {
			return nil, failf(fasthttp.StatusForbidden, "topic %s: %v", quote(name), err)
		}
	}
	for _, p := range sub.Patterns {
		if err := who.MaySubscribe(p.String()); err != nil {
			return nil, failf(fasthttp.StatusForbidden, "pattern %s: %v", quote(p.String()), err)
		}
	}
	if a.over(sub) {
		return nil, &failure{status: fasthttp.StatusNoContent}
	}
	a.beginHere(r, sub)
	if a.draining.Load() {
		return nil, a.unavailable(isDraining, "the server drains; come back in a few seconds")
	}
	if a.full() {
		return nil, a.outOfMemory()
	}
	if f := a.crowded(sub); f != nil {
		return nil, f
	}
	return sub, nil
}

// beginHere has a stream without an id that is told to come back begin as of now: so it misses
// nothing from its first try on. One that asks for something of the past will ask for that again.
func (a *API) beginHere(r *request, sub *fanout.Subscription) {
	newest := a.o.Sequencer.NewestID()
	if newest == 0 || sub.Resume || sub.BadID != "" || sub.Snapshot || sub.Rewind != (fanout.Rewind{}) {
		return
	}
	r.resume, r.lastID = true, newest
}

// read reads path, query, body and headers.
func (q *asking) read(r *request, req *fasthttp.Request) *failure {
	if f := r.judgeAccept(); f != nil {
		return f
	}
	r.coding = r.chooseCoding(q.a.o.Codings)
	sub := q.sub
	sub.HTTP10, sub.Coding, sub.Origin = !r.header.IsHTTP11(), r.coding, string(r.origin)
	p := pairs{text: r.query}
	if r.named {
		names, err := p.plain(r.topic, 0, false)
		if err != nil {
			return badRequest("topic in the path: %v", err)
		}
		if f := q.addTopics(names); f != nil {
			return f
		}
	}
	if f := q.readPairs(&p, "query"); f != nil {
		return f
	}
	if req != nil && routes[atEvents].hasBody(r.header) {
		if f := q.readBody(req, r); f != nil {
			return f
		}
	}
	q.readID(r)
	return nil
}

// readID reads where the stream goes on; the header wins.
func (q *asking) readID(r *request) {
	id := q.id
	if r.headers.lastID != nil {
		id = r.headers.lastID
	}
	if len(id) == 0 {
		return
	}
	last, err := encode.ParseID(id)
	if err != nil {
		q.sub.BadID = string(id[:min(len(id), maxBadID)])
		return
	}
	q.sub.Resume, q.sub.LastID = true, last
	// With a backplane one that is newer may be known on another node.
	r.resume, r.lastID = last <= q.a.o.Sequencer.NewestID() || q.a.o.Backplane != nil, last
}

// judgeAccept refuses who takes no event stream, and notes who takes nothing else.
func (r *request) judgeAccept() *failure {
	values := [][]byte{r.headers.accept}
	if r.headers.accepts > 1 {
		values = r.header.PeekAll(fasthttp.HeaderAccept)
	}
	accepts, alone := acceptsStream(values)
	r.alone = alone
	if !accepts {
		return failf(fasthttp.StatusNotAcceptable, "Accept excludes text/event-stream, which is all there is here; leave it out, or name text/event-stream or */*")
	}
	return nil
}

// chooseCoding chooses the stream's coding of those offered by what the client accepts.
func (r *request) chooseCoding(offered []encode.Coding) encode.Coding {
	accepted := r.headers.encoding
	if r.headers.encodings > 1 {
		accepted = bytes.Join(r.header.PeekAll(fasthttp.HeaderAcceptEncoding), comma)
	}
	return encode.ChooseCoding(borrow(accepted), offered)
}

// over tells whether nothing is left to be sent: all topics have ended, and what is asked for
// begins behind their ends. Who has been told of an end is not told again, whatever snapshot or
// rewind it asks for: these are for a stream without an id.
func (a *API) over(sub *fanout.Subscription) bool {
	if len(sub.Patterns) > 0 || sub.BadID != "" {
		return false
	}
	if !sub.Resume && (sub.Snapshot || sub.Rewind != fanout.Rewind{}) {
		return false
	}
	for _, name := range sub.Topics {
		t, ok := a.o.Sequencer.Table().Lookup(name)
		if !ok {
			return false
		}
		end, ended := t.Ended()
		if !ended || sub.Resume && sub.LastID < end {
			return false
		}
	}
	return !sub.Resume || sub.LastID <= a.o.Sequencer.NewestID()
}

// acceptsStream judges Accept (RFC 9110 section 12.5.1): whether it allows text/event-stream, and
// whether it allows nothing else, as that of an EventSource. The most specific range that
// matches decides.
func acceptsStream(values [][]byte) (accepts, alone bool) {
	const stream, text, all = 3, 2, 1 // how specific
	best, allowed, ranges := 0, true, 0
	for _, value := range values {
		for more := true; more; {
			var one []byte
			one, value, more = bytes.Cut(value, comma)
			kind, parameters, _ := bytes.Cut(one, semicolon)
			kind = bytes.TrimSpace(kind)
			if len(kind) == 0 {
				continue
			}
			ranges++
			specific := 0
			switch {
			case foldEqual(kind, "text/event-stream"):
				specific = stream
				alone = len(parameters) == 0
			case foldEqual(kind, "text/*"):
				specific = text
			case string(kind) == "*/*":
				specific = all
			}
			if specific == 0 {
				continue
			}
			positive := !zeroQuality(parameters)
			if specific > best {
				best, allowed = specific, positive
			} else if specific == best {
				allowed = allowed || positive
			}
		}
	}
	if ranges == 0 {
		return true, false
	}
	return best > 0 && allowed, alone && ranges == 1
}

var comma, semicolon = []byte(","), []byte(";")

// zeroQuality tells whether a media range's parameters exclude it: q=0, q=0.000.
func zeroQuality(parameters []byte) bool {
	for len(parameters) > 0 {
		var one []byte
		one, parameters, _ = bytes.Cut(parameters, semicolon)
		one = bytes.TrimSpace(one)
		if len(one) > 2 && one[0]|0x20 == 'q' && one[1] == '=' {
			return len(bytes.Trim(one[2:], "0.")) == 0
		}
	}
	return false
}

// streamHeaders fills a response with the headers of a stream, for HEAD and for the stream that
// only says when to come back. Those of a live stream are written by its shard.
func (a *API) streamHeaders(resp *fasthttp.Response, r *request) {
	h := &resp.Header
	resp.SetStatusCode(fasthttp.StatusOK)
	h.SetContentTypeBytes(typeStream)
	h.Set(fasthttp.HeaderCacheControl, "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	r.share(resp)
	h.Set(fasthttp.HeaderVary, "Accept-Encoding, Origin")
	if r.coding != encode.Identity {
		h.Set(fasthttp.HeaderContentEncoding, r.coding.String())
	}
	if r.head {
		// A stream has no length: it ends with its last chunk, in HTTP/1.0 with the connection.
		h.SetContentLength(-1)
		if !r.header.IsHTTP11() {
			h.SetContentLength(-2)
			h.Del(fasthttp.HeaderTransferEncoding) // fasthttp would say "identity"
		}
	}
}

// comeBack tells an EventSource to wait, in the only way that it understands: after a 429 or 503
// it would never come back. The answer is a stream of one block, which gives its own id back,
// so that it resumes where it was.
func (a *API) comeBack(resp *fasthttp.Response, r *request) {
	r.coding = encode.Identity
	a.streamHeaders(resp, r)
	retry := int(a.spread().Milliseconds())
	resp.SetBodyRaw(encode.AppendStart(nil, retry, r.lastID, r.resume))
}

// idText is an id as JSON carries it: a string, for JavaScript's numbers end at 2^53.
func idText(id uint64) string { return strconv.FormatUint(id, 10) }
