package api

// Figures for people and for the page: /stats and /streams. Any goroutine; they read counters
// and hold nothing up.

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"penstock/ring"
	"penstock/server/accept"
	"penstock/server/fanout"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// statsJSON is what /stats answers and what the server's own topic $penstock.stats carries.
type statsJSON struct {
	Version     string             `json:"version"`
	Uptime      float64            `json:"uptime"` // seconds
	NewestID    string             `json:"newestId"`
	Draining    bool               `json:"draining"`
	Connections connectionsJSON    `json:"connections"`
	Publish     flowJSON           `json:"publish"`
	Delivery    flowJSON           `json:"delivery"`
	Waiting     int                `json:"publishersWaiting"`
	Lag         lagJSON            `json:"lag"`
	Ring        ringJSON           `json:"ring"`
	Topics      topicsJSON         `json:"topics"`
	Refusals    map[string]uint64  `json:"refusals"` // by the limit that refused
	Limits      map[string]float64 `json:"limits"`   // that hold now, by setting; 0: no limit
	Descriptors filesJSON          `json:"descriptors"`
	Shards      []shardJSON        `json:"shards"`

	Backplane *topic.BackplaneStats `json:"backplane,omitempty"`
}

// filesJSON is a descriptor table: the process's, or that of a shard which has one of its own.
type filesJSON struct {
	Open  int `json:"open"` // of the process: 0 where the kernel does not tell
	Limit int `json:"limit"`
}

type connectionsJSON struct {
	Streams  int `json:"streams"`  // live streams
	Requests int `json:"requests"` // connections that are none, or none yet
}

// flowJSON counts events: published, or sent to one subscriber each.
type flowJSON struct {
	Events         uint64  `json:"events"` // since the start
	Bytes          uint64  `json:"bytes"`
	PerSecond      float64 `json:"perSecond"` // events, lately
	BytesPerSecond float64 `json:"bytesPerSecond"`
}

type lagJSON struct {
	Streams int    `json:"streams"` // behind their audience
	Bytes   int64  `json:"bytes"`   // held for them
	Unread  uint64 `json:"unread"`  // bytes of the ring that the slowest shard has not read
}

type ringJSON struct {
	Head    uint64  `json:"head"` // bytes ever appended
	Tail    uint64  `json:"tail"`
	Bytes   int64   `json:"bytes"`   // from tail to head
	Size    int64   `json:"size"`    // at most
	Seconds float64 `json:"seconds"` // age of the oldest event in it
}

type topicsJSON struct {
	Count   int        `json:"count"`
	Busiest []busyJSON `json:"busiest"`
}

type busyJSON struct {
	Topic       string  `json:"topic"`
	PerSecond   float64 `json:"perSecond"`
	Subscribers int     `json:"subscribers"`
	Events      uint64  `json:"events"`
}

type shardJSON struct {
	Streams     int     `json:"streams"`
	Audiences   int     `json:"audiences"`
	Lagging     int     `json:"lagging"`
	Unread      uint64  `json:"unread"` // bytes of the ring
	Passes      uint64  `json:"passes"`
	LongestPass float64 `json:"longestPass"` // seconds
	Sends       uint64  `json:"sends"`
	Deliveries  uint64  `json:"deliveries"`
	Bytes       uint64  `json:"bytes"`

	Descriptors *filesJSON `json:"descriptors,omitempty"` // of its own table, where it has one
}

// figures are all counters, taken together.
type figures struct {
	at        time.Time
	sequencer topic.Stats
	ring      ring.Stats
	shards    []fanout.ShardStats
	accepted  accept.Stats
	streams   int
	files     filesJSON // of the process
}

// figures takes the counters.
func (h *house) figures() figures {
	f := figures{
		at:        time.Now(),
		sequencer: h.o.Sequencer.Stats(),
		ring:      h.o.Sequencer.Ring().Stats(),
		shards:    h.o.Shards.Stats(),
		streams:   h.o.Shards.Streams(),
	}
	if h.o.Accepted != nil {
		f.accepted = h.o.Accepted()
	}
	if h.o.Files != nil {
		f.files.Open, f.files.Limit = h.o.Files()
	}
	return f
}

// limits are those that hold now.
func (h *house) limits() []Limit {
	if h.o.InForce == nil {
		return nil
	}
	return h.o.InForce()
}

// held is the age of the oldest event in the ring, in seconds; 0 while it is empty.
func (f *figures) held() float64 {
	if f.ring.Held == 0 {
		return 0
	}
	return max(0, f.at.Sub(time.UnixMicro(f.ring.Oldest)).Seconds())
}

// sent sums what the shards have delivered.
func (f *figures) sent() (events, bytes uint64) {
	for i := range f.shards {
		events += f.shards[i].Deliveries
		bytes += f.shards[i].BytesOut
	}
	return events, bytes
}

// A sample is what rates are made of.
type sample struct {
	at                           time.Time
	events, bytes, sent, sentOut uint64
}

func (f *figures) sample() sample {
	s := sample{at: f.at, events: f.sequencer.Events, bytes: f.sequencer.Bytes}
	s.sent, s.sentOut = f.sent()
	return s
}

// rates remembers the last samples, so that two looks at the counters make a rate. Any
// goroutine.
type rates struct {
	started time.Time

	mu           sync.Mutex
	before, last sample
}

func (r *rates) begin(h *house) {
	r.started = time.Now()
	f := h.figures()
	r.before = f.sample()
	r.last = r.before
}

// shortest is the time over which a rate is taken, at least.
const shortest = time.Second

// since returns the sample to compare now with: one that is at least shortest old, where there
// is one.
func (r *rates) since(now sample) sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A tick of the feed may come a little early.
	if now.at.Sub(r.last.at) >= shortest-shortest/10 {
		r.before, r.last = r.last, now
	}
	return r.before
}

// flow makes a rate of two counts.
func flow(events, eventsBefore, bytes, bytesBefore uint64, over time.Duration) flowJSON {
	f := flowJSON{Events: events, Bytes: bytes}
	if s := over.Seconds(); s > 0 {
		f.PerSecond = round(float64(events-eventsBefore) / s)
		f.BytesPerSecond = round(float64(bytes-bytesBefore) / s)
	}
	return f
}

// round leaves what people read.
func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }

// snapshot makes the figures into what is shown.
func (h *house) snapshot(busiest []busyJSON) statsJSON {
	f := h.figures()
	now := f.sample()
	then := h.rates.since(now)
	over := now.at.Sub(then.at)
	s := statsJSON{
		Version:     h.o.Version,
		Uptime:      round(f.at.Sub(h.rates.started).Seconds()),
		NewestID:    idText(h.o.Sequencer.NewestID()),
		Draining:    h.draining.Load(),
		Connections: connectionsJSON{f.streams, int(f.accepted.Open)},
		Publish:     flow(now.events, then.events, now.bytes, then.bytes, over),
		Delivery:    flow(now.sent, then.sent, now.sentOut, then.sentOut, over),
		Waiting:     f.sequencer.Waiting,
		Ring: ringJSON{
			Head: uint64(h.o.Sequencer.Ring().Head()), Tail: uint64(h.o.Sequencer.Ring().Tail()),
			Bytes: f.ring.Held, Size: f.ring.Size, Seconds: round(f.held()),
		},
		Refusals:    make(map[string]uint64, reasonCount),
		Limits:      make(map[string]float64),
		Topics:      topicsJSON{h.o.Sequencer.Table().Len(), busiest},
		Descriptors: f.files,
	}
	for _, l := range h.limits() {
		s.Limits[l.Name] = l.Value
	}
	if h.o.Backplane != nil {
		b := h.o.Backplane.Stats()
		s.Backplane = &b
	}
	for why := notRefused + 1; why < reasonCount; why++ {
		s.Refusals[reasonNames[why]] = h.refused[why].Load()
	}
	for i := range f.shards {
		sh := &f.shards[i]
		s.Lag.Streams += sh.Lagging
		s.Lag.Bytes += sh.LagBytes
		s.Lag.Unread = max(s.Lag.Unread, sh.Unread)
		s.Shards = append(s.Shards, shardJSON{
			Streams: sh.Streams, Audiences: sh.Audiences, Lagging: sh.Lagging, Unread: sh.Unread, Passes: sh.Passes,
			LongestPass: sh.LongestPass.Seconds(), Sends: sh.Sends, Deliveries: sh.Deliveries, Bytes: sh.BytesOut,
			Descriptors: ownTable(sh),
		})
	}
	return s
}

// ownTable is a shard's own descriptor table; nil where it has none.
func ownTable(s *fanout.ShardStats) *filesJSON {
	if s.DescriptorLimit == 0 {
		return nil
	}
	return &filesJSON{s.Descriptors, s.DescriptorLimit}
}

// stats answers GET /stats; with cluster=true, what all nodes say.
func (a *API) stats(resp *fasthttp.Response, r *request) *failure {
	cluster, seen := false, false
	q := pairs{text: r.query}
	for {
		name, value, ok, err := q.next()
		switch {
		case err != nil:
			return badRequest("query: %v", err)
		case !ok:
			if cluster {
				return a.clusterStats(resp)
			}
			return a.answerJSON(resp, a.snapshot(a.busy.list(a.house)))
		case ignored(name):
		case string(name) != "cluster":
			return badRequest("parameter %s: unknown; /stats takes cluster (and ignores names that begin with _)", quote(name))
		case seen:
			return twice(name)
		case !either(value, "false", "true", &cluster):
			return badRequest("parameter cluster: %s; it takes true or false", quote(value))
		default:
			seen = true
		}
	}
}

// nodeJSON is what a node says of itself to another one.
type nodeJSON struct {
	Node string `json:"node"`
	statsJSON
}

// Tell is what this node says of itself to the others. Any goroutine.
func (a *API) Tell() []byte {
	b, err := json.Marshal(nodeJSON{a.o.Node, a.snapshot(a.busy.list(a.house))})
	if err != nil {
		panic("api: Tell: " + err.Error())
	}
	return b
}

// clusterStats answers with the figures of all nodes that answer in time.
func (a *API) clusterStats(resp *fasthttp.Response) *failure {
	if a.o.Backplane == nil {
		return badRequest("parameter cluster: this node is alone; it takes true with --nats")
	}
	answers, err := a.o.Backplane.Ask()
	if err != nil {
		return a.unavailable(backplaneLost, err.Error())
	}
	list := struct {
		Nodes []json.RawMessage `json:"nodes"`
	}{[]json.RawMessage{}}
	for _, one := range answers {
		if json.Valid(one) {
			list.Nodes = append(list.Nodes, one)
		}
	}
	return a.answerJSON(resp, list)
}

// mostStreams is how many streams /streams shows.
const mostStreams = 50

// streams answers GET /streams: those furthest behind.
func (a *API) streams(resp *fasthttp.Response, r *request) *failure {
	if f := noParameters(r); f != nil {
		return f
	}
	type streamJSON struct {
		Address string   `json:"address"`
		Topics  []string `json:"topics"`
		Lag     uint64   `json:"lag"`   // bytes of the ring
		Bytes   uint64   `json:"bytes"` // held for it
	}
	list := struct {
		Streams []streamJSON `json:"streams"`
	}{[]streamJSON{}}
	for _, s := range a.o.Shards.Laggards(mostStreams) {
		address := "unix"
		if s.Address.IsValid() {
			address = s.Address.String()
		}
		list.Streams = append(list.Streams, streamJSON{address, s.Topics, s.Lag, s.Bytes})
	}
	return a.answerJSON(resp, list)
}

// busy finds the topics with the most events lately. Any goroutine.
//
// It compares each topic's count with the last one it saw. The list of topics is asked for anew
// each time while it is short, and rarely when it is long: making it looks at every topic.
type busy struct {
	mu     sync.Mutex
	topics []*topic.Topic
	counts map[*topic.Topic]uint64
	listed time.Time // when topics was made
	seen   time.Time // when counts were taken
	result []busyJSON
}

const (
	mostBusy   = 20               // topics shown
	shortTable = 2 * mostTopics   // topics up to which the list is cheap
	relist     = 15 * time.Second // how long a long table's list is used
)

// list returns the busiest topics, the busiest first.
func (b *busy) list(h *house) []busyJSON {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	since := now.Sub(b.seen)
	if since < shortest-shortest/10 && b.result != nil {
		return b.result
	}
	table := h.o.Sequencer.Table()
	if table.Len() <= shortTable || now.Sub(b.listed) > relist {
		b.topics = table.Page("", "", shortTable)
		b.listed = now
	}
	counts := make(map[*topic.Topic]uint64, len(b.topics))
	all := make([]busyJSON, 0, len(b.topics))
	for _, t := range b.topics {
		events := t.Events()
		counts[t] = events
		one := busyJSON{Topic: t.Name(), Subscribers: t.Subscribers(), Events: events}
		if then, known := b.counts[t]; known && since > 0 {
			one.PerSecond = round(float64(events-then) / since.Seconds())
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(x, y busyJSON) int {
		return cmp.Or(cmp.Compare(y.PerSecond, x.PerSecond), cmp.Compare(y.Events, x.Events), cmp.Compare(x.Topic, y.Topic))
	})
	b.counts, b.seen = counts, now
	b.result = all[:min(len(all), mostBusy)]
	return b.result
}
