package peers

import (
	"testing"
	"time"

	"penstock/loadtest"
)

// Each peer that is there and starts quickly takes a small load without a fault: what it is compared
// by is its speed and not our configuration.
func TestPeersWork(t *testing.T) {
	o := &Options{Scratch: t.TempDir(), Root: "../.."}
	for _, name := range []string{"floor", "floor-10ms", "nchan", "nchan-2", "mercure", "centrifugo", "pushpin"} {
		t.Run(name, func(t *testing.T) {
			p, err := Find(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Available(o); err != nil {
				t.Skip(err)
			}
			r, err := p.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Stop()
			cfg, err := loadtest.Scenario("broadcast")
			if err != nil {
				t.Fatal(err)
			}
			cfg.Subscribers, cfg.Topics, cfg.Rate, cfg.Duration = 20, 2, 100, 300*time.Millisecond
			r.Aim(&cfg)
			rep, err := loadtest.Run(t.Context(), cfg, loadtest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !rep.OK() || rep.Streams.Lost != 0 || rep.Streams.Events != 10*rep.Publish.Published || rep.Publish.Published < 25 || rep.Server.MemoryMost == 0 {
				t.Errorf("%s; errors %v; it said: %s", rep.Sentence, rep.Errors, r.Log())
			}
		})
	}
}

// What is not there says how to get it.
func TestMissingPeersSayHow(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{"mercure", "centrifugo", "pushpin", "floor", "penstock"} {
		p, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Available(&Options{Scratch: t.TempDir()}); err == nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Find("nobody"); err == nil {
		t.Error("nobody is known")
	}
}
