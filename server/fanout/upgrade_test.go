package fanout

// Upgrades in the model: at any moment the sequencer and its shards go on in another process, or
// are frozen and thawed because that has failed. No stream may notice.

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/handover"
	"penstock/server/topic"
)

// upgrade moves everything to new shards on a new sequencer, or thaws what it has frozen.
func (w *world) upgrade() {
	for _, p := range w.posts {
		if p.drained {
			return
		}
		clear(p.fail)
	}
	fails, mixed := yes(w, "fails"), yes(w, "mixed")
	w.say("upgrade fails=%v mixed=%v", fails, mixed)
	if err := w.seq.Freeze(time.Second); err != nil {
		w.fail("freeze: %v", err)
	}
	answer := make(chan shardState, 1)
	st := &State{}
	for _, p := range w.posts {
		for !p.sh.inbox.empty() {
			w.pass(p) // a joiner is judged by what it is when it is watched
		}
		p.sh.inbox.command(command{kind: commandFreeze, frozen: answer})
		for range 1000 {
			if !p.sh.frost.frozen {
				w.pass(p)
			}
		}
		st.shards = append(st.shards, <-answer)
		w.pass(p) // nothing happens
	}
	for _, s := range st.shards {
		for _, a := range s.audiences {
			if key := string(a.subscription.appendKey(nil)); !slices.ContainsFunc(w.posts, func(p *post) bool { return p.sh.audiences[key] != nil }) {
				w.fail("an audience is handed over as %q, which it is not", key)
			}
		}
	}
	if fails {
		for _, p := range w.posts {
			p.sh.inbox.command(command{kind: commandThaw})
			w.pass(p)
		}
		w.seq.Thaw()
		return
	}

	past, streams := new(topic.State), new(State)
	through(w.t, w.seq.Export(), past)
	through(w.t, st, streams)
	o := w.options
	o.Past, o.Ring = past, copyOf(w.t, w.seq.Ring())
	seq, err := topic.New(o)
	if err != nil {
		w.fail("%v", err)
	}
	var sockets []int32
	for i := range st.shards {
		for j := range st.shards[i].streams {
			sockets = append(sockets, st.shards[i].streams[j].fd)
		}
	}
	if mixed {
		streams.shards = append(streams.shards, shardState{}) // not as many as there were
	}
	old := w.posts
	w.seq, w.posts = seq, nil
	w.shards.memory = newLagMemory(w.shards.LagMemory, w.shards.Shards)
	for i := range 2 {
		p := w.newPost()
		p.now_, p.over = old[i].now_, old[i].over
		p.nextFD = old[i].nextFD
		w.posts = append(w.posts, p)
	}
	if err := seq.Load(past); err != nil {
		w.fail("%v", err)
	}
	rooms := &Rooms{Each: []int{len(sockets), len(sockets)}, Abreast: 1}
	if mixed {
		rooms.Each[0] = rapid.IntRange(0, len(sockets)).Draw(w.t, "room")
	}
	portions, err := streams.Portions(rooms)
	if err != nil {
		w.fail("%v", err)
	}
	for i, shares := range streams.split(portions, sockets) {
		p := w.posts[i]
		for _, s := range shares {
			for _, fd := range s.sockets {
				sock := old[0].sockets[fd]
				if sock == nil {
					sock = old[1].sockets[fd]
				}
				p.sockets[fd] = sock
			}
		}
		p.sh.frost.frozen = true
		p.sh.adopt(shares)
		if err := p.sh.broken(); err != nil {
			w.fail("adopted: %v", err)
		}
	}
	for _, c := range w.streams {
		for i, p := range w.posts {
			if p.sockets[c.sock.fd] != nil {
				c.on = p
			} else if c.on == old[i] {
				p.gone = append(p.gone, c.sock)
			}
		}
		if i := slices.Index(old, c.on); i >= 0 {
			c.on = w.posts[i] // it has ended
		}
	}
	for _, p := range old {
		for fd := range p.sockets {
			if w.posts[0].sockets[fd] != nil || w.posts[1].sockets[fd] != nil {
				p.sockets[fd] = &socket{fd: fd} // another descriptor of the same socket
			}
		}
		p.sh.letGo()
		if err := p.sh.broken(); err != nil {
			w.fail("let go: %v", err)
		}
		if n := p.sh.stats.streams.Load(); n != 0 {
			w.fail("%d streams are left where they were let go", n)
		}
	}
	for _, p := range w.posts {
		for _, s := range p.gone {
			p.sockets[s.fd] = s
		}
		p.sh.inbox.command(command{kind: commandThaw})
	}
	seq.Settle()
	for _, p := range w.posts {
		w.pass(p)
	}
}

type coded interface{ Code(*handover.Coder) }

type fataler interface {
	Fatal(args ...any)
	Helper()
}

// through codes what one process hands over, and decodes it as the other one does.
func through(t fataler, from, to coded) {
	t.Helper()
	var wire bytes.Buffer
	out := handover.NewWriter(&wire)
	from.Code(out)
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	in := handover.NewReader(&wire)
	if to.Code(in); in.Err() != nil {
		t.Fatal(in.Err())
	}
	if wire.Len() > 0 {
		t.Fatal("not all was read")
	}
}

func copyOf(t fataler, r *ring.Ring) *ring.Copy {
	t.Helper()
	c, err := ring.NewCopy(r.SegmentSize())
	if err != nil {
		t.Fatal(err)
	}
	for at, b := r.Piece(0); len(b) > 0; at, b = r.Piece(at + ring.Position(len(b))) {
		if err := c.Take(at, len(b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Whoever gives a stream's state a new field decides whether it is handed over: this is the list.
func TestEveryFieldIsHandedOverOrMadeAnew(t *testing.T) {
	for _, tt := range []struct {
		of           any
		handed, anew string
	}{
		{subscriber{}, "audience lag told sent state onLag ticket", "fd slot at armed owed"},
		{lag{}, "cursor rest opening past known reason topics fellUntil fell unknown skim bare broken was", "at blocked queued parked ending looks unsent why"},
		{past{}, "until untilID after rewind snapshot next", ""},
		{known{}, "floors forgotten until", ""},
		{rest{}, "own held first end after size sent", ""},
		{held{}, "bytes", "users"},
		{audience{}, "topics members pace wild packed lastID flushed traits form", "key places batch"},
		{pace{}, "latest interval stirred cursor beforeID changed due last", "phase marks at"},
		{wild{}, "patterns held", "round mark"},
		{packed{}, "places", "shared beat before owing"},
		{Subscription{}, "Topics Patterns Resume LastID BadID Rewound Start Past Rewind Snapshot OnLag Hello Latest Interval HTTP10 Coding Form HeartbeatEvent Origin", "Ticket"},
		{Rewind{}, "All Count Since", ""},
	} {
		var fields []string
		for f := range reflect.TypeOf(tt.of).Fields() {
			fields = append(fields, f.Name)
		}
		want := strings.Fields(tt.handed + " " + tt.anew)
		slices.Sort(fields)
		slices.Sort(want)
		if !slices.Equal(fields, want) {
			t.Errorf("%T has the fields %q; %q are handed over or made anew (freeze.go, state.go, adopt.go)", tt.of, fields, want)
		}
	}
}

// A Subscription travels whole.
func TestSubscriptionTravelsWhole(t *testing.T) {
	p, _ := topic.ParsePattern("a.*")
	s := Subscription{
		Topics: []string{"a", "b.c"}, Patterns: []topic.Pattern{p}, Resume: true, LastID: 1 << 60, BadID: "x\"\n",
		Rewound: true, Start: 1 << 59, Past: []byte("data: x\n\n"), Rewind: Rewind{All: true, Count: 3, Since: time.Hour}, Snapshot: true, OnLag: OnLagClose, Hello: true, Latest: true,
		Interval: time.Second, HTTP10: true, Coding: encode.Gzip, Form: encode.FormEnvelope, HeartbeatEvent: true, Origin: "https://a.b",
	}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if v.Field(i).IsZero() && v.Type().Field(i).Name != "Ticket" {
			t.Errorf("%s is not tried", v.Type().Field(i).Name)
		}
	}
	var wire bytes.Buffer
	c := handover.NewWriter(&wire)
	s.code(c)
	c.Flush()
	var got Subscription
	if r := handover.NewReader(&wire); true {
		got.code(r)
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	if !reflect.DeepEqual(got, s) {
		t.Errorf("%+v came as %+v", s, got)
	}
	_ = fmt.Sprint
}
