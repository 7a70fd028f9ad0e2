package server_test

// Watchlists end to end, over real sockets: patterns, conflation, snapshots without a seam, rewind,
// connections cut at every byte, and each way to ask.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"penstock/server/servertest"
)

// A mark is what the tests here publish: the topic, and the event's number in it from 1.
type mark struct {
	topic  string
	number int
}

func (m mark) String() string { return fmt.Sprintf("%s#%d", m.topic, m.number) }

func parseMark(t *testing.T, data string) mark {
	t.Helper()
	topic, number, ok := strings.Cut(data, "#")
	m := mark{topic: topic}
	if _, err := fmt.Sscan(number, &m.number); !ok || err != nil {
		t.Fatalf("data %q is no mark", data)
	}
	return m
}

// data are what events said.
func data(events []servertest.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Data)
	}
	return all
}

// next takes the next n events.
func next(t *testing.T, s *servertest.Subscriber, n int) (events []servertest.Event) {
	t.Helper()
	for range n {
		events = append(events, s.Next(t))
	}
	return events
}

// A pattern gets what matches it, topics that come into being later included, and each event
// once, however many of the subscription's topics and patterns match.
func TestPatternsGetWhatMatchesThemOnce(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2))
	srv.Publish(t, "stocks.US.OLD", "before")
	subscribers := map[string]*servertest.Subscriber{}
	want := map[string][]string{}
	for _, topics := range []string{"stocks.*.AAPL", "stocks.**", "stocks.>,stocks.US.*,stocks.US.AAPL", "*.x,stocks.US.AAPL", ">", "$penstock.>,other"} {
		subscribers[topics] = srv.Subscribe(t, topics)
	}
	for i, topic := range []string{"stocks.US.AAPL", "stocks.DE.AAPL", "stocks", "stocks.US", "stocks.US.OLD", "a.x", "a.x.y", "stocks.US.AAPL", "other"} {
		text := fmt.Sprint(i, " ", topic)
		srv.Publish(t, topic, text)
		first, rest, deeper := strings.Cut(topic, ".")
		if tokens := strings.Split(topic, "."); first == "stocks" && len(tokens) == 3 && tokens[2] == "AAPL" {
			want["stocks.*.AAPL"] = append(want["stocks.*.AAPL"], text)
		}
		if first == "stocks" && deeper {
			want["stocks.**"] = append(want["stocks.**"], text)
			want["stocks.>,stocks.US.*,stocks.US.AAPL"] = append(want["stocks.>,stocks.US.*,stocks.US.AAPL"], text)
		}
		if rest == "x" || topic == "stocks.US.AAPL" {
			want["*.x,stocks.US.AAPL"] = append(want["*.x,stocks.US.AAPL"], text)
		}
		if topic == "other" {
			want["$penstock.>,other"] = append(want["$penstock.>,other"], text)
		}
		want[">"] = append(want[">"], text)
	}
	for topics, s := range subscribers {
		var got []string
		for len(got) < len(want[topics]) {
			if e := s.Next(t); !strings.HasPrefix(e.Data, "{") || !strings.HasPrefix(topics, "$") {
				got = append(got, e.Data)
			}
		}
		if !slices.Equal(got, want[topics]) {
			t.Errorf("%s got %q, want %q", topics, got, want[topics])
		}
	}
}

// In mode latest a subscriber gets, at its pace, the newest of each topic: not everything, never an
// older one after a newer one, and the last one always. Nothing of that is a gap, on resume neither.
func TestLatestAtItsPaceEndsWithTheNewest(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2))
	const topics, each = 8, 400
	var list []string
	for n := range topics {
		list = append(list, fmt.Sprintf("price.%d", n))
	}
	who := []*servertest.Subscriber{
		srv.SubscribeAll(t, list, servertest.With("mode", "latest"), servertest.With("interval", "50ms")),
		srv.Subscribe(t, "price.*", servertest.With("mode", "latest"), servertest.With("interval", "50ms")),
		srv.SubscribeAll(t, list, servertest.With("mode", "latest")),
		srv.SubscribeAll(t, list, servertest.With("mode", "latest"), servertest.With("interval", "20ms")),
	}
	resumed := who[3]
	last := uint64(0)
	for number := 1; number <= each; number++ {
		var lines []string
		for _, topic := range list {
			lines = append(lines, fmt.Sprintf(`{"topic":%q,"data":"%s"}`, topic, mark{topic, number}))
		}
		last = srv.PublishLines(t, lines...)
		if number%50 == 0 {
			resumed.Resume(t)
		}
	}
	for _, s := range who {
		s.WaitID(t, last)
		newest, count, id := map[string]int{}, 0, uint64(0)
		for _, e := range s.Events() {
			if e.Type == "gap" {
				t.Fatalf("%s: a gap: %s", s, e.Data)
			}
			m := parseMark(t, e.Data)
			if m.number <= newest[m.topic] || e.ID <= id {
				t.Fatalf("%s: %s with id %d after number %d and id %d", s, m, e.ID, newest[m.topic], id)
			}
			newest[m.topic], id = m.number, e.ID
			count++
		}
		for _, topic := range list {
			if newest[topic] != each {
				t.Errorf("%s: the newest of %s is %d, want %d", s, topic, newest[topic], each)
			}
		}
		if s == who[0] && count >= topics*each {
			t.Errorf("%s: %d events, which is all that was published", s, count)
		}
	}
}

// An interval alone leaves nothing out.
func TestIntervalAloneLeavesNothingOut(t *testing.T) {
	srv := servertest.Start(t)
	alice := srv.SubscribeAll(t, []string{"a", "b.*"}, servertest.With("interval", "30ms"))
	var want []string
	for n := range 300 {
		text := fmt.Sprint(n)
		srv.Publish(t, []string{"a", "b.x", "b.y"}[n%3], text)
		want = append(want, text)
	}
	if got := data(next(t, alice, len(want))); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// Whatever is published while a subscriber joins comes exactly once after its snapshot: for each
// topic the snapshot's event, then all that follow it.
func TestSnapshotAndLiveJoinWithoutASeam(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2), servertest.RingSize(32<<20))
	const topics = 40
	list := make([]string, topics)
	for n := range list {
		list[n] = fmt.Sprintf("t.%02d", n)
		srv.Publish(t, list[n], mark{list[n], 1}.String())
	}
	var stop atomic.Bool
	var publishing sync.WaitGroup
	numbers := make([]int, topics) // the last one of each, read when publishing is over
	for p := range 4 {
		publishing.Go(func() {
			for number := 2; !stop.Load(); number++ {
				for n := p; n < topics; n += 4 {
					if _, err := srv.TryPublish(list[n], mark{list[n], number}.String()); err != nil {
						t.Error(err)
						return
					}
					numbers[n] = number
				}
			}
		})
	}
	var who []*servertest.Subscriber
	for n := range 60 {
		ask := []servertest.Ask{servertest.With("snapshot", "true")}
		watch := list[:1+n%topics]
		switch n % 4 {
		case 1:
			watch = []string{"t.*"}
		case 2:
			ask = append(ask, servertest.With("interval", "20ms"))
		case 3:
			ask = append(ask, servertest.InJSON("POST"))
		}
		who = append(who, srv.SubscribeAll(t, watch, ask...))
	}
	stop.Store(true)
	publishing.Wait()
	for n, s := range who {
		watch := list[:1+n%topics]
		if n%4 == 1 {
			watch = list
		}
		end := uint64(0)
		for i := range watch {
			end = max(end, srv.Publish(t, list[i], mark{list[i], numbers[i] + 1}.String()))
			numbers[i]++
		}
		s.WaitID(t, end)
		seen := map[string]int{}
		live := false
		for _, e := range s.Events() {
			m := parseMark(t, e.Data)
			before, known := seen[m.topic]
			switch {
			case e.HasID:
				live = true
			case live:
				t.Fatalf("%s: %s without an id behind live events", s, m)
			case known:
				t.Fatalf("%s: %s twice in the snapshot", s, m)
			}
			if known && m.number != before+1 {
				t.Fatalf("%s: %s after number %d", s, m, before)
			}
			if !known && m.number > 1 && e.HasID {
				t.Fatalf("%s: %s is the first of its topic, and no snapshot came before", s, m)
			}
			seen[m.topic] = m.number
		}
		for i, topic := range watch {
			if seen[topic] != numbers[i] {
				t.Fatalf("%s: the last of %s is %d, want %d", s, topic, seen[topic], numbers[i])
			}
		}
	}
}

// With an id the resume goes first, and the snapshot fills what it did not touch.
func TestSnapshotFillsWhatAResumeDidNotTouch(t *testing.T) {
	srv := servertest.Start(t)
	srv.Publish(t, "quiet", "old")
	after := srv.Publish(t, "busy", "1")
	srv.Publish(t, "busy", "2")
	last := srv.Publish(t, "busy", "3")
	alice := srv.SubscribeAll(t, []string{"quiet", "busy", "never"}, servertest.After(after), servertest.With("snapshot", "true"))
	events := next(t, alice, 3)
	if got := data(events); !slices.Equal(got, []string{"2", "3", "old"}) || events[2].HasID || events[1].ID != last {
		t.Errorf("%+v", events)
	}
	srv.Publish(t, "never", "now")
	if e := alice.Next(t); e.Data != "now" || !e.HasID {
		t.Errorf("%+v", e)
	}
}

// Several topics come in the order of ids, so that the last id seen is a resume point for all:
// wherever in a batch a connection is cut, the resumed one goes on without a loss or a double.
func TestConnectionsCutAtEveryByteOfABatchResume(t *testing.T) {
	for name, c := range map[string]struct {
		topics []string
		ask    []servertest.Ask
	}{
		"topics":       {topics: []string{"a.1", "a.2", "a.3", "a.4"}},
		"by name":      {topics: []string{"a.>", "a.1"}, ask: []servertest.Ask{servertest.With("name", "topic")}},
		"in envelopes": {topics: []string{"a.1", "a.2", "a.3", "a.4"}, ask: []servertest.Ask{servertest.With("envelope", "true"), servertest.With("interval", "10ms"), servertest.InForm("QUERY")}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := servertest.Start(t, servertest.Shards(2))
			var lines, want []string
			for n := range 8 {
				topic := fmt.Sprintf("a.%d", 1+n*3%4)
				lines = append(lines, fmt.Sprintf(`{"topic":%q,"data":"%d\n%s"}`, topic, n, topic))
				want = append(want, fmt.Sprintf("%d\n%s", n, topic))
				if name == "in envelopes" {
					want[n] = fmt.Sprintf(`{"topic":%q,"data":"%d\n%s"}`, topic, n, topic)
				}
			}
			uncut := 0
			for n := 1; uncut < 3; n++ {
				s := srv.SubscribeAll(t, c.topics, c.ask...)
				cut := s.CutAfter(n)
				last := srv.PublishLines(t, lines...)
				if !waitCut(t, s, cut, last) {
					uncut++ // the batch has fewer bytes than that; it may come in several chunks
				}
				s.Resume(t)
				s.WaitID(t, last)
				events := s.Events()
				if got := data(events); !slices.Equal(got, want) {
					t.Fatalf("cut after %d bytes: got %q, want %q", n, got, want)
				}
				if !slices.IsSortedFunc(events, func(a, b servertest.Event) int { return int(int64(a.ID - b.ID)) }) {
					t.Fatalf("cut after %d bytes: ids out of order: %+v", n, events)
				}
				s.Cut()
			}
		})
	}
}

// waitCut waits until the stream was cut, or has brought all; it tells which.
func waitCut(t *testing.T, s *servertest.Subscriber, cut <-chan struct{}, last uint64) (was bool) {
	t.Helper()
	servertest.WaitUntil(t, "the cut, or the last event", func() bool {
		select {
		case <-cut:
			was = true
			return true
		default:
			return number(s.LastID()) >= last
		}
	})
	return was
}

// A stream without an id starts where rewind says, and goes on live.
func TestRewindStartsWithWhatThereIs(t *testing.T) {
	srv := servertest.Start(t)
	var all []mark
	first := uint64(0)
	publish := func(topic string) uint64 {
		all = append(all, mark{topic, len(all) + 1})
		id := srv.Publish(t, topic, all[len(all)-1].String())
		if first == 0 {
			first = id
		}
		return id
	}
	for n := range 20 {
		publish([]string{"a", "b", "a", "c"}[n%4])
	}
	for rewind, most := range map[string]int{"all": 100, "1h": 100, "99": 100, "3": 3, "1": 1, "0": 0, "0s": 0, "live": 0} {
		for _, topics := range []string{"a,b,c", "*", "a,*"} {
			var want []string // the newest of each topic, then what is live
			left := map[string]int{"a": most, "b": most, "c": most}
			for _, m := range slices.Backward(all) {
				if left[m.topic]--; left[m.topic] >= 0 {
					want = append(want, m.String())
				}
			}
			slices.Reverse(want)
			s := srv.Subscribe(t, topics, servertest.With("rewind", rewind))
			live := publish("a")
			want = append(want, all[len(all)-1].String())
			s.WaitID(t, live)
			events := s.Events()
			if got := data(events); !slices.Equal(got, want) {
				t.Errorf("rewind=%s on %s: %q, want %q", rewind, topics, got, want)
			}
			if most == 100 && events[0].ID != first || slices.ContainsFunc(events, func(e servertest.Event) bool { return !e.HasID }) {
				t.Errorf("rewind=%s on %s: the first id is %d, want %d: %+v", rewind, topics, events[0].ID, first, events)
			}
			s.Cut()
		}
	}
}

// An envelope says the topic, the type and the data of each event; the server's own events keep
// their forms. By name, the type of an event is its topic.
func TestEnvelopesAndNamesSayTheTopic(t *testing.T) {
	srv := servertest.Start(t)
	enveloped := srv.Subscribe(t, "fx.*", servertest.With("envelope", "true"), servertest.With("hello", "true"))
	named := srv.Subscribe(t, "fx.*", servertest.With("name", "topic"))
	var hello struct {
		ID      string
		Resumed bool
		Server  string
	}
	if e := enveloped.Next(t); e.Type != "hello" || json.Unmarshal([]byte(e.Data), &hello) != nil || hello.Server != "penstock" || hello.Resumed || hello.ID != enveloped.LastID() {
		t.Errorf("the first event is %+v", e)
	}
	srv.PublishLines(t, `{"topic":"fx.EUR","event":"rate","data":{"bid": 1.25}}`, `{"topic":"fx.\"USD","data":"two\nlines"}`, `{"topic":"fx.EUR","close":true}`)
	for i, want := range []servertest.Event{
		{Type: "message", Data: `{"topic":"fx.EUR","event":"rate","data":{"bid":1.25}}`},
		{Type: "message", Data: `{"topic":"fx.\"USD","data":"two\nlines"}`},
		{Type: "end", Data: `{"topic":"fx.EUR"}`},
	} {
		if e := enveloped.Next(t); e.Type != want.Type || e.Data != want.Data {
			t.Errorf("envelope %d is %q %q, want %q %q", i, e.Type, e.Data, want.Type, want.Data)
		}
	}
	for i, want := range []servertest.Event{
		{Type: "fx.EUR", Data: `{"bid":1.25}`}, {Type: `fx."USD`, Data: "two\nlines"}, {Type: "end", Data: `{"topic":"fx.EUR"}`},
	} {
		if e := named.Next(t); e.Type != want.Type || e.Data != want.Data {
			t.Errorf("named event %d is %q %q, want %q %q", i, e.Type, e.Data, want.Type, want.Data)
		}
	}
}

// A POST or QUERY gets the stream that a GET gets, however long its list, and resumes by header.
func TestStreamsByPostAndQuery(t *testing.T) {
	srv := servertest.Start(t)
	many := make([]string, 1000)
	for n := range many {
		many[n] = fmt.Sprintf("%s.%d", strings.Repeat("x", 240), n)
	}
	for what, ask := range map[string]servertest.Ask{
		"form by POST": servertest.InForm("POST"), "JSON by POST": servertest.InJSON("POST"),
		"form by QUERY": servertest.InForm("QUERY"), "JSON by QUERY": servertest.InJSON("QUERY"),
	} {
		s := srv.SubscribeAll(t, many, ask, servertest.With("name", "topic"))
		first := srv.Publish(t, many[999], what)
		if e := s.Next(t); e.Data != what || e.Type != many[999] || e.ID != first {
			t.Errorf("%s: %+v", what, e)
		}
		s.Cut()
		srv.Publish(t, many[0], "meanwhile")
		s.Resume(t)
		if e := s.Next(t); e.Data != "meanwhile" {
			t.Errorf("%s: resumed with %+v", what, e)
		}
		s.Cut()
	}
	resp, err := http.Post(srv.URL+"/events", "application/json", strings.NewReader(`{"topic":"a","mode":"newest"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad mode: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}
