package main

// README.md is a test: each command in its sh blocks is run as it stands there, against the server
// that its own `make run` starts, and the block of output behind it has to have the shape of what
// comes out. Only the address and the one id are put in: the port is a free one.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readmePatience is how long a command may take, or an output may be awaited. The first build of
// a fresh clone is the longest.
const readmePatience = 2 * time.Minute

// A step is a command of README.md, and what it is said to print.
type step struct {
	line     int
	command  string
	expected string
}

// steps reads the sh blocks of a document, each line a command. A block without a language behind
// one is what its last command prints.
func steps(t *testing.T, text string) (all []step) {
	t.Helper()
	language, inside := "", false
	afterCommand := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && !inside:
			language, inside = line[3:], true
		case strings.HasPrefix(line, "```"):
			inside = false
			afterCommand = language == "sh"
		case !inside && line != "" && strings.HasPrefix(line, "#"):
			afterCommand = false
		case inside && language == "sh" && strings.TrimSpace(line) != "":
			all = append(all, step{line: i + 1, command: line})
		case inside && language == "" && afterCommand:
			all[len(all)-1].expected += line + "\n"
		}
	}
	if len(all) == 0 {
		t.Fatal("no sh block")
	}
	return all
}

// A running command.
type running struct {
	step
	cmd    *exec.Cmd
	ended  chan struct{}
	mu     sync.Mutex
	output bytes.Buffer  // standard output
	more   chan struct{} // told when there is more output
	stderr bytes.Buffer  // what was said beside it; to be read when the command has ended
	err    error
}

// Write takes the standard output.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.output.Write(p)
	select {
	case r.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (r *running) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.output.String()
}

// report is what a failing test shows of a command: the end of what it printed.
func (r *running) report(t *testing.T) string {
	r.stop(t)
	const most = 4000
	text := r.text()
	return fmt.Sprintf("it printed:\n%s\nand said:\n%s", text[max(0, len(text)-most):], r.stderr.String())
}

// start starts a command with bash, in a folder that has what the commands name.
func start(t *testing.T, dir string, s step) *running {
	t.Helper()
	r := &running{step: s, ended: make(chan struct{}), more: make(chan struct{}, 1)}
	r.cmd = exec.Command("bash", "-c", s.command)
	r.cmd.Dir = dir
	// Apart, for curl shows its progress where its output is no terminal.
	r.cmd.Stdout, r.cmd.Stderr = r, &r.stderr
	// A group of its own, so that what it starts ends with it.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.cmd.WaitDelay = time.Second
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("README.md:%d: %v", s.line, err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends a command as Ctrl-C would, and waits.
func (r *running) stop(t *testing.T) {
	select {
	case <-r.ended:
		return
	default:
	}
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		t.Errorf("README.md:%d: %s does not end at SIGINT", r.line, r.command)
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		<-r.ended
	}
}

// wait waits until the output satisfies the condition.
func (r *running) wait(t *testing.T, what string, condition func(output string) bool) {
	t.Helper()
	deadline := time.NewTimer(readmePatience)
	defer deadline.Stop()
	for !condition(r.text()) {
		select {
		case <-r.more:
		case <-r.ended:
			if !condition(r.text()) {
				t.Fatalf("README.md:%d: %s ended (%v) without %s; %s", r.line, r.command, r.err, what, r.report(t))
			}
		case <-deadline.C:
			t.Fatalf("README.md:%d: %s: no %s within %s; %s", r.line, r.command, what, readmePatience, r.report(t))
		}
	}
}

var number = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)

// hasShape tells whether the lines of want are in got, in order, whatever their numbers.
func hasShape(got, want string) bool {
	rest := "\n" + number.ReplaceAllString(got, "0")
	for _, line := range strings.Split(strings.Trim(number.ReplaceAllString(want, "0"), "\n"), "\n") {
		i := strings.Index(rest, "\n"+line)
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return true
}

func TestReadmeCommandsDoWhatItSays(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole program")
	}
	for _, tool := range []string{"bash", "make", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("README.md's commands need %s: %v", tool, err)
		}
	}
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	// Commands run beside what they name, and not in the tree.
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(top, "bin"), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lines.txt"), []byte("line one\nline two\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	const exampleAddress, exampleID = "localhost:8080", "1763670000000042"
	address, id := "", ""
	var streams []*running
	for _, s := range steps(t, string(text)) {
		switch {
		case s.command == "make run":
			// As on a terminal, where README.md's reader types it.
			s.command = "PENSTOCK_LOG_FORMAT=text exec make -s -C '" + top + "' run ADDRESS=127.0.0.1:0"
			server := start(t, dir, s)
			server.wait(t, "block as README.md shows it", func(output string) bool { return hasShape(output, s.expected) })
			_, rest, _ := strings.Cut(server.text(), "http://")
			address, _, _ = strings.Cut(rest, "/")
			continue
		case strings.HasPrefix(s.command, "make "):
			// Running the tests within the tests would never end: it must be there.
			if out, err := exec.Command("make", "-n", "-C", top, s.command[len("make "):]).CombinedOutput(); err != nil {
				t.Errorf("README.md:%d: %s: %v\n%s", s.line, s.command, err, out)
			}
			continue
		}
		if address == "" {
			t.Fatalf("README.md:%d: %s stands before make run", s.line, s.command)
		}
		s.command = strings.ReplaceAll(s.command, exampleAddress, address)
		if strings.Contains(s.command, exampleID) {
			if id == "" {
				t.Fatalf("README.md:%d: no publish has answered an id before", s.line)
			}
			s.command = strings.ReplaceAll(s.command, exampleID, id)
		}
		r := start(t, dir, s)
		if isStream(s.command) {
			streams = append(streams, r)
			if s.expected != "" {
				r.wait(t, "output as README.md shows it", func(output string) bool { return hasShape(output, s.expected) })
			} else if strings.HasPrefix(s.command, "curl") {
				r.wait(t, "the stream's first block", func(output string) bool { return strings.Contains(output, "retry: ") })
			} else {
				waitSubscribed(t, address, topicOf(s.command), len(streams))
			}
			continue
		}
		r.wait(t, "end", func(string) bool {
			select {
			case <-r.ended:
				return true
			default:
				return false
			}
		})
		if r.err != nil {
			t.Errorf("README.md:%d: %s: %v; %s", s.line, s.command, r.err, r.report(t))
		}
		if !hasShape(r.text(), s.expected) {
			t.Errorf("README.md:%d: %s prints\n%s\nwhich is not of the shape\n%s", s.line, s.command, r.text(), s.expected)
		}
		var answer struct{ ID string }
		if i := strings.Index(r.text(), `{"id"`); i >= 0 && id == "" && json.NewDecoder(strings.NewReader(r.text()[i:])).Decode(&answer) == nil {
			id = answer.ID
		}
	}

	// Who was there saw everything that came: the tour's first subscriber.
	for _, want := range []string{"data: it works", "data: while you were away", "data: line one", "data: line two"} {
		streams[1].wait(t, want, func(output string) bool { return strings.Contains(output, want) })
	}
	// The bridge: what is published to one topic arrives in the other.
	resp, err := http.Post("http://"+address+"/publish/hello", "text/plain", strings.NewReader("over the bridge"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	readUntil(t, "http://"+address+"/events/copy?lastEventId="+id, "data: over the bridge")
	for _, r := range streams {
		if !strings.Contains(r.command, "|") {
			r.wait(t, "any output", func(output string) bool { return output != "" })
		}
	}
}

// isStream tells a command that goes on until it is interrupted.
func isStream(command string) bool {
	return strings.HasPrefix(command, "curl -N") || strings.Contains(command, "penstock subscribe")
}

var topicArgument = regexp.MustCompile(`subscribe http://[^ /]+(?:/events/| )([^ ]+)`)

// topicOf is the topic that a `penstock subscribe` asks for.
func topicOf(command string) string {
	if m := topicArgument.FindStringSubmatch(command); m != nil {
		return m[1]
	}
	return ""
}

// waitSubscribed waits until the server counts at least so many subscribers of the topic, less
// those of other topics: until the newest one is among them.
func waitSubscribed(t *testing.T, address, topic string, most int) {
	t.Helper()
	count := func() int {
		resp, err := http.Get("http://" + address + "/topics/" + topic)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct{ Subscribers int }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Subscribers
	}
	deadline := time.NewTimer(readmePatience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	// The first stream of the tour is of the demo, all others are of this topic.
	for count() < most-1 {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("%d subscribers of %s, want %d", count(), topic, most-1)
		}
	}
}

// readUntil reads a stream until the line is there.
func readUntil(t *testing.T, url, line string) {
	t.Helper()
	client := http.Client{Timeout: readmePatience}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s: %s", url, resp.Status, text)
	}
	for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		if scanner.Text() == line {
			return
		}
	}
	t.Fatalf("%s ended without %q", url, line)
}
