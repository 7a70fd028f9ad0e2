package peers

import (
	"fmt"
	"os"
	"strings"
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
			// Three tries: on a busy machine some of them cut streams now and then.
			var fault string
			for range 3 {
				if fault = work(t, p, o); fault == "" {
					return
				}
			}
			t.Error(fault)
		})
	}
}

// work puts a small load on a peer and says what went wrong.
func work(t *testing.T, p *Peer, o *Options) (fault string) {
	t.Helper()
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
	if rep.OK() && rep.Streams.Lost == 0 && rep.Streams.Events == 10*rep.Publish.Published && rep.Publish.Published >= 25 && rep.Server.MemoryMost > 0 {
		return ""
	}
	return fmt.Sprintf("%s; errors %v; it said: %s", rep.Sentence, rep.Errors, r.Log())
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

// A variant is built of changed source, which must be what is there: a constant that has moved is
// said, not measured unchanged.
func TestVariantNeedsWhatItReplaces(t *testing.T) {
	o := &Options{Scratch: t.TempDir(), Root: "../.."}
	err := Variant("x", "encode/shared.go", "no such piece", "another").Available(o)
	if err == nil || !strings.Contains(err.Error(), `encode/shared.go has "no such piece" not once`) {
		t.Errorf("%v", err)
	}
	if err := Variant("x", "encode/none.go", "a", "b").Available(o); err == nil {
		t.Error("no error without the file")
	}
	text, err := os.ReadFile("../../encode/shared.go")
	if err != nil || strings.Count(string(text), "WindowSize = 8 << 10") != 1 {
		t.Errorf("the window that bench coding replaces is not there: %v", err)
	}
}
