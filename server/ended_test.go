package server_test

// Ended topics end to end, over real sockets.

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"penstock/server"
	"penstock/server/servertest"
)

// A chat's answer: its tokens from the beginning, the end, the end of the stream, and 204 when
// the reader comes back. A new event begins the topic again.
func TestAnEndedTopicIsReadToItsEndAndThenNoMore(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2), func(c *server.Config) { c.Keep = 1 })
	live := srv.Subscribe(t, "answer.42", servertest.With("rewind", "all"))
	pattern := srv.Subscribe(t, "answer.*")
	both := srv.Subscribe(t, "answer.42,answer.43")
	newest := srv.Subscribe(t, "answer.42", servertest.With("mode", "latest"), servertest.With("interval", "50ms"))
	for n := range 5 {
		srv.Publish(t, "answer.42", fmt.Sprint("token ", n))
	}
	end := srv.PublishLines(t, `{"topic":"answer.42","data":"token 5","close":true}`) + 1
	want := []string{"token 0", "token 1", "token 2", "token 3", "token 4", "token 5", `{"topic":"answer.42"}`}
	for _, s := range []*servertest.Subscriber{live, pattern, both} {
		events := next(t, s, len(want))
		if got := data(events); !slices.Equal(got, want) || events[6].Type != "end" || events[6].ID != end {
			t.Fatalf("%s: %+v", s, events)
		}
	}
	if err := live.WaitEnd(t); err != nil {
		t.Errorf("the stream ended with %v, want a last chunk", err)
	}
	if err := newest.WaitEnd(t); err != nil {
		t.Errorf("mode latest: the stream ended with %v, want a last chunk", err)
	}
	if got := data(newest.Events()); len(got) < 2 || !slices.Equal(got[len(got)-2:], want[5:]) {
		t.Errorf("mode latest ends with %q, want the last event and the end", got)
	}
	live.Resume(t)
	if err := live.WaitEnd(t); !errors.Is(err, servertest.ErrNoContent) {
		t.Errorf("coming back after the end: %v, want 204", err)
	}
	if n := len(live.Events()); n != len(want) {
		t.Errorf("%d events, want %d", n, len(want))
	}

	for what, c := range map[string]struct {
		ask  []servertest.Ask
		want []string
	}{
		"from the beginning": {[]servertest.Ask{servertest.With("rewind", "all")}, want},
		"the newest two":     {[]servertest.Ask{servertest.With("rewind", "2")}, want[4:]},
		"a snapshot":         {[]servertest.Ask{servertest.With("snapshot", "true")}, want[5:]},
		"after an id":        {[]servertest.Ask{servertest.After(end - 1)}, want[6:]},
		"the newest":         {[]servertest.Ask{servertest.With("mode", "latest"), servertest.With("snapshot", "true")}, want[5:]},
	} {
		s := srv.Subscribe(t, "answer.42", c.ask...)
		if err := s.WaitEnd(t); err != nil {
			t.Errorf("%s: the stream ended with %v, want a last chunk", what, err)
		}
		if got := data(s.Events()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
		s.Resume(t)
		if err := s.WaitEnd(t); !errors.Is(err, servertest.ErrNoContent) {
			t.Errorf("%s: coming back: %v, want 204", what, err)
		}
	}

	srv.Publish(t, "answer.43", "x")
	srv.End(t, "answer.43")
	if got := data(next(t, both, 2)); !slices.Equal(got, []string{"x", `{"topic":"answer.43"}`}) {
		t.Errorf("%q", got)
	}
	if err := both.WaitEnd(t); err != nil {
		t.Errorf("both topics have ended: %v", err)
	}
	again := srv.Publish(t, "answer.42", "again")
	live.Resume(t)
	if e := live.Next(t); e.Data != "again" || e.ID != again {
		t.Errorf("begun again: %+v", e)
	}
	pattern.WaitID(t, again)
}
