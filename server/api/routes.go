package api

// From a request's head to what it asks for: the routes, and the one judge of both ways. Any
// goroutine; Short runs on the accept thread.

import (
	"bytes"

	"penstock/server/accept"
	"penstock/server/auth"
	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// A place is what a path leads to.
type place uint8

const (
	atNothing place = iota
	atServer        // OPTIONS *: the server, and nothing in particular (RFC 9110 section 9.3.7)
	atEvents
	atPublish
	atTopics
	atTopic
	atStreams
	atStats
	atMetrics
	atHealthz
	atReadyz
	atPage
	places = iota
)

// A route says who may ask for what at a place.
type route struct {
	methods string // for Allow and Access-Control-Allow-Methods
	takes   method // the same
	main    bool   // on the main addresses alone
	look    bool   // on the admin address, and where loopback's rules allow it
}

// A method is a set of those that a path takes; OPTIONS is taken by all.
type method uint8

const (
	takesGet method = 1 << iota // and HEAD
	takesPost
	takesQuery
	takesDelete
)

var routes = [places]route{
	atServer:  {methods: "GET, HEAD, POST, QUERY, DELETE, OPTIONS"},
	atEvents:  {methods: "GET, HEAD, POST, QUERY, OPTIONS", takes: takesGet | takesPost | takesQuery, main: true},
	atPublish: {methods: "POST, OPTIONS", takes: takesPost, main: true},
	atTopics:  {methods: "GET, HEAD, OPTIONS", takes: takesGet, look: true},
	atTopic:   {methods: "GET, HEAD, DELETE, OPTIONS", takes: takesGet | takesDelete, look: true},
	atStreams: {methods: "GET, HEAD, OPTIONS", takes: takesGet, look: true},
	atStats:   {methods: "GET, HEAD, OPTIONS", takes: takesGet, look: true},
	atMetrics: {methods: "GET, HEAD, OPTIONS", takes: takesGet, look: true},
	atHealthz: {methods: "GET, HEAD, OPTIONS", takes: takesGet},
	atReadyz:  {methods: "GET, HEAD, OPTIONS", takes: takesGet},
	atPage:    {methods: "GET, HEAD, OPTIONS", takes: takesGet},
}

// find tells what a path leads to, and the part of it behind the route's own: the topic, with
// its escapes. named tells whether there is such a part; "/events/" has one, and it is empty.
func find(path []byte) (at place, topic []byte, named bool) {
	if len(path) > 0 && path[0] == '/' {
		if i := bytes.IndexByte(path[1:], '/'); i >= 0 {
			path, topic, named = path[:i+1], path[i+2:], true
		}
	}
	switch string(path) {
	case "/events":
		return atEvents, topic, named
	case "/publish":
		return atPublish, topic, named
	case "/topics":
		if named {
			return atTopic, topic, true
		}
		return atTopics, nil, false
	}
	if named {
		return atNothing, nil, false
	}
	switch string(path) {
	case "/":
		at = atPage
	case "/streams":
		at = atStreams
	case "/stats":
		at = atStats
	case "/metrics":
		at = atMetrics
	case "/healthz":
		at = atHealthz
	case "/readyz":
		at = atReadyz
	}
	return at, nil, false
}

// Short judges a complete head of a GET or HEAD without a body. For a stream it returns the
// subscription; where the answer is an error, or is the headers alone, it appends the whole
// answer to dst, to be sent before the connection is closed; long is true for everything else.
// The accept thread; it never waits. Nothing it returns refers to h.
func (a *API) Short(dst []byte, h *fasthttp.RequestHeader, from accept.From) (sub *fanout.Subscription, answer []byte, long bool) {
	r := request{header: h, listener: from.Listener, client: from.Remote.Addr()}
	f := a.judge(&r)
	if f == nil {
		if r.at != atEvents || isOptions(h) {
			return nil, dst, true
		}
		sub, f = a.subscribe(&r, nil)
		if f == nil && (a.asksBackplane(&r, sub) || a.rewindsBeyond(&r, sub)) {
			return nil, dst, true // which takes time
		}
		if f == nil && !r.head {
			return sub, dst, false
		}
	}
	return nil, a.appendAnswer(dst, &r, func(resp *fasthttp.Response) {
		if f != nil {
			a.fail(resp, &r, f)
			return
		}
		a.streamHeaders(resp, &r)
	}), false
}

// Room tells which room a request is served in: streams, health and metrics have their own. The
// path is a request's target without its query. Any goroutine.
func (a *API) Room(path []byte) accept.Room {
	if len(path) > 0 && path[0] != '/' {
		// Absolute form: what is behind its authority.
		if _, rest, ok := bytes.Cut(path, schemeEnd); ok {
			if i := bytes.IndexByte(rest, '/'); i >= 0 {
				path = rest[i:]
			}
		}
	}
	switch at, _, _ := find(path); at {
	case atEvents:
		return accept.Streams
	case atHealthz, atReadyz, atMetrics:
		return accept.Health
	}
	return accept.Shared
}

// Serve answers a request on the long way. Any goroutine; it may wait.
func (a *API) Serve(ctx *fasthttp.RequestCtx) {
	r := request{header: &ctx.Request.Header, listener: accept.Source(ctx).Listener, client: accept.Source(ctx).Remote.Addr()}
	f := a.judge(&r)
	if f == nil {
		f = a.serve(ctx, &r)
	}
	if f != nil {
		a.fail(&ctx.Response, &r, f)
	}
	if !accept.IsStream(ctx) {
		a.count.response(ctx.Response.StatusCode())
	}
}

// serve answers a request that the judge let pass.
func (a *API) serve(ctx *fasthttp.RequestCtx, r *request) *failure {
	resp := &ctx.Response
	if isOptions(r.header) {
		a.options(resp, r)
		return nil
	}
	r.share(resp)
	switch r.at {
	case atPublish:
		return a.publish(ctx, r)
	case atEvents:
		sub, f := a.subscribe(r, &ctx.Request)
		if f != nil {
			return f
		}
		if r.head {
			a.streamHeaders(resp, r)
			return nil
		}
		ask := a.older
		rewinds := a.rewindsBeyond(r, sub)
		if rewinds {
			ask = a.rewind
		}
		if rewinds || a.asksBackplane(r, sub) {
			older, f := ask(sub)
			if f != nil {
				return f
			}
			if older != nil {
				a.answerOlder(resp, r, older)
				return nil
			}
		}
		accept.Stream(ctx, sub)
		return nil
	case atTopics:
		return a.topics(resp, r)
	case atTopic:
		if methodOf(r.header) == takesDelete {
			return a.endTopic(resp, r)
		}
		return a.topic(resp, r)
	case atStreams:
		return a.streams(resp, r)
	case atStats:
		return a.stats(resp, r)
	case atMetrics:
		return a.metrics(resp, r)
	case atHealthz:
		return a.healthz(resp, r)
	case atReadyz:
		return a.readyz(resp, r)
	case atPage:
		return a.page(resp, r)
	}
	panic("api: serve: a place without a handler")
}

// judge finds out what a head asks for and refuses what nobody may ask: a foreign origin, a path
// that is not there or hidden, a method that it does not have. It fills r.
func (a *API) judge(r *request) *failure {
	h := r.header
	r.head = h.IsHead()
	target := h.RequestURI()
	r.host = h.Host()
	server := string(target) == "*" && isOptions(h)
	if target[0] != '/' && !server {
		// Absolute form (RFC 9112 section 3.2.2): its authority counts, not Host.
		scheme, rest, ok := bytes.Cut(target, schemeEnd)
		if !ok || !foldEqual(scheme, "http") && !foldEqual(scheme, "https") {
			return badRequest("request target %s: it takes a path, or a URL that begins with http:// or https://", quote(target))
		}
		i := bytes.IndexAny(rest, "/?")
		if i < 0 {
			i = len(rest)
		}
		if r.host, target = rest[:i], rest[i:]; len(target) == 0 || target[0] == '?' {
			target = append([]byte{'/'}, target...)
		}
	}
	path := target
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, r.query = target[:i], target[i+1:]
	}
	if r.at, r.topic, r.named = find(path); server {
		r.at = atServer
	}
	if f := r.read(); f != nil {
		return f
	}
	if f := a.judgeOrigin(r); f != nil {
		return f
	}
	rt := &routes[r.at]
	if r.at == atNothing || rt.main && a.admin || rt.look && !a.admin && !a.local(r) {
		r.at = atNothing
		there := "/events and /publish, each with /{topic} behind it or ?topic=, and /healthz, /readyz and /"
		if a.admin {
			there = "/topics, /topics/{topic}, /streams, /stats, /metrics, /healthz, /readyz and /"
		}
		return failf(fasthttp.StatusNotFound, "no such path: %s; there is %s", quote(path), there)
	}
	if rt.look && a.admin && a.o.AdminLoopback && !auth.LocalHost(r.host) {
		// A page elsewhere can have its own name made to point here, and would then be of the
		// same origin. The paths are no secret, so it is said why.
		return failf(fasthttp.StatusForbidden, "host %s: the admin address is a loopback one, and answers only to a Host of localhost, 127.0.0.1 or [::1]", quote(r.host))
	}
	if !rt.allows(h) {
		f := failf(fasthttp.StatusMethodNotAllowed, "method %s: this path takes %s", quote(h.Method()), rt.methods)
		f.allow = rt.methods
		return f
	}
	return nil
}

var (
	schemeEnd = []byte("://")

	typeJSON   = []byte("application/json")
	typeText   = []byte("text/plain; charset=utf-8")
	typeStream = []byte("text/event-stream")

	// In canonical form.
	hCacheControl = []byte("Cache-Control")
	vNoStore      = []byte("no-store")
)

// allows tells whether a path has a request's method.
func (rt *route) allows(h *fasthttp.RequestHeader) bool {
	return isOptions(h) || rt.takes&methodOf(h) != 0
}

// hasBody tells whether the body of a request for the path says something.
func (rt *route) hasBody(h *fasthttp.RequestHeader) bool {
	return rt.takes&methodOf(h)&(takesPost|takesQuery) != 0
}

func methodOf(h *fasthttp.RequestHeader) method {
	switch string(h.Method()) {
	case "GET", "HEAD":
		return takesGet
	case "POST":
		return takesPost
	case "QUERY": // draft-ietf-httpbis-safe-method-w-body: a GET with a body
		return takesQuery
	case "DELETE":
		return takesDelete
	}
	return 0
}

func isOptions(h *fasthttp.RequestHeader) bool { return h.IsOptions() }

// local tells whether the request was made on this machine, to a name of this machine, and
// through no proxy.
func (a *API) local(r *request) bool {
	loopback := a.o.AdminLoopback
	if !a.admin {
		loopback = a.o.Loopback[r.listener]
	}
	return loopback && !r.headers.proxied && auth.LocalHost(r.host)
}

// foldEqual compares ASCII without regard to case; lower is lower case.
func foldEqual(b []byte, lower string) bool {
	return len(b) == len(lower) && bytes.EqualFold(b, []byte(lower))
}
