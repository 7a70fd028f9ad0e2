package api

// Refusals: which limit said no, in what words, and how often. Any goroutine; Busy and Admit never
// wait.

import (
	"sync/atomic"
	"time"

	"penstock/server/accept"
	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// A reason says which limit refused a request. Each is a label of penstock_refusals_total.
type reason uint8

const (
	notRefused reason = iota
	overConnections
	overAddress
	overRequests
	overSlowBodies
	overBodyMemory
	overHalfHeads
	noShard
	isDraining
	overload
	overTopics
	overSubscribers
	overPublishRate
	overMemory
	backplaneLost
	overHistory
	reasonCount = iota
)

// reasonNames are the reasons in /stats and the metrics.
var reasonNames = [reasonCount]string{
	overConnections: "connections",
	overAddress:     "connections_per_ip",
	overRequests:    "requests",
	overSlowBodies:  "slow_bodies",
	overBodyMemory:  "body_memory",
	overHalfHeads:   "half_heads",
	noShard:         "no_shard",
	isDraining:      "draining",
	overload:        "overload",
	overTopics:      "topics",
	overSubscribers: "subscribers_per_topic",
	overPublishRate: "publish_rate",
	overMemory:      "memory",
	backplaneLost:   "backplane",
	overHistory:     "history",
}

// fulls say what accept found full.
var fulls = [accept.Fulls]struct {
	reason reason
	client bool // the limit is this client's: 429, else 503
	text   string
}{
	accept.FullConnections: {overConnections, false, "the server has as many connections as it takes (--max-connections); try again"},
	accept.FullAddress:     {overAddress, true, "this address has as many connections as it may (--max-connections-per-ip); close some first"},
	accept.FullRequests:    {overRequests, false, "the server has as many requests in hand as it takes (--max-requests); try again"},
	accept.FullShare:       {overSlowBodies, true, "too many requests of this address whose bodies are still to come (a quarter of --max-requests); finish some first"},
	accept.FullBodies:      {overBodyMemory, false, "the bodies in hand take all the memory that they may (--body-memory); try again"},
	accept.FullHeads:       {overHalfHeads, false, "too many requests of which a part of the head has come; try again"},
	accept.FullShards:      {noShard, false, "no shard takes a stream any more: the server drains; come back in a few seconds"},
}

// Limits are those that may be changed while requests are served.
type Limits struct {
	MaxTopicsPerSubscriber int   // topics and patterns of one stream
	MaxSubscribersPerTopic int   // streams that name a topic; 0: no limit
	PublishRate            int   // events a second of one publisher; 0: no limit
	BodyMemory             int64 // bytes that all packed bodies in hand may grow to

	// MinInterval is the shortest interval that a subscriber may ask for, beside none.
	MinInterval time.Duration

	// RetryMin and RetryMax bound the random time after which a refused subscriber comes back.
	RetryMin, RetryMax time.Duration
}

// Limit puts limits in the place of those that hold. Any goroutine.
func (a *API) Limit(l Limits) { a.limited.Store(&l) }

// live are the limits that hold now.
func (h *house) live() *Limits { return h.limited.Load() }

// full tells whether there is no memory for anything new.
func (h *house) full() bool { return h.o.MemoryFull != nil && h.o.MemoryFull() }

func (a *API) outOfMemory() *failure {
	return a.unavailable(overMemory, "the server has all the memory that it may (--memory-limit); try again")
}

// crowded refuses a stream of a topic that has all the subscribers that it may. Patterns are not
// counted. Streams that begin in the same moment may all get in.
func (a *API) crowded(sub *fanout.Subscription) *failure {
	most := a.live().MaxSubscribersPerTopic
	if most == 0 {
		return nil
	}
	for _, name := range sub.Topics {
		if t, ok := a.o.Sequencer.Table().Lookup(name); ok && t.Subscribers() >= most {
			return a.unavailable(overSubscribers, "topic "+quote(name)+" has "+itoa(most)+" subscribers, all that it may have (--max-subscribers-per-topic); try again")
		}
	}
	return nil
}

// A Limit is one that holds now, for people to see.
type Limit struct {
	Name  string  // of the setting
	Value float64 // in the setting's unit, seconds and bytes; 0: no limit
}

// refusals count by reason.
type refusals [reasonCount]atomic.Uint64

// unavailable is a 503: the server can't now, and the same request may do later.
func (a *API) unavailable(why reason, text string) *failure {
	return &failure{status: fasthttp.StatusServiceUnavailable, text: text, retryAfter: a.retryAfter(), reason: why}
}

// tooMany is a 429: this client has, or does, as much as it may.
func (a *API) tooMany(why reason, text string) *failure {
	return &failure{status: fasthttp.StatusTooManyRequests, text: text, retryAfter: a.retryAfter(), reason: why}
}

// Busy appends the whole answer to a request that came when there was no room for it: 503 or 429,
// or for an EventSource that asks for a stream the order to come back; after it the connection is
// closed. h is nil where no head has come. Any goroutine; it does not wait.
func (a *API) Busy(dst []byte, h *fasthttp.RequestHeader, from accept.From, why accept.Full) []byte {
	r := request{header: h, listener: from.Listener, client: from.Remote.Addr()}
	full := &fulls[why]
	f := a.unavailable(full.reason, full.text)
	if full.client {
		f = a.tooMany(full.reason, full.text)
	}
	if h != nil {
		if bad := a.judge(&r); bad != nil {
			f = bad
		} else if r.at == atEvents && !isOptions(h) {
			f = a.busyStream(&r, f)
		}
	}
	return a.appendAnswer(dst, &r, func(resp *fasthttp.Response) { a.fail(resp, &r, f) })
}

// busyStream judges a request for a stream for which there is no room: what is wrong with it is
// said even so. Of a body that was not read nothing can be said.
func (a *API) busyStream(r *request, f *failure) *failure {
	if !routes[atEvents].hasBody(r.header) {
		if _, bad := a.subscribe(r, nil); bad != nil && bad.reason == notRefused {
			return bad
		}
		return f
	}
	if bad := a.askedSoFar(r); bad != nil {
		return bad
	}
	return f
}

// Admit judges a request whose body is still to come by its head: whoever may not ask, or asks in
// vain, is told before a byte of the body is waited for or any memory is set aside for it. What
// Serve judges it judges by the same code. most is how many bytes the body may have. Any
// goroutine; it does not wait.
func (a *API) Admit(dst []byte, h *fasthttp.RequestHeader, length int64, from accept.From) (answer []byte, most int64) {
	r := request{header: h, listener: from.Listener, client: from.Remote.Addr()}
	f := a.judge(&r)
	if f == nil {
		most, f = a.admitBody(&r)
	}
	if f == nil && length > most {
		f = failf(fasthttp.StatusRequestEntityTooLarge, "the body has %d bytes; at most %d here", length, most)
	}
	if f == nil {
		return nil, most
	}
	return a.appendAnswer(dst, &r, func(resp *fasthttp.Response) { a.fail(resp, &r, f) }), 0
}

// uselessBody is how many bytes a body may have that says nothing.
const uselessBody = 64 << 10

// admitBody judges what a request asks for without its body, and says how large that may be.
func (a *API) admitBody(r *request) (most int64, f *failure) {
	switch {
	case r.at == atPublish && !isOptions(r.header):
		if a.draining.Load() {
			return 0, a.unavailable(isDraining, "the server drains and takes no more events; publish again when it is back")
		}
		p := publishes.Get().(*publish)
		defer a.release(p)
		if f = a.admit(p, r); f == nil {
			f = a.readTarget(p, r)
		}
		return int64(a.o.MaxBatchSize), f
	case r.at == atEvents && routes[atEvents].hasBody(r.header):
		if f = a.askedSoFar(r); f == nil && a.draining.Load() {
			f = a.unavailable(isDraining, "the server drains; come back in a few seconds")
		}
		if f == nil && a.full() {
			f = a.outOfMemory()
		}
		return int64(a.mostAsk()), f
	}
	return uselessBody, nil
}

// askedSoFar judges a request for a stream whose body has not been read.
func (a *API) askedSoFar(r *request) *failure {
	q := asking{a: a, sub: new(fanout.Subscription)}
	return q.read(r, nil)
}

// outrun says whom publishers have to wait for.
func (a *API) outrun() string {
	if a.o.Backplane != nil {
		return "publishers outrun the subscribers' shards, and this node is behind its stream (--nats-max-behind); nothing was published, try again"
	}
	return "publishers outrun the subscribers' shards; nothing was published, try again"
}
