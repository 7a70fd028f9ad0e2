package main

// Settings from everywhere: the file, the environment, the flags. `serve` is asked for a setting
// that can't be, so that it says what it got instead of serving.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// settings writes a YAML file and returns its path.
func settings(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A flag beats the environment, the environment the file, the file the default.
func TestSettingsBeatEachOtherInOrder(t *testing.T) {
	// Too large for any ring here, so that the ring's size is in the refusal.
	args := []string{"serve", "--max-event-size", "16MiB"}
	refusal := func(args ...string) string {
		t.Helper()
		r := enter(t, nil, args...)
		if r.code != exitUsage {
			t.Fatalf("%q: %s", args, r)
		}
		return r.stderr
	}
	path := settings(t, "# sizes\nring-size: 2MiB\ncors-origin: [https://a.example, 'https://*.b.example']\ndemo: true\nmax-topics: 1_000\n")

	fromFile := append(args, "--config", path)
	if got := refusal(fromFile...); !strings.Contains(got, "--ring-size 2MiB") {
		t.Errorf("from the file: %s", got)
	}
	t.Setenv("PENSTOCK_RING_SIZE", "3MiB")
	if got := refusal(fromFile...); !strings.Contains(got, "--ring-size 3MiB") {
		t.Errorf("from the environment: %s", got)
	}
	if got := refusal(append(fromFile, "--ring-size", "4MiB")...); !strings.Contains(got, "--ring-size 4MiB") {
		t.Errorf("from the flag: %s", got)
	}
	t.Setenv("PENSTOCK_CONFIG", settings(t, "max-event-size: 17MiB\n"))
	if got := refusal("serve"); !strings.Contains(got, "--max-event-size 17MiB") {
		t.Errorf("with the file from the environment: %s", got)
	}
}

// What is wrong with a file is said with its place, and ends with exit code 2.
func TestWrongFilesAreRefusedWithThePlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"keep: 1\nring-sise: 3\n", `yaml:2: no setting "ring-sise"`},
		{"heartbeat: 15\n", `yaml:1: duration "15": want a number with`},
		{"- a\n", "one mapping from settings to values"},
		{"ring-size: [1, 2]\n", "yaml:1: ring-size: a sequence; allowed is one value"},
		{"ring-size:\n", "yaml:1: ring-size: a null"},
		{"ring-size: {a: b}\n", "yaml:1: ring-size: a mapping"},
		{"cors-origin: {a: b}\n", "a value or a list of values"},
		{"a: b: c\n", "mapping value is not allowed"},
		{"listen: :1\nlisten: :2\n", "already defined"},
		{"keep: 1\n---\nkeep: 2\n", "2 documents; allowed is one"},
		{"demo: maybe\n", "--demo"},
		{"config: other.yaml\n", `no setting "config"`},
		{"keep: 2000\n", "--keep 2000: allowed are 0 to 1000"},
	} {
		r := enter(t, nil, "serve", "--config", settings(t, c.text))
		if r.code != exitUsage || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%q: want exit code 2 and %q; %s", c.text, c.want, r)
		}
	}
	if r := enter(t, nil, "serve", "--config", "/nonexistent.yaml"); r.code != exitUsage || !strings.Contains(r.stderr, "--config: open /nonexistent.yaml") {
		t.Error(r)
	}
}

// Wrong usage ends with exit code 2 and names the flag and what it takes.
func TestWrongFlagsAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"--ring-size 64MB", []string{"--ring-size", `"64MB"`, "64KiB"}},
		{"--flush-interval fast", []string{"--flush-interval", `"fast"`, "250ms"}},
		{"--keep many", []string{"--keep", `"many"`, "whole number"}},
		{"--ring-size", []string{"--ring-size", "takes a value"}},
		{"--ring-sice=1", []string{"--ring-sice", `"--ring-size"`}},
		{"--heartbeat -1s", []string{"expected a value", `--heartbeat="-1s"`}},
		{"--overload drop", []string{"--overload", "wait, shed"}},
		{"--listen 8080", []string{"--listen", "host:port"}},
		{"extra", []string{"extra"}},
	} {
		r := enter(t, nil, append([]string{"serve"}, strings.Fields(c.args)...)...)
		if r.code != exitUsage {
			t.Errorf("serve %s: %s", c.args, r)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("serve %s: stderr does not say %q: %s", c.args, want, r.stderr)
			}
		}
	}
	t.Setenv("PENSTOCK_HEARTBEAT", "often")
	if r := enter(t, nil, "serve"); r.code != exitUsage || !strings.Contains(r.stderr, "PENSTOCK_HEARTBEAT") {
		t.Error(r)
	}
}
