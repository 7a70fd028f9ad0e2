package api

// The API: what it is made of, and what may change while it serves. Any goroutine.

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/auth"
	"penstock/server/fanout"
	"penstock/server/topic"
)

// Options are what an API serves, and its limits. All must be set but for those that say so.
type Options struct {
	Sequencer *topic.Sequencer
	Backplane Backplane // carries events between nodes; nil: there is but this one
	Node      string    // what this one is called among them
	Shards    *fanout.Shards
	Policy    *auth.Policy

	// Origins are the allowed origins: "https://app.example.com", or "https://*.example.com"
	// for one label or more in the star's place. None: the same origin only.
	Origins []string
	// Loopback says of each main address, in accept's order, whether it is a loopback one.
	Loopback []bool

	// AdminLoopback says that the address of Admin is one.
	AdminLoopback bool

	// Codings are what streams may be compressed by, the best one first; none: they never are.
	Codings []encode.Coding

	MaxEventSize int // bytes of a frame
	MaxBatchSize int // bytes of a publish's body, also once it is unpacked

	Limits // that hold at first

	// MemoryFull tells whether the process has all the memory that it may: new streams and publishes
	// are refused then. It may be nil; it must not wait.
	MemoryFull func() bool

	Version string // of this build

	// InForce tells what holds now, for /stats and /metrics. It may be nil.
	InForce func() []Limit

	// Accepted tells the main addresses' counters, for /stats and /metrics. It may be nil.
	Accepted func() accept.Stats

	// Files tells how many descriptors the process has open, 0 where nobody knows, and how many it
	// may have, for /stats and /metrics. It may be nil.
	Files func() (open, limit int)
}

// An API answers requests. New makes that of the main addresses, Admin that of
// the other one. It is an accept.Handler.
type API struct {
	*house
	admin bool
}

// house is what the two addresses share.
type house struct {
	o        Options
	publish  publisher
	front    page
	count    counters
	refused  refusals
	rates    rates
	unpacked atomic.Int64 // bytes that packed bodies in hand may grow to
	busy     busy
	limited  atomic.Pointer[Limits]
	ruled    atomic.Pointer[rules]
	meters   meters
	draining atomic.Bool
}

// New returns the API of the main addresses. It fails where an origin can't be one.
func New(o Options) (*API, error) {
	h := &house{o: o, publish: o.Sequencer}
	if o.Backplane != nil {
		h.publish = o.Backplane
	}
	h.limited.Store(&o.Limits)
	ruled, err := newRules(o.Policy, o.Origins)
	if err != nil {
		return nil, err
	}
	h.ruled.Store(ruled)
	h.front = newPage(pageHTML)
	h.rates.begin(h)
	return &API{house: h}, nil
}

// Admin returns the API of the admin address: what there is to look at, and nothing to publish
// or to subscribe to. It shows the same counters. Any goroutine.
func (a *API) Admin() *API { return &API{house: a.house, admin: true} }

// rules say who may do what; they may be changed while requests are served, all at once.
type rules struct {
	policy  *auth.Policy
	origins []origin
}

func newRules(policy *auth.Policy, origins []string) (*rules, error) {
	r := &rules{policy: policy}
	for _, text := range origins {
		allowed, err := parseOrigin(text)
		if err != nil {
			return nil, err
		}
		r.origins = append(r.origins, allowed)
	}
	return r, nil
}

// rules are those that hold now. A request that asks twice may find others.
func (h *house) rules() *rules { return h.ruled.Load() }

// Rule puts a policy and allowed origins in the place of those that hold, for requests that come
// from now on; with an error, which names an origin that can't be one, nothing changes. Any goroutine.
func (a *API) Rule(policy *auth.Policy, origins []string) error {
	r, err := newRules(policy, origins)
	if err == nil {
		a.ruled.Store(r)
	}
	return err
}

// Drain makes /readyz say so, and every request for a stream hear that it should come back
// later. Publishers hear it from the sequencer. Any goroutine; there is no way back.
func (a *API) Drain() { a.draining.Store(true) }

// spread is the random time after which one who was refused may come back.
func (a *API) spread() time.Duration {
	d := a.live().RetryMin
	if more := a.live().RetryMax - d; more > 0 {
		d += rand.N(more + 1)
	}
	return d
}

// retryAfter is spread in whole seconds, at least one.
func (a *API) retryAfter() int {
	return int(max(1, (a.spread()+time.Second-1)/time.Second))
}

// name reads a topic's name. One that is known costs nothing but the look-up.
func (a *API) name(b []byte) (string, error) {
	if t, ok := a.o.Sequencer.Table().Lookup(borrow(b)); ok {
		return t.Name(), nil
	}
	return topic.ParseName(string(b))
}
