package main

// The tune command on machines made of a few files: exit codes, forms, and that it changes nothing
// unless told. What it finds is tested in package tuning.

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine makes proc and sys with what the test is about; all else is unknown.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTuneExitsWithWhatItFound(t *testing.T) {
	root := machine(t, map[string]string{
		"proc/sys/fs/file-max":        "50000\n",
		"proc/sys/net/core/somaxconn": "128\n",
	})
	for _, c := range []struct {
		args     []string
		code     int
		out, err string // what has to be there
	}{
		{[]string{"--connections", "40000"}, exitOK, "\n40,000 streams fit; one setting", ""},
		{[]string{"--connections", "1000"}, exitOK, "\n1,000 streams fit\n", ""},
		{[]string{"--connections", "60_000"}, exitTooSmall, "\n60,000 streams do not fit: fs.file-max allows 49,872\n", "do not fit"},
		{[]string{"--connections", "60000", "--format", "sysctl"}, exitTooSmall, "\nfs.file-max = 65536\n", "do not fit"},
		{[]string{"--connections", "1000", "--format", "sysctl"}, exitOK, "\n# Nothing has to change.\n", ""},
		{[]string{"--connections", "60000", "--json"}, exitTooSmall, `"id": "fs.file-max"`, "do not fit"},
		{[]string{"--connections", "0"}, exitUsage, "", "--connections 0: allowed are 1 to 100000000"},
		{[]string{"--connections", "-5"}, exitUsage, "", "--connections"},
		{[]string{"--connections", "many"}, exitUsage, "", "want a whole number"},
		{[]string{"--format", "yaml"}, exitUsage, "", `--format "yaml": allowed are text, sysctl, json`},
		{[]string{"--json", "--format", "sysctl"}, exitUsage, "", "allowed is one of them"},
		{[]string{"--apply", "--format", "sysctl"}, exitUsage, "", "allowed is one of them"},
		{[]string{"--ring-size", "1KiB"}, exitUsage, "", "--ring-size 1KiB: allowed are 64KiB to 1TiB"},
		{[]string{"extra"}, exitUsage, "", "unexpected argument extra"},
	} {
		r := enter(t, nil, append([]string{"tune", "--root", root}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stdout, c.out) || !strings.Contains(r.stderr, c.err) || c.err == "" && r.stderr != "" {
			t.Errorf("tune %q: want code %d, %q and %q, got %+v", c.args, c.code, c.out, c.err, r)
		}
	}
}

// Without --apply nothing is changed; with it what has to change is set, and said.
func TestTuneSetsOnlyWhenTold(t *testing.T) {
	root := machine(t, map[string]string{
		"proc/sys/fs/file-max":                  "50000\n",
		"proc/sys/net/core/somaxconn":           "128\n",
		"proc/sys/net/ipv4/ip_local_port_range": "32768 60999\n",
	})
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "proc/sys", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	enter(t, nil, "tune", "--root", root, "--connections", "60000")
	if read("fs/file-max") != "50000" || read("net/core/somaxconn") != "128" {
		t.Error("it set something without --apply")
	}
	r := enter(t, nil, "tune", "--root", root, "--connections", "60000", "--apply")
	for _, want := range []string{"\nset: fs.file-max = 65536 (was 50000)\n", "\nset: net.core.somaxconn = 2048 (was 128)\n", "\n60,000 streams fit\n"} {
		if r.code != exitOK || !strings.Contains(r.stdout, want) {
			t.Errorf("want %q, got %+v", want, r)
		}
	}
	if read("fs/file-max") != "65536" || read("net/core/somaxconn") != "2048" || read("net/ipv4/ip_local_port_range") != "32768 60999" {
		t.Error("it did not set what it said, or set what is advice only")
	}
}

// What can't be set is named, in JSON too, and is an error of its own.
func TestTuneSaysWhatItCouldNotSet(t *testing.T) {
	// A setting of the kernel that nobody may write, root neither: 256 on every machine.
	const readOnly = "/proc/sys/kernel/random/poolsize"
	if _, err := os.Stat(readOnly); err != nil {
		t.Skip(err)
	}
	root := machine(t, map[string]string{"proc/sys/net/core/nothing": ""})
	if err := os.Symlink(readOnly, filepath.Join(root, "proc/sys/net/core/somaxconn")); err != nil {
		t.Fatal(err)
	}
	r := enter(t, nil, "tune", "--root", root, "--connections", "60000", "--apply", "--json")
	var got struct {
		Set []struct{ Key, Was, Value, Error string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Set) != 1 || !strings.Contains(got.Set[0].Error, "not allowed") {
		t.Errorf("%+v %v", r, err)
	}
	if r.code != exitError || !strings.Contains(r.stderr, "tune: 1 of 1 settings could not be set") {
		t.Errorf("%+v", r)
	}
}
