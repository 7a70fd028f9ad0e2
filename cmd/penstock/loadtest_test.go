package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/loadtest"
)

// quietStream is a server whose streams say nothing.
func quietStream(t *testing.T, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(status)
		w.(http.Flusher).Flush()
		if status == http.StatusOK {
			<-r.Context().Done()
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/stream"
}

// The exit code says how a load test went: 0, 1 for errors, 2 for wrong flags, 3 for a bound that
// was missed.
func TestLoadtestExitCodes(t *testing.T) {
	good, bad := quietStream(t, http.StatusOK), quietStream(t, http.StatusNotFound)
	short := []string{"--subscribers", "3", "--duration", "200ms", "--grace", "0s"}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{append([]string{good}, short...), exitOK, "3 streams"},
		{append([]string{bad}, short...), exitError, "status 404"},
		{append([]string{good, "--fail-if", "streams<4"}, short...), exitMissed, "streams<4: streams is 3"},
		{append([]string{good, "--fail-if", "lost>0"}, short...), exitOK, "3 streams"},
		{append([]string{good, "--size", "7"}, short...), exitUsage, "--size 7: 80 to 1048576 are allowed"},
		{append([]string{good, "--rate", "fast"}, short...), exitUsage, "or max are allowed"},
		{append([]string{good, "--scenario", "nothing"}, short...), exitUsage, "idle, broadcast, ticker"},
		{append([]string{"https://127.0.0.1/x"}, short...), exitUsage, "https is not spoken"},
	} {
		var stdout, stderr strings.Builder
		rc := &runContext{Ctx: t.Context(), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}
		code := run(rc, append([]string{"loadtest"}, c.args...))
		if all := stdout.String() + stderr.String(); code != c.code || !strings.Contains(all, c.says) {
			t.Errorf("%q: exit code %d, want %d; it said, without %q:\n%s", c.args, code, c.code, c.says, all)
		}
	}
}

// A report goes to files and, as JSON alone, to standard output.
func TestLoadtestWritesReports(t *testing.T) {
	url := quietStream(t, http.StatusOK)
	page := filepath.Join(t.TempDir(), "report.html")
	var stdout, stderr strings.Builder
	rc := &runContext{Ctx: t.Context(), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}
	if code := run(rc, []string{"loadtest", url, "--subscribers", "2", "--duration", "200ms", "--json", "-", "--report", page}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var r loadtest.Report
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil || r.Most != 2 {
		t.Errorf("%v: %s", err, stdout.String())
	}
	if b, err := os.ReadFile(page); err != nil || !strings.HasPrefix(string(b), "<!doctype html>") {
		t.Errorf("%v: %.100s", err, b)
	}
}

// A scenario from a YAML file, and flags over it.
func TestLoadtestScenarioFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("scenario: ticker\nsubscribers: 12\nrate: max\nbursts: false\nduration: 3s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	nine := 9
	c := loadtestCmd{URL: "http://127.0.0.1:1", Scenario: file, Topics: &nine}
	cfg, err := c.config()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Subscribers != 12 || cfg.Rate != loadtest.AsAcknowledged || cfg.Bursts || cfg.Duration != 3*time.Second || cfg.Topics != 9 || cfg.Zipf != 1 || cfg.Scenario != "ticker" {
		t.Errorf("%+v", cfg)
	}
	if err := os.WriteFile(file, []byte("subscriber: 12\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.config(); err == nil || !strings.Contains(err.Error(), "subscriber") {
		t.Errorf("an unknown key: %v", err)
	}
}
