package fanout

// What happens in the model: publishers, clients, the clock, and what the ground does to sockets. Each
// act is drawn, and told to the history.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgregory.net/rapid"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// publish publishes events, and notes what the ring has got.
func (w *world) publish() {
	name := draw(w, "topic", modelTopics...)
	n, size := draw(w, "events", 1, 1, 2, 5, 20, 60), draw(w, "size", 0, 300, 3000, 15000)
	typ := draw(w, "type", "", "", "t")
	insist := topic.IsOwn(name) || yes(w, "insist")
	w.say("publish %s x%d size=%d type=%q insist=%v", name, n, size, typ, insist)
	for range n {
		data := fmt.Sprintf("#%d%s\n.", len(w.records), strings.Repeat("x", size))
		p := topic.Publication{Topic: name, Event: encode.Event{Type: typ, Data: []byte(data)}}
		var id uint64
		var err error
		if insist {
			id, err = w.seq.PublishOwn(&p) // waits for no shard
		} else {
			id, err = w.seq.Publish(&p)
		}
		if err == topic.ErrOverload || err == topic.ErrTooManyTopics {
			w.say("  %s...", err.Error()[:20])
			return
		}
		if err != nil {
			w.fail("publish: %v", err)
		}
		w.note(&record{id, name, ring.Event, typ, data})
	}
}

// batch publishes events of several topics with one call.
func (w *world) batch() {
	n, size := draw(w, "events", 2, 5, 20, 40), draw(w, "size", 0, 300, 1200) // at most one slice: it waits for nobody
	ps, ids := make([]topic.Publication, n), make([]uint64, n)
	for i := range ps {
		ps[i].Topic = draw(w, "topic", modelTopics[:5]...)
		ps[i].Event.Data = []byte(fmt.Sprintf("#%d%s", len(w.records)+i, strings.Repeat("y", size)))
	}
	_, err := w.seq.PublishBatch(ps, ids)
	w.say("publish a batch of %d events, size=%d: %v", n, size, err)
	if err != nil {
		return
	}
	for i := range ps {
		w.say("  %s %d", ps[i].Topic, ids[i])
		w.note(&record{ids[i], ps[i].Topic, ring.Event, "", string(ps[i].Event.Data)})
	}
}

func (w *world) note(e *record) {
	if n := len(w.records); n > 0 && e.id <= w.records[n-1].id {
		w.fail("%s has id %d after %d", e.topic, e.id, w.records[n-1].id)
	}

	w.records = append(w.records, e)
	w.byID[e.id] = e
	w.topics[e.topic] = append(w.topics[e.topic], e)
}

// end ends a topic.
func (w *world) end() {
	name := draw(w, "topic", modelTopics[:5]...)
	id, err := w.seq.End(name)
	w.say("end %s: %d %v", name, id, err)
	if err == nil && w.byID[id] == nil {
		w.note(&record{id, name, ring.End, "end", fmt.Sprintf(`{"topic":%q}`, name)})
	}
}

// between are the records after an id, up to another.
func (w *world) between(after, until uint64) []*record {
	from, _ := slices.BinarySearchFunc(w.records, after+1, func(e *record, id uint64) int { return int(e.id) - int(id) })
	to := from
	for to < len(w.records) && w.records[to].id <= until {
		to++
	}
	return w.records[from:to]
}

// gone is the newest id of a topic that nobody can get any more.
func (w *world) gone(name string) uint64 {
	all := w.topics[name]
	oldest := len(all)
	if t, ok := w.seq.Table().Lookup(name); ok {
		if found, _, _ := w.seq.Gather(nil, []*topic.Topic{t}, 0, 0, w.seq.Ring().Head(), 1); len(found) > 0 {
			oldest = slices.Index(all, w.byID[found[0].Entry.ID()])
		}
	}
	if oldest == 0 {
		return 0
	}
	return all[oldest-1].id
}

// anID is an id that a client may come with.
func (w *world) anID() uint64 {
	start := w.seq.StartID()
	some := []uint64{start, start - 5, w.seq.NewestID(), w.seq.NewestID() + 1000}
	if n := len(w.records); n > 0 {
		e := w.records[rapid.IntRange(0, n-1).Draw(w.t, "record")]
		some = append([]uint64{e.id, e.id - 1, e.id + 1}, some...)
	}
	return draw(w, "id", some...)
}

// subscribe begins a stream.
func (w *world) subscribe() {
	var s Subscription
	for range draw(w, "names", 1, 1, 2, 3) {
		if yes(w, "a pattern") {
			p, _ := topic.ParsePattern(draw(w, "pattern", modelPatterns...))
			s.Patterns = append(s.Patterns, p)
		} else {
			s.Topics = append(s.Topics, draw(w, "topic", modelTopics...))
		}
	}
	s.Latest = yes(w, "latest")
	if yes(w, "paced") {
		s.Interval = draw(w, "interval", 250*time.Millisecond, time.Second, 20*time.Second)
	}
	s.HTTP10, s.HeartbeatEvent = yes(w, "http10"), yes(w, "heartbeat events")
	s.Coding = draw(w, "coding", encode.Identity, encode.Gzip)
	s.Form = draw(w, "form", encode.FormType, encode.FormType, encode.FormTopic, encode.FormEnvelope)
	if len(w.streams) > 0 && yes(w, "as another") {
		o := rapid.SampledFrom(w.streams).Draw(w.t, "stream").sub // an audience of several
		s = Subscription{Topics: slices.Clone(o.Topics), Patterns: slices.Clone(o.Patterns), Latest: o.Latest, Interval: o.Interval,
			HTTP10: o.HTTP10, Coding: o.Coding, HeartbeatEvent: o.HeartbeatEvent, Form: o.Form}
	}
	switch draw(w, "from", "now", "after", "rewind", "bad") {
	case "after":
		s.Resume, s.LastID = true, w.anID()
	case "rewind":
		s.Rewind = draw(w, "rewind", Rewind{All: true}, Rewind{Count: 1}, Rewind{Count: 3}, Rewind{Count: 40}, Rewind{Since: 50 * time.Millisecond}, Rewind{Since: time.Minute})
	case "bad":
		s.BadID = "x\"y"
	}
	s.OnLag = draw(w, "onlag", OnLagGap, OnLagGap, OnLagLatest, OnLagClose)
	s.Snapshot, s.Hello = yes(w, "snapshot"), yes(w, "hello")
	w.join(s)
}

// join leaves a subscription at one of the shards.
func (w *world) join(s Subscription) {
	slices.Sort(s.Topics)
	s.Topics = slices.Compact(s.Topics)
	slices.SortFunc(s.Patterns, func(a, b topic.Pattern) int { return strings.Compare(a.String(), b.String()) })
	s.Patterns = slices.Compact(s.Patterns)
	on := rapid.IntRange(0, 1).Draw(w.t, "shard")
	p := w.posts[on]
	c := &stream{w: w, name: "c" + strconv.Itoa(len(w.streams)), on: p, sub: s, sock: p.open(), drain: p.drained, got: map[uint64]bool{}}
	c.sock.room = draw(w, "room", -1, -1, 0, 100, 1000)
	own := s // the shard's, which it will use again
	own.Topics, own.Patterns = slices.Clone(s.Topics), slices.Clone(s.Patterns)
	if !p.sh.inbox.join(joiner{c.sock.fd, &own}) {
		return
	}
	p.sh.stats.streams.Add(1)
	w.streams = append(w.streams, c)
	w.say("subscribe %s on %d %s room=%d: %s", c.name, on, strings.Join(s.names(), ","), c.sock.room, s.text())
}

func (s *Subscription) text() string {
	var b strings.Builder
	if s.Resume {
		fmt.Fprintf(&b, " after=%d", s.LastID)
	}
	if s.BadID != "" {
		fmt.Fprintf(&b, " bad=%q", s.BadID)
	}
	if s.Rewind != (Rewind{}) {
		fmt.Fprintf(&b, " rewind=%+v", s.Rewind)
	}
	for _, o := range []struct {
		on   bool
		text string
	}{{s.Latest, "latest"}, {s.Snapshot, "snapshot"}, {s.HTTP10, "http10"}, {s.Coding == encode.Gzip, "gzip"}, {s.Hello, "hello"}, {s.HeartbeatEvent, "events"}} {
		if o.on {
			b.WriteString(" " + o.text)
		}
	}
	fmt.Fprintf(&b, " interval=%s onlag=%s form=%s", s.Interval, []string{"gap", "latest", "close"}[s.OnLag], []string{"type", "topic", "envelope"}[s.Form])
	return b.String()
}

// advance moves the clock.
func (w *world) advance(d time.Duration) { w.time = w.time.Add(d) }

// anyStream is a stream that has not ended; nil if there is none.
func (w *world) anyStream() *stream {
	open := slices.DeleteFunc(slices.Clone(w.streams), func(c *stream) bool { return c.hung || c.sock.closed })
	if len(open) == 0 {
		return nil
	}
	return rapid.SampledFrom(open).Draw(w.t, "stream")
}

// hangUp is the client closing.
func (w *world) hangUp(c *stream) {
	if c.sock.watched {
		c.hung = true
		c.on.hangUp(c.sock)
	}
}

// cut loses a client behind a random byte of its stream, and it comes back with what
// it knows.
func (w *world) cut(c *stream) {
	n := rapid.IntRange(0, len(c.sock.wire)).Draw(w.t, "bytes")
	s := c.sub
	if id, ok := lastID(c.sock.wire[:n], &c.sub); ok {
		s.Resume, s.LastID, s.BadID = true, id, ""
	}
	w.say("cut %s behind byte %d", c.name, n)
	w.hangUp(c)
	w.join(s)
}

// lastID is what a client knows that has received the beginning of a stream.
func lastID(wire []byte, s *Subscription) (id uint64, ok bool) {
	head, rest, _ := strings.Cut(string(wire), "\r\n\r\n")
	_ = head
	var d encode.Decoder
	var chunks encode.Dechunker
	var body []byte
	for wire = []byte(rest); len(wire) > 0; {
		payload := wire
		if wire = nil; !s.HTTP10 {
			payload, wire, _ = chunks.Next(payload)
		}
		body = append(body, payload...)
		if len(payload) == 0 {
			break
		}
	}
	if s.Coding == encode.Gzip {
		body, _ = new(inflater).next(body)
	}
	_ = d.Decode(body, func(*encode.Decoded) {})
	id, err := encode.ParseID(string(d.LastID()))
	return id, err == nil
}

// act does something.
func (w *world) act() {
	switch what := rapid.IntRange(0, 99).Draw(w.t, "act"); {
	case what < 2:
		w.upgrade()
	case what < 24:
		i := rapid.IntRange(0, 1).Draw(w.t, "shard")
		w.say("pass %d", i)
		w.pass(w.posts[i])
	case what < 46:
		w.publish()
	case what < 50:
		w.batch()
	case what < 65:
		w.subscribe()
	case what < 77:
		if c := w.anyStream(); c != nil {
			room := draw(w, "room", -1, 0, 1, 50, 500, 5000)
			w.say("room %s %d", c.name, room)
			c.on.take(c.sock, room)
		}
	case what < 83:
		d := draw(w, "by", time.Millisecond, 50*time.Millisecond, 250*time.Millisecond, time.Second, 8*time.Second, 20*time.Second)
		w.say("advance %s", d)
		w.advance(d)
	case what < 88:
		if c := w.anyStream(); c != nil {
			w.cut(c)
		}
	case what < 90:
		if c := w.anyStream(); c != nil {
			w.say("hang up %s", c.name)
			w.hangUp(c)
		}
	case what < 94:
		w.end()
	case what < 98:
		w.fault()
	case what < 99:
		i := rapid.IntRange(0, 1).Draw(w.t, "shard")
		if p := w.posts[i]; !p.drained && yes(w, "drain") {
			w.say("drain %d", i)
			p.drained = true
			p.sh.inbox.command(command{kind: commandDrain, spread: draw(w, "spread", 0, time.Second)})
			for _, c := range w.streams {
				c.drain = c.drain || c.on == p
			}
		}
	default:
		w.say("settle")
		w.stir(w.posts[0])
		w.stir(w.posts[1])
	}
}

// The errors that a call may have.
var modelErrors = map[string][]syscall.Errno{
	"send":     {syscall.EPIPE, syscall.ECONNRESET, syscall.ENOBUFS, syscall.ENOMEM},
	"watch":    {syscall.ENOSPC, syscall.ENOMEM},
	"writable": {syscall.ENOMEM},
}

// fault has the ground fail, or heals it.
func (w *world) fault() {
	p := rapid.SampledFrom(w.posts).Draw(w.t, "shard")
	on := slices.Index(w.posts, p)
	switch draw(w, "fault", "none", "call", "break", "spurious", "interrupt", "jump") {
	case "none":
		clear(p.fail)
		w.say("nothing fails on %d", on)
	case "call":
		call := draw(w, "call", "send", "watch", "writable")
		p.fail[call] = draw(w, "error", modelErrors[call]...)
		w.say("%s fails on %d: %v", call, on, p.fail[call])
	case "break": // within a frame if a part of one is owed
		if c := w.anyStream(); c != nil && c.sock.watched {
			c.hung, c.sock.broken = true, true
			if tell := draw(w, "told", "hang-up", "writable", "nothing"); tell != "nothing" {
				c.on.pending = append(c.on.pending, event{slot: c.sock.slot, gone: tell == "hang-up", writable: true})
			}
			w.say("%s is reset, %d bytes owed", c.name, c.owed)
		}
	case "spurious":
		if c := w.anyStream(); c != nil && c.sock.watched && c.sock.out {
			w.say("%s is said to take bytes", c.name)
			c.on.pending = append(c.on.pending, event{slot: c.sock.slot, writable: true})
		}
	case "interrupt":
		w.say("the next wait of %d is interrupted", on)
		p.deaf = true
	case "jump":
		w.skew = draw(w, "skew", 0, -time.Second, time.Second, -time.Hour, time.Hour)
		w.say("the publishers' clock jumps to %s", w.skew)
	}
}
