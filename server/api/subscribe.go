package api

// A request for a stream: its parameters become a fanout.Subscription, or an error while HTTP can
// still carry one. Both ways come through here; on the short one this is the accept thread.

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"

	"penstock/encode"
	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// maxBadID is how much is kept of a last event id that can't be one: what a gap may show of it,
// and a character more, so that the cut is the gap's.
const maxBadID = 64 + 4

// subscribe reads what a request for a stream asks for. The subscription refers to nothing of
// the request. It also fills what r needs to be told to come back.
func (a *API) subscribe(r *request) (*fanout.Subscription, *failure) {
	values := [][]byte{r.headers.accept}
	if r.headers.accepts > 1 {
		values = r.header.PeekAll(fasthttp.HeaderAccept)
	}
	accepts, alone := acceptsStream(values)
	r.alone = alone
	if !accepts {
		return nil, failf(fasthttp.StatusNotAcceptable, "Accept excludes text/event-stream, which is all there is here; leave it out, or name text/event-stream or */*")
	}
	sub := fanout.NewSubscription()
	sub.HTTP10, sub.Coding, sub.Origin = !r.header.IsHTTP11(), encode.Identity, string(r.origin)
	id, f := a.readSubscription(sub, r)
	if f != nil {
		return nil, f
	}
	if r.headers.lastID != nil {
		id = r.headers.lastID
	}
	if len(id) > 0 {
		last, err := encode.ParseID(id)
		if err != nil {
			sub.BadID = string(id[:min(len(id), maxBadID)])
		} else {
			sub.Resume, sub.LastID = true, last
			r.resume, r.lastID = last <= a.o.Sequencer.NewestID(), last
		}
	}
	who := a.o.Policy.Subscriber(a.local(r))
	for _, name := range sub.Topics {
		if err := who.MaySubscribe(name); err != nil {
			return nil, failf(fasthttp.StatusForbidden, "topic %s: %v", quote(name), err)
		}
	}
	if a.draining.Load() {
		return nil, a.unavailable("the server drains; come back in a few seconds")
	}
	return sub, nil
}

// readSubscription reads the path and the query into sub and returns the last event id that the
// query names; nil for none.
func (a *API) readSubscription(sub *fanout.Subscription, r *request) (id []byte, f *failure) {
	p := pairs{text: r.query}
	if r.named {
		names, err := p.plain(r.topic, 0, false)
		if err != nil {
			return nil, badRequest("topic in the path: %v", err)
		}
		if f := a.addTopics(sub, names); f != nil {
			return nil, f
		}
	}
	var heartbeat bool
	for {
		name, value, ok, err := p.next()
		if err != nil {
			return nil, badRequest("query: %v", err)
		}
		if !ok {
			break
		}
		switch string(name) {
		case "topic":
			if f := a.addTopics(sub, value); f != nil {
				return nil, f
			}
			continue
		case "heartbeat":
			if heartbeat {
				return nil, twice(name)
			}
			heartbeat = true
			switch string(value) {
			case "comment":
			case "event":
				return nil, notYet("parameter heartbeat=event")
			default:
				return nil, badRequest("parameter heartbeat: %s; it takes comment or event", quote(value))
			}
			continue
		case "rewind", "snapshot", "mode", "interval", "onlag", "name", "envelope", "hello":
			return nil, notYet("parameter " + string(name))
		}
		switch {
		case isLastID(name):
			if id != nil {
				return nil, twice(name)
			}
			// Not nil, even when it is empty: it was there.
			id = append(make([]byte, 0, len(value)), value...)
		case !ignored(name):
			return nil, badRequest("parameter %s: unknown; /events takes topic, lastEventId and heartbeat (and ignores names that begin with _)", quote(name))
		}
	}
	if len(sub.Topics) == 0 {
		return nil, badRequest("no topic: name one as /events/{topic} or ?topic=, repeated or joined with commas")
	}
	slices.Sort(sub.Topics)
	sub.Topics = slices.Compact(sub.Topics)
	if n, most := len(sub.Topics), a.o.MaxTopicsPerSubscriber; n > most {
		return nil, badRequest("%d topics: one stream takes at most %d (--max-topics-per-subscriber)", n, most)
	}
	return id, nil
}

// addTopics adds names joined with commas.
func (a *API) addTopics(sub *fanout.Subscription, names []byte) *failure {
	for more := true; more; {
		var b []byte
		b, names, more = bytes.Cut(names, comma)
		name, err := a.name(b)
		if err != nil {
			return badRequest("%v", err)
		}
		sub.Topics = append(sub.Topics, name)
	}
	return nil
}

var comma = []byte(",")

// isLastID tells whether a parameter is the last event id: EventSource polyfills write it in
// several ways.
func isLastID(name []byte) bool {
	return foldEqual(name, "lasteventid") || foldEqual(name, "last_event_id") || foldEqual(name, "last-event-id")
}

// ignored tells whether a parameter may be anything: cache busters begin with an underscore.
func ignored(name []byte) bool { return len(name) > 0 && name[0] == '_' }

func twice(name []byte) *failure {
	return badRequest("parameter %s is there twice; it takes one value", quote(name))
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

var semicolon = []byte(";")

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
	a.streamHeaders(resp, r)
	retry := int(a.spread().Milliseconds())
	resp.SetBodyRaw(encode.AppendStart(nil, retry, r.lastID, r.resume))
}

// Busy appends the whole answer to a request that came when there was no room for it: 503, or for
// an EventSource that asks for a stream the order to come back; after it the connection is
// closed. h is nil where no head has come. Any goroutine; it does not wait.
func (a *API) Busy(dst []byte, h *fasthttp.RequestHeader, _ netip.AddrPort) []byte {
	r := request{header: h}
	f := a.unavailable("the server has as many connections or requests as it takes (--max-connections, --max-requests), or drains; try again")
	if h != nil {
		if bad := a.judge(&r); bad != nil {
			f = bad
		} else if r.at == atEvents && !isOptions(h) {
			if _, bad := a.subscribe(&r); bad != nil {
				f = bad
			}
		}
	}
	return a.appendAnswer(dst, &r, func(resp *fasthttp.Response) { a.fail(resp, &r, f) })
}

// idText is an id as JSON carries it: a string, for JavaScript's numbers end at 2^53.
func idText(id uint64) string { return strconv.FormatUint(id, 10) }
