package main

// What is promised, row by row: the work, who does it beside Penstock, and what is held against what.

import (
	"math"
	"strings"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

// A figure is what a row reads off a report.
type figure struct {
	name string
	unit string
	of   func(*loadtest.Report) float64
}

// A promise compares Penstock's median with a bound: that of another contender times a factor, or an
// absolute one.
type promise struct {
	figure  string
	who     string // the contender of ours it is about
	least   bool   // at least, not at most
	against string // a contender; "": bound is absolute
	bound   float64
	aim     bool // an aim, and no promise
}

type row struct {
	name, title string
	contenders  []contender
	config      func(*loadtest.Config)
	figures     []figure
	promises    []promise
}

// Figures.
var (
	perStream   = figure{"memory a stream", "B", func(r *loadtest.Report) float64 { return r.Server.PerStream }}
	perSetup    = figure{"CPU to set one up", "us", func(r *loadtest.Report) float64 { return r.Server.PerSetup }}
	perDelivery = figure{"CPU a delivery", "us", func(r *loadtest.Report) float64 { return r.Server.PerDelivery }}
	perPublish  = figure{"CPU an event", "us", func(r *loadtest.Report) float64 { return r.Server.PerPublish }}
	delivered   = figure{"deliveries a second", "/s", func(r *loadtest.Report) float64 { return r.DeliveryRate }}
	inTime      = figure{"of what was due", "%", func(r *loadtest.Report) float64 {
		due := float64(r.Publish.Published+r.Publish.Refused+r.Publish.Unknown+r.Publish.Unsent) * float64(r.Most)
		due *= float64(r.Config.Watch) / float64(r.Config.Topics) // topics are watched evenly
		return 100 * float64(r.Streams.Events) / due
	}}
	lost      = figure{"lost", "", func(r *loadtest.Report) float64 { return float64(r.Streams.Lost + r.Streams.Announced) }}
	p50       = figure{"p50", "ms", func(r *loadtest.Report) float64 { return float64(r.Latency.P50) / 1000 }}
	p99       = figure{"p99", "ms", func(r *loadtest.Report) float64 { return float64(r.Latency.P99) / 1000 }}
	sends     = figure{"reads by the streams", "", func(r *loadtest.Report) float64 { return float64(r.Streams.Reads) }}
	published = figure{"events a second", "/s", func(r *loadtest.Report) float64 { return r.PublishRate }}
	answered  = figure{"answered p50", "ms", func(r *loadtest.Report) float64 { return float64(r.Ack.P50) / 1000 }}
	memory    = figure{"memory at most", "MB", func(r *loadtest.Report) float64 { return float64(r.Server.MemoryMost) / 1e6 }}
	perBeat   = figure{"CPU a heartbeat", "us", func(r *loadtest.Report) float64 {
		// Those of the time of connecting are few: the measured part follows at once.
		if r.Streams.Heartbeat <= r.Streams.Began {
			return math.NaN()
		}
		return r.Server.CPUMeasured * 1e6 / float64(r.Streams.Heartbeat-r.Streams.Began)
	}}
)

// cores is all that a server cost, whatever it delivered.
var cores = figure{"cores", "", func(r *loadtest.Report) float64 { return r.Shares.Server }}

// A send is a read where the streams keep up.
var (
	perSend  = figure{"CPU a send", "us", func(r *loadtest.Report) float64 { return r.Server.CPUMeasured * 1e6 / float64(r.Streams.Reads) }}
	together = figure{"events a send", "", func(r *loadtest.Report) float64 { return r.PerRead }}
)

// Coming back.
var (
	resumed   = figure{"all are back after", "ms", func(r *loadtest.Report) float64 { return float64(r.Resume.Max) / 1000 }}
	resumeP50 = figure{"back p50", "ms", func(r *loadtest.Report) float64 { return float64(r.Resume.P50) / 1000 }}
	// Of whole seconds, so that nothing before dilutes them. The storm is after a third of the time.
	liveP99 = figure{"worst second's p99 from then on", "ms", func(r *loadtest.Report) float64 {
		back := int(r.Connecting + (r.Config.Duration/3 + r.Config.Away).Seconds())
		worst := int64(0)
		for _, s := range r.Rows {
			if s.At >= back {
				worst = max(worst, s.P99)
			}
		}
		return float64(worst) / 1000
	}}
)

func peer(name string) contender {
	p, err := peers.Find(name)
	if err != nil {
		panic("bench: " + err.Error())
	}
	return contender{peer: p}
}

// longWay makes the load test ask with a head of over 4 KiB, which no short way takes.
func longWay(c *loadtest.Config) {
	c.SubscribeH = append(c.SubscribeH, "X-Long: "+strings.Repeat("x", 4<<10))
}

// asks adds a query to the streams of a Penstock.
func asks(query string) func(*loadtest.Config) {
	return func(c *loadtest.Config) { c.URL += "?" + query }
}

// rows are the promises, in README's order.
func rows() []row {
	penstock := peer("penstock").peer
	long := peer("penstock")
	long.name, long.set = "penstock, long way", longWay
	return []row{
		{
			name: "streams", title: "15,000 idle streams of one topic",
			contenders: []contender{peer("floor"), peer("penstock"), long, peer("nchan"), peer("net/http")},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Rate, c.ConnectRate, c.Duration = "idle", 15_000, 0, 1_000_000, 2*time.Second
			},
			figures: []figure{perStream, perSetup},
			promises: []promise{
				{figure: perStream.name, who: "penstock", bound: 400},
				{figure: perStream.name, who: "penstock", bound: 200, aim: true},
				{figure: perStream.name, who: "penstock, long way", bound: 1024},
				{figure: perSetup.name, who: "penstock", against: "floor", bound: 1.25},
				{figure: perSetup.name, who: "penstock, long way", against: "floor", bound: 2},
			},
		},
		{
			name: "wide", title: "10,000 subscribers, 10 events/s of 150 B",
			contenders: []contender{peer("floor"), peer("penstock"), peer("nchan"), peer("net/http")},
			config:     func(c *loadtest.Config) { c.Subscribers, c.Rate = 10_000, 10 },
			figures:    []figure{perDelivery, p50, p99, lost},
			promises: []promise{
				{figure: perDelivery.name, who: "penstock", against: "floor", bound: 1.15},
				{figure: p99.name, who: "penstock", against: "floor", bound: 1.15},
				{figure: lost.name, who: "penstock", bound: 0},
			},
		},
		{
			name: "fast", title: "1,000 subscribers, 1,000 events/s of 150 B",
			contenders: []contender{peer("floor-10ms"), peer("penstock"), peer("nchan-2"), peer("fasthttp"), peer("net/http")},
			config:     func(c *loadtest.Config) { c.Subscribers, c.Rate = 1_000, 1_000 },
			figures:    []figure{perDelivery, inTime, p50, p99, sends, lost},
			promises: []promise{
				{figure: inTime.name, who: "penstock", least: true, bound: 99.9},
				{figure: lost.name, who: "penstock", bound: 0},
				{figure: sends.name, who: "penstock", against: "floor-10ms", bound: 1.05},
				{figure: perDelivery.name, who: "penstock", against: "floor-10ms", bound: 1.6},
				{figure: p99.name, who: "penstock", against: "floor-10ms", bound: 2.5},
			},
		},
		{
			name: "most", title: "5,000 subscribers, publishing as fast as acknowledged (8 connections); one stream in twenty is read event by event",
			contenders: []contender{peer("penstock"), peer("nchan-2"), peer("fasthttp")},
			config: func(c *loadtest.Config) {
				c.Subscribers, c.Rate, c.Publishers = 5_000, loadtest.AsAcknowledged, 8
				// One that reads every event of every stream takes in less than a shard sends: what does not fit
				// into its core waits in its sockets' receive buffers, and is all that would be measured.
				c.CheckShare = 0.05
			},
			figures: []figure{delivered, p99, lost, perDelivery},
			promises: []promise{
				{figure: delivered.name, who: "penstock", least: true, bound: 5e6},
				{figure: p99.name, who: "penstock", bound: 300},
				{figure: lost.name, who: "penstock", bound: 0},
			},
		},
		{
			name: "topics", title: "10,000 subscribers over 1,000 topics, 2,000 events/s",
			contenders: []contender{peer("nchan"), peer("penstock"), peer("net/http")},
			config: func(c *loadtest.Config) {
				c.Subscribers, c.Topics, c.Rate, c.Publishers = 10_000, 1_000, 2_000, 4
			},
			figures: []figure{perDelivery, p50, p99, answered, lost},
			promises: []promise{
				{figure: perDelivery.name, who: "penstock", against: "nchan", bound: 1},
				{figure: lost.name, who: "penstock", bound: 0},
			},
		},
		{
			name: "publish", title: "publishing alone, 8 connections, one event a request",
			contenders: []contender{peer("bare-fasthttp-netpoll"), peer("penstock"), peer("nchan"), peer("bare-fasthttp"), peer("net/http")},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Topics, c.Rate, c.Publishers = "publish", 0, 8, loadtest.AsAcknowledged, 8
				c.Duration = min(c.Duration, 6*time.Second)
			},
			figures: []figure{perPublish, published, answered},
			promises: []promise{
				{figure: perPublish.name, who: "penstock", against: "bare-fasthttp-netpoll", bound: 1.2},
				{figure: perPublish.name, who: "penstock", against: "nchan", bound: 1, aim: true},
			},
		},
		{
			name: "ndjson", title: "publishing NDJSON, one connection, 1,000 lines a request",
			contenders: []contender{peer("penstock")},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Rate, c.Batch, c.Size = "publish", 0, loadtest.AsAcknowledged, 1_000, 100
				c.Duration = min(c.Duration, 5*time.Second)
			},
			figures:  []figure{published, perPublish, memory},
			promises: []promise{{figure: published.name, who: "penstock", least: true, bound: 1.5e6}},
		},
		{
			name: "lone", title: "one subscriber, 20 events/s: a publish reaches an idle server's subscriber",
			contenders: []contender{peer("floor"), peer("penstock"), peer("nchan"), peer("net/http")},
			config: func(c *loadtest.Config) {
				c.Subscribers, c.Rate, c.Duration = 1, 20, min(c.Duration, 5*time.Second)
			},
			figures:  []figure{p50, p99, perPublish},
			promises: []promise{{figure: p50.name, who: "penstock", bound: 1}},
		},
		{
			name: "beats", title: "10,000 idle streams, a heartbeat a second",
			contenders: []contender{peer("floor-heartbeat"), {name: "penstock", peer: peers.With("penstock", "--heartbeat", "1s")}},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Rate = "idle", 10_000, 0
			},
			figures:  []figure{perBeat},
			promises: []promise{{figure: perBeat.name, who: "penstock", against: "floor-heartbeat", bound: 1.3}},
		},
		{
			name: "watchlists", title: "10,000 subscribers, each with 50 of 5,000 topics: 300,000 deliveries/s",
			contenders: []contender{peer("floor-10ms"), peer("penstock"), {name: "penstock, latest", peer: penstock, set: asks("mode=latest&interval=250ms")}},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Topics, c.Watch, c.WatchEvenly = "watchlists", 10_000, 5_000, 50, true
				c.Rate, c.Publishers, c.Zipf = 3_000, 64, 1
			},
			figures: []figure{perDelivery, perPublish, together, perSend, inTime, cores, p50, p99, lost},
			promises: []promise{
				{figure: perDelivery.name, who: "penstock", against: "floor-10ms", bound: 1.5},
				{figure: perSend.name, who: "penstock", against: "floor-10ms", bound: 1.5, aim: true},
				// Of an event and not of a second: a full machine slows publishers of mode=all.
				{figure: perPublish.name, who: "penstock, latest", against: "penstock", bound: 0.2},
				{figure: lost.name, who: "penstock", bound: 0},
				{figure: lost.name, who: "penstock, latest", bound: 0},
			},
		},
		{
			name: "common", title: "10,000 subscribers, 20 events/s: one common watchlist of 50, or one topic",
			contenders: []contender{
				{name: "penstock, one topic", peer: penstock, set: func(c *loadtest.Config) { c.Topics, c.Watch = 1, 1 }},
				{name: "penstock, one watchlist", peer: penstock},
			},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Topics, c.Watch, c.Rate = "watchlists", 10_000, 50, 50, 20
			},
			figures: []figure{perDelivery, p50, p99, lost},
			promises: []promise{
				{figure: perDelivery.name, who: "penstock, one watchlist", against: "penstock, one topic", bound: 1.2},
				{figure: lost.name, who: "penstock, one watchlist", bound: 0},
			},
		},
		{
			name: "resume", title: "10,000 of 11,000 subscribers of ten of 1,000 topics, 1,000 events/s, come back after 10 s",
			contenders: []contender{
				peer("floor-resume"), peer("penstock"),
				{name: "penstock, nobody leaves", peer: penstock, set: func(c *loadtest.Config) { c.Storm = false }},
			},
			config: func(c *loadtest.Config) {
				c.Scenario, c.Subscribers, c.Topics, c.Watch, c.WatchEvenly = "storm", 11_000, 1_000, 10, true
				c.Rate, c.Publishers, c.Storm, c.StormShare, c.Away = 1_000, 2, true, 10.0/11, 10*time.Second
				c.Duration = 21 * time.Second // they leave after 7 s and are back after 17
			},
			figures: []figure{resumed, resumeP50, liveP99, lost},
			promises: []promise{
				{figure: resumed.name, who: "penstock", against: "floor-resume", bound: 3},
				{figure: liveP99.name, who: "penstock", against: "penstock, nobody leaves", bound: 2},
				{figure: lost.name, who: "penstock", bound: 0},
			},
		},
		{
			name: "ring", title: "a full ring (256 MiB) and ten subscribers: memory",
			contenders: []contender{peer("penstock")},
			config: func(c *loadtest.Config) {
				c.Subscribers, c.Rate, c.Batch, c.Size = 10, loadtest.AsAcknowledged, 200, 2_000
				c.Duration = max(c.Duration, 6*time.Second) // until it is full
			},
			figures:  []figure{memory, delivered, lost},
			promises: []promise{{figure: memory.name, who: "penstock", bound: (1.3*256 + 50) * (1 << 20) / 1e6}},
		},
	}
}

// base is what all rows begin with.
func base(d time.Duration) loadtest.Config {
	c, err := loadtest.Scenario("broadcast")
	if err != nil {
		panic("bench: " + err.Error())
	}
	c.Duration, c.ConnectRate = d, 10_000
	return c
}
