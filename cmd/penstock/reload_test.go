package main

// SIGHUP to the real program.

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// SIGHUP reads the file and the tokens again. What can change does, at once; what can't is named, a
// line each; a file that is wrong is told, and changes nothing; streams go on through all of it.
func TestHangUpReadsTheConfigurationAgain(t *testing.T) {
	dir := t.TempDir()
	config, tokens := filepath.Join(dir, "penstock.yaml"), filepath.Join(dir, "tokens")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := "publish-token-file: " + tokens + "\n"
	write(tokens, "old\n")
	write(config, base+"log-level: info\n")
	s := serve(t, []string{"PENSTOCK_PUBLISH_RATE=1000"}, "--config", config, "--keep", "2")
	stream := s.stream(t, "news")
	publish := func(token string) int {
		t.Helper()
		r, _ := http.NewRequest("POST", s.url+"/publish/news", strings.NewReader("x"))
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	origin := func() int {
		t.Helper()
		r, _ := http.NewRequest("GET", s.url+"/healthz", nil)
		r.Header.Set("Origin", "https://app.example.com")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	hups := 0
	hup := func(said string) {
		t.Helper()
		hups++
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		poll(t, fmt.Sprintf("%q for the %dth time", said, hups), func() bool {
			return strings.Count(s.said(), "the configuration was read again") == hups
		})
		if !strings.Contains(s.said(), said) {
			t.Errorf("no %q in\n%s", said, s.said())
		}
	}
	if a, b := publish("old"), origin(); a != 200 || b != 403 {
		t.Fatalf("before: %d %d", a, b)
	}

	write(tokens, "new\n")
	write(config, base+"cors-origin: https://app.example.com\nmax-subscribers-per-topic: 1\nring-size: 1GiB\nshards: 3\nkeep: 7\nlog-level: debug\n")
	hup(`"setting":"max-subscribers-per-topic","was":"0","is":"1"`)
	if a, b, c := publish("old"), publish("new"), origin(); a != 401 || b != 200 || c != 200 {
		t.Errorf("after: old token %d, new token %d, origin %d; want 401, 200, 200", a, b, c)
	}
	if status, text := s.get("/events/news"); status != 503 || !strings.Contains(text, "--max-subscribers-per-topic") {
		t.Errorf("a second subscriber: %d %s", status, text)
	}
	if _, text := s.get("/stats"); !strings.Contains(text, `"max-subscribers-per-topic":1,`) || !strings.Contains(text, `"publish-rate":1000`) {
		t.Errorf("/stats says %s", text)
	}
	for _, name := range []string{"ring-size", "shards"} {
		if n := strings.Count(s.said(), `can't change while the server runs; it takes a restart","setting":"`+name+`"`); n != 1 {
			t.Errorf("%s is named %d times, want once:\n%s", name, n, s.said())
		}
	}
	if strings.Contains(s.said(), `"setting":"keep"`) {
		t.Errorf("a flag beats the file, and keep has not changed:\n%s", s.said())
	}

	for what, wrong := range map[string]string{
		"an unknown setting":      base + "max-subscribers: 2\n",
		"a value that can't be":   base + "max-lag: many\n",
		"one beside another":      base + "retry-min: 1h\nmax-subscribers-per-topic: 0\n",
		"no YAML":                 base + "[\n",
		"an origin":               base + "cors-origin: nonsense\nmax-subscribers-per-topic: 0\n",
		"a file that isn't there": "publish-token-file: " + tokens + "x\n",
	} {
		write(config, wrong)
		hup("nothing has changed")
		if a, b := publish("new"), origin(); a != 200 || b != 200 {
			t.Errorf("after %s: token %d, origin %d", what, a, b)
		}
		if status, _ := s.get("/events/news"); status != 503 {
			t.Errorf("after %s: a second subscriber got %d", what, status)
		}
	}
	for seen := 0; seen < 2; {
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream has ended: %v", err)
		}
		if line == "data: x\n" {
			seen++
		}
	}
}
