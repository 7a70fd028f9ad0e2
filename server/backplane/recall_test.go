package backplane_test

import (
	"strconv"
	"testing"

	"penstock/server"
	"penstock/server/servertest"
)

// A fresh node knows what each topic had last, be it older than anything in its ring: snapshot and
// mode=latest begin with it, for names and patterns.
func TestFreshNodeKnowsTheNewestOfQuietTopics(t *testing.T) {
	n := startNATS(t)
	a := servertest.Start(t, On(n), small)
	old := a.Publish(t, "quiet.a", "old")
	newest := map[string]uint64{"quiet.a": a.Publish(t, "quiet.a", "a"), "quiet.b": a.Publish(t, "quiet.b", "b")}
	ids := fillUp(t, a, "news", 100)
	fresh := servertest.Start(t, On(n), small)
	if fresh.BeforeID() < ids[0] {
		t.Fatal("the ring holds all")
	}
	for _, asks := range [][]servertest.Ask{
		{servertest.With("snapshot", "true")},
		{servertest.With("mode", "latest"), servertest.After(old)},
		{servertest.With("rewind", "1")},
	} {
		for _, topics := range [][]string{{"quiet.a", "quiet.b", "never"}, {"quiet.*"}, {"quiet.a", "*.b"}} {
			who := fresh.SubscribeAll(t, topics, asks...)
			for _, want := range []string{"a", "b"} {
				if e := who.Next(t); e.Data != want || e.HasID && e.ID != newest["quiet."+want] {
					t.Errorf("%v: %v; want %s", topics, e, want)
				}
			}
			live := a.Publish(t, "quiet.b", "b")
			newest["quiet.b"] = live
			if e := who.Next(t); e.ID != live {
				t.Errorf("%v: %v; want what is published next", topics, e)
			}
			who.Cut()
		}
	}
	// Who wants all of it is given the past, as ever.
	who := fresh.Subscribe(t, "quiet.a", servertest.After(old-1))
	follow(t, who, newest["quiet.a"])
	if got := data(who.Events()); len(got) != 2 || got[0] != "old" || got[1] != "a" {
		t.Errorf("resumed: %v; want old and a", who.Events())
	}
}

// Many topics are recalled, more than are asked for at once, as fast as they come.
func TestManyQuietTopicsAreRecalled(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, nil)
	const topics = 10_000
	for i := range topics {
		if _, err := js.PublishAsync("penstock.quiet.t"+strconv.Itoa(i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			<-js.PublishAsyncComplete()
		}
	}
	fresh := servertest.Start(t, On(n), small)
	for _, i := range []int{0, 1, topics / 2, topics - 1} {
		who := fresh.Subscribe(t, "quiet.t"+strconv.Itoa(i), servertest.With("snapshot", "true"))
		if e := who.Next(t); e.Data != strconv.Itoa(i) {
			t.Errorf("%v; want %d", e, i)
		}
		who.Cut()
	}
}

// With --keep 0 nothing that has left the ring is to be known, and nothing is recalled.
func TestNothingIsRecalledWhereNothingIsKept(t *testing.T) {
	n := startNATS(t)
	a := servertest.Start(t, On(n), small)
	a.Publish(t, "quiet", "old")
	fillUp(t, a, "news", 100)
	fresh := servertest.Start(t, On(n), small, func(c *server.Config) { c.Keep = 0 })
	who := fresh.Subscribe(t, "quiet", servertest.With("snapshot", "true"))
	id := a.Publish(t, "quiet", "new")
	if e := who.Next(t); e.ID != id {
		t.Errorf("%v; want what is published next", e)
	}
}
