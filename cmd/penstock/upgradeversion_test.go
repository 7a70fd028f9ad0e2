package main

// Upgrades between programs that differ in what they hand over: two that were really built, one of
// them from a source in which the version is another number.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var handoverVersion = regexp.MustCompile(`(?m)^const handoverVersion = (\d+)$`)

// buildWithVersion builds the command with another version of the hand-over, and returns both numbers.
func buildWithVersion(t *testing.T, program string) (here, there string) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "server", "link.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	found := handoverVersion.FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s says no version in the way of %q", source, handoverVersion)
	}
	n, _ := strconv.Atoi(string(found[1]))
	here, there = strconv.Itoa(n), strconv.Itoa(n+1)
	dir := t.TempDir()
	changed := filepath.Join(dir, "link.go")
	if err := os.WriteFile(changed, handoverVersion.ReplaceAll(text, []byte("const handoverVersion = "+there)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err := os.WriteFile(changed+".json", overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", changed+".json", "-o", program, "./cmd/penstock")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return here, there
}

// A program that speaks another version of the hand-over than the one that runs, an older or a newer
// one, refuses and says both; the one that runs goes on with its streams, and hands over to one
// that fits.
func TestOtherVersionOfTheHandoverIsRefused(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	here, there := buildWithVersion(t, other)
	for _, tt := range []struct{ name, old, speaks, next, takes string }{
		{"newer", os.Args[0], here, other, there},
		{"older", other, there, os.Args[0], here},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "penstock")
			install := func(file string) {
				t.Helper()
				if err := os.Symlink(file, program+".new"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(program+".new", program); err != nil {
					t.Fatal(err)
				}
			}
			install(tt.old)
			s := &served{ended: make(chan struct{})}
			s.cmd = exec.Command(program, "serve", "--listen", "127.0.0.1:0")
			s.start(t, nil)
			s.wait(t)
			r := s.stream(t, "news")
			hear := func(data string) {
				t.Helper()
				resp, err := http.Post(s.url+"/publish/news", "text/plain", strings.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						t.Fatalf("%v, while %q is due", err, data)
					}
					if line == "data: "+data+"\n" {
						return
					}
				}
			}
			install(tt.next)
			if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			poll(t, "it tells that this has failed", func() bool { return strings.Contains(s.said(), "the upgrade has failed") })
			want := regexp.MustCompile(fmt.Sprintf(`the new process refuses: it hands over in version %s\.\d+ \(.*\), and version %s\.\d+ is what this one \(.*\) takes`, tt.speaks, tt.takes))
			if !want.MatchString(s.said()) {
				t.Errorf("it says:\n%s\nwant %s", s.said(), want)
			}
			hear("by the old one")
			if status, _ := s.get("/readyz"); status != http.StatusOK {
				t.Errorf("/readyz: %d", status)
			}
			install(tt.old)
			pid := s.upgradeTo2(t)
			hear("by the new one")
			_ = syscall.Kill(pid, syscall.SIGTERM)
		})
	}
}
