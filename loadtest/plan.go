package loadtest

// The plan: what a Config means, worked out once and read by all threads.

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A plan is read-only once it is made.
//
// Lane l belongs to topic l % topics and is published to by publisher l % publishers: there are
// as many lanes as there are topics or publishers, whichever is more, and each has one of both.
type plan struct {
	cfg     Config
	run     uint32 // marks this run's events
	begin   int64  // of the first row, on the run's clock
	lanes   int
	perTop  int // lanes of a topic, at most
	prefix  string
	base    *target
	pub     *publication // nil: nothing is published
	sources []netip.Addr
	latest  bool // streams skip what a newer event of the topic has replaced
	returns bool // streams that ended are begun again
	readers int  // of all processes
}

// newPlan works a checked Config out. run 0: any number.
func newPlan(ctx context.Context, cfg Config, run uint32) (*plan, error) {
	p := &plan{cfg: cfg, run: run, begin: clock()}
	for p.run == 0 {
		p.run = rand.Uint32()
	}
	var err error
	if p.base, err = parseTarget(ctx, "URL", cfg.URL); err != nil {
		return nil, err
	}
	if cfg.PublishURL != "" {
		p.pub = &publication{method: cfg.Method, body: cfg.PublishBody}
		if p.pub.target, err = parseTarget(ctx, "--publish-url", cfg.PublishURL); err != nil {
			return nil, err
		}
		if p.pub.method == "" {
			p.pub.method = "POST"
		}
		if p.pub.body == "" && !strings.Contains(p.pub.target.path, markData) {
			p.pub.body = markData
		}
		p.pub.head = publishHead(p.pub.target, cfg.PublishH)
	} else if p.base.bare() {
		p.pub = penstockPublication(p.base, cfg.Batch, cfg.PublishH)
	}
	if p.base.bare() {
		p.base = p.base.stream(cfg.Watch)
	}
	p.latest = p.base.latest()
	if cfg.Rate == 0 {
		p.pub = nil
	}
	if p.pub == nil {
		p.cfg.Rate = 0
	}
	p.prefix = cfg.TopicName
	if p.prefix == "" {
		p.prefix = "load." + strconv.FormatUint(uint64(p.run), 36) + "."
	}
	p.lanes = max(cfg.Topics, cfg.Publishers)
	p.perTop = (p.lanes + cfg.Topics - 1) / cfg.Topics
	p.returns = cfg.returns()
	if cfg.Source != "" {
		prefix := netip.MustParsePrefix(cfg.Source).Masked()
		if prefix.Addr().Is4() != p.base.addr.Addr().Is4() {
			return nil, fmt.Errorf("--source %s: the server is at %s, an address of another kind", cfg.Source, p.base.addr.Addr())
		}
		for a := prefix.Addr(); prefix.Contains(a); a = a.Next() {
			// The first of a loopback prefix is no host's address, but 127.0.0.0 can be bound to all the same; leave it out.
			if a == prefix.Addr() && prefix.Bits() < a.BitLen() {
				continue
			}
			p.sources = append(p.sources, a)
		}
	}
	return p, nil
}

// topicName answers the name of a topic.
func (p *plan) topicName(t int) string { return p.prefix + strconv.Itoa(t) }

// topicNumber answers which topic a name is.
func (p *plan) topicNumber(name string) (int, bool) {
	s, ok := strings.CutPrefix(name, p.prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < p.cfg.Topics
}

// watched fills list with the topics of subscriber number, sorted.
func (p *plan) watched(list []uint32, number int) {
	t := p.cfg.Topics
	if p.cfg.Zipf == 0 && !p.cfg.WatchEvenly || len(list) == 1 || len(list) > t/2 {
		for i := range list {
			list[i] = uint32((number*len(list) + i) % t)
		}
	} else {
		// Busy topics are popular ones: a number drawn from a power law, until it is a new one.
		power := 1 + p.cfg.Zipf
		if p.cfg.WatchEvenly {
			power = 1
		}
		rng := rand.New(rand.NewPCG(p.cfg.Seed, uint64(number)))
		for i := range list {
			for {
				k := uint32(float64(t) * math.Pow(rng.Float64(), power))
				if !slices.Contains(list[:i], k) {
					list[i] = k
					break
				}
			}
		}
	}
	slices.Sort(list)
}

// slow says whether a subscriber reads slowly: the share is spread evenly.
func (p *plan) slow(number int) bool {
	s := p.cfg.SlowShare
	return s > 0 && math.Floor(float64(number+1)*s) > math.Floor(float64(number)*s)
}

// checks says whether a subscriber's stream is read event by event: the share is spread evenly,
// and the first one's is.
func (p *plan) checks(number int) bool {
	s := p.cfg.CheckShare
	return s == 0 || math.Ceil(float64(number+1)*s) > math.Ceil(float64(number)*s)
}

// stays is how many subscribers a storm leaves alone, the last ones, where it is a part of all; else 0.
func (p *plan) stays() int {
	s := p.cfg.StormShare
	if s == 0 {
		return 0
	}
	n := p.cfg.Subscribers
	return n - int(math.Round(float64(n)*s))
}

// leaves says whether a subscriber leaves in a storm.
func (p *plan) leaves(number int) bool { return number < p.cfg.Subscribers-p.stays() }

// timed says whether a subscriber's latency counts: where some stay in a storm, that of those.
func (p *plan) timed(number int) bool { return p.stays() == 0 || !p.leaves(number) }

// A span is the subscribers of a reader.
type span struct{ first, count int }

// spans are the readers of so many subscribers from a first one on, on so many threads. Those who stay
// in a storm have one more to themselves: on a thread that resets and connects thousands they would
// be read late, and the load test would have measured itself.
func (p *plan) spans(first, count, threads int) []span {
	var all []span
	end := first + count
	stay := max(first, min(end, p.cfg.Subscribers-p.stays()))
	threads = max(1, min(threads, stay-first))
	for i := range threads {
		if n := (stay - first) / (threads - i); n > 0 {
			all = append(all, span{first, n})
			first += n
		}
	}
	if stay < end {
		all = append(all, span{stay, end - stay})
	}
	return all
}

// source answers the address that a subscriber connects from; not valid: any.
func (p *plan) source(number int) netip.Addr {
	if len(p.sources) == 0 {
		return netip.Addr{}
	}
	return p.sources[number%len(p.sources)]
}

// second answers which row a moment belongs to.
func (p *plan) second(now int64) int { return int((now - p.begin) / int64(time.Second)) }
