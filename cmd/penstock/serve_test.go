package main

// serve as a process: what it says at start, signals, exit codes, the service manager, memory. The
// process is this test's own program, which is penstock when it is told so by its environment.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const beCommand = "PENSTOCK_TEST_BE_THE_COMMAND"

func TestMain(m *testing.M) {
	// A process that is to take over from the command is not told by us.
	if os.Getenv(beCommand) != "" || os.Getenv("PENSTOCK_HANDOVER") != "" {
		os.Unsetenv(beCommand)
		main()
	}
	os.Exit(m.Run())
}

// patience is how long a process may take for anything.
const patience = 30 * time.Second

// A served is a process of `penstock serve` on a free port.
type served struct {
	cmd    *exec.Cmd
	url    string
	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	ended  chan struct{}
}

func (s *served) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

// Write takes standard error.
func (s *served) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.Write(p)
}

// process starts `penstock serve` with the arguments; env are variables to add.
func process(t *testing.T, env []string, args ...string) *served {
	t.Helper()
	s := &served{ended: make(chan struct{})}
	s.cmd = exec.Command(os.Args[0], append([]string{"serve"}, args...)...)
	s.start(t, env)
	return s
}

// start starts s.cmd.
func (s *served) start(t *testing.T, env []string) {
	t.Helper()
	s.cmd.Env = append(os.Environ(), append(env, beCommand+"=1")...)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	})
}

// serve is process on a free port, and waits until it serves.
func serve(t *testing.T, env []string, args ...string) *served {
	t.Helper()
	s := process(t, env, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	s.wait(t)
	return s
}

// wait waits until it serves.
func (s *served) wait(t *testing.T) {
	t.Helper()
	poll(t, "the address at start", func() bool {
		select {
		case <-s.ended:
			t.Fatalf("serve ended: %s", s.said())
		default:
		}
		s.url = "http://" + servingAt(s.said())
		return s.url != "http://"
	})
}

// servingAt finds the address in what serve says at start, which is JSON where nobody looks.
func servingAt(output string) string {
	for line := range strings.Lines(output) {
		var said struct{ Msg, Streams string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "serving" {
			address := ""
			_, _ = fmt.Sscanf(said.Streams, "http://%s", &address)
			address, _, _ = strings.Cut(address, "/")
			return address
		}
	}
	return ""
}

// poll asks for a condition of another process, which can't tell us.
func poll(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// end sends a signal and returns the exit code.
func (s *served) end(t *testing.T, signal syscall.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return s.code(t)
}

// code waits for the end and returns the exit code; -1 for a signal.
func (s *served) code(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatalf("serve does not end within %s; it said:\n%s", patience, s.said())
	}
	return s.cmd.ProcessState.ExitCode()
}

// stream opens a stream and waits for its first block.
func (s *served) stream(t *testing.T, topic string) *bufio.Reader {
	t.Helper()
	resp, err := http.Get(s.url + "/events/" + topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", resp.Status, err)
		}
		if line == "\n" {
			return r
		}
	}
}

// get answers status and body; 0 where there is nobody.
func (s *served) get(path string) (int, string) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(s.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// SIGTERM and SIGINT end the streams with their last chunk, and the process with 0.
func TestServeDrainsAtASignalAndExitsWithZero(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := serve(t, nil, "--drain-time", "100ms")
		ends := make(chan error)
		for range 10 {
			r := s.stream(t, "news")
			go func() {
				_, err := io.Copy(io.Discard, r)
				ends <- err
			}()
		}
		if code := s.end(t, signal); code != exitOK {
			t.Errorf("%s: exit code %d; it said:\n%s", signal, code, s.said())
		}
		for range 10 {
			if err := <-ends; err != nil {
				t.Errorf("%s: a stream ended with %v, want its last chunk", signal, err)
			}
		}
	}
}

// While it drains it is not ready, but well; a second signal ends it at once.
func TestSecondSignalEndsServeAtOnce(t *testing.T) {
	s := serve(t, nil, "--drain-time", "1h")
	for range 10 {
		s.stream(t, "news")
	}
	if status, text := s.get("/readyz"); status != http.StatusOK || text != "ok\n" {
		t.Errorf("/readyz before: %d %q", status, text)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "/readyz says that it drains", func() bool {
		status, text := s.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "drain")
	})
	if status, text := s.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz while draining: %d %q", status, text)
	}
	began := time.Now()
	if code := s.end(t, syscall.SIGTERM); code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("after the second signal: exit code %d, want %d", code, exitSignal+int(syscall.SIGTERM))
	}
	t.Logf("ended after %s", time.Since(began))
}

// What can't be served ends with 1, the address and the flag.
func TestServeSaysWhyItCannot(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, flag := range []string{"--listen", "--admin-listen", "--debug"} {
		args := []string{"--listen", "127.0.0.1:0", flag, taken.Addr().String()}
		s := process(t, nil, args...)
		if code := s.code(t); code != exitError {
			t.Errorf("%s: exit code %d", flag, code)
		}
		for _, want := range []string{flag, taken.Addr().String(), "in use"} {
			if said := s.said(); !strings.Contains(said, want) {
				t.Errorf("%s: it does not say %q: %s", flag, want, said)
			}
		}
		if said := s.said(); strings.Count(said, "\n") > 1 {
			t.Errorf("%s: it says more than why: %s", flag, said)
		}
	}
}

// For a person it prints a block with everything that one wants to know.
func TestServePrintsABlockForPeople(t *testing.T) {
	s := process(t, nil, "--listen", "127.0.0.1:0", "--log-format", "text", "--debug", "127.0.0.1:0", "--ring-size", "16MiB", "--shards", "2")
	poll(t, "serve waits for signals", func() bool {
		// The block is on standard output, which is read when the process has ended; that it
		// serves can be seen from its descriptors: listeners.
		return listeners(s.cmd.Process.Pid) >= 2
	})
	if code := s.end(t, syscall.SIGTERM); code != exitOK {
		t.Fatalf("exit code %d: %s", code, s.said())
	}
	for _, want := range []string{
		"penstock ", "/events/{topic}", "/publish/{topic}", "without a token", "/metrics", "/debug/pprof/", "connections", "descriptors", "ring 16MiB", "at most ", "shards      2 (cores: ",
	} {
		if !strings.Contains(s.stdout.String(), want) {
			t.Errorf("the block does not say %q:\n%s", want, s.stdout.String())
		}
	}
	if said := s.said(); !strings.Contains(said, "msg=drained") {
		t.Errorf("the log is not text: %s", said)
	}
}

// listeners counts a process's listening TCP sockets.
func listeners(pid int) (n int) {
	inodes := map[string]bool{}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
			inodes["socket:["+f[9]+"]"] = true
		}
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && inodes[target] {
			n++
		}
	}
	return n
}

// systemd is told when the server is ready, which process is the main one after an upgrade, and when
// it stops (sd_notify(3)).
func TestServeTellsSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		buf := make([]byte, 4096)
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	s := serve(t, []string{"NOTIFY_SOCKET=" + path})
	if got := next(); got != "READY=1" {
		t.Errorf("told %q, want READY=1", got)
	}
	pid := s.upgradeTo(t, s.cmd.Process.Pid)
	main := fmt.Sprintf("MAINPID=%d", pid)
	told := []string{next(), next()} // by the old one and by the new one
	if slices.Sort(told); told[0] != main || told[1] != main+"\nREADY=1" {
		t.Errorf("told %q, want %q, and that with READY=1", told, main)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.code(t); code != exitOK {
		t.Errorf("exit code of the one that has handed over: %d", code)
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("told %q, want STOPPING=1", got)
	}
}

// health is 0 for a server that is well, and 1 with the reason where there is none.
func TestHealthAsksTheServer(t *testing.T) {
	s := serve(t, nil)
	for _, args := range [][]string{{"health", s.url}, {"health", "--ready", s.url}} {
		if r := enter(t, nil, args...); r.code != exitOK || r.stdout != "ok\n" {
			t.Errorf("%q: %s", args, r)
		}
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(s.url, "http://"), ":")
	for _, listen := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port} {
		t.Setenv("PENSTOCK_LISTEN", listen)
		if r := enter(t, nil, "health"); r.code != exitOK {
			t.Errorf("PENSTOCK_LISTEN=%s: %s", listen, r)
		}
	}
	if code := s.end(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	socket := filepath.Join(t.TempDir(), "sock")
	s = serve(t, nil, "--listen", "unix:"+socket)
	t.Setenv("PENSTOCK_LISTEN", "unix:"+socket+",127.0.0.1:1")
	if r := enter(t, nil, "health"); r.code != exitOK {
		t.Errorf("by a unix socket: %s", r)
	}
	if code := s.end(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if r := enter(t, nil, "health", s.url); r.code != exitError || !strings.Contains(r.stderr, "refused") {
		t.Error(r)
	}
	if r := enter(t, nil, "health", "ftp://x"); r.code != exitUsage {
		t.Error(r)
	}
	if r := enter(t, nil, "health", "--timeout", "0"); r.code != exitUsage || !strings.Contains(r.stderr, "above 0s") {
		t.Error(r)
	}
}

// The debug door answers profiles and the shards.
func TestDebugDoorShowsTheShards(t *testing.T) {
	s := serve(t, nil, "--debug", "127.0.0.1:0", "--shards", "3")
	var said struct{ Debug string }
	for line := range strings.Lines(s.said()) {
		_ = json.Unmarshal([]byte(line), &said)
	}
	base, _, ok := strings.Cut(said.Debug, "/debug/")
	if !ok {
		t.Fatalf("no address of the debug door in %s", s.said())
	}
	door := &served{url: base}
	var answer struct{ Shards []json.RawMessage }
	if status, text := door.get("/debug/shards"); status != http.StatusOK || json.Unmarshal([]byte(text), &answer) != nil || len(answer.Shards) != 3 {
		t.Errorf("/debug/shards: %d %s", status, text)
	}
	if status, _ := door.get("/debug/pprof/goroutine?debug=1"); status != http.StatusOK {
		t.Errorf("/debug/pprof/goroutine: %d", status)
	}
	if status, _ := s.get("/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("/debug/pprof/ on the main address: %d, want 404", status)
	}
}

// The memory of a process with a full ring is at most 1.3 times the ring and 50 MiB, also while
// it is published to and read from.
func TestFullRingIsNotPaidForTwice(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow memory is not ours")
	}
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		t.Skip("GOGC or GOMEMLIMIT are set: the collector's pace is the user's")
	}
	const ring = 64 << 20
	s := serve(t, nil, "--ring-size", "64MiB")
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	for range 4 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events/full", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
	}
	line := `{"topic":"full","data":"` + strings.Repeat("x", 1000) + "\"}\n"
	batch := strings.Repeat(line, 1000)
	for range 4 * ring / len(batch) {
		resp, err := http.Post(s.url+"/publish", "application/x-ndjson", strings.NewReader(batch))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", resp.Status, body, err)
		}
	}
	got, bound := residentPeak(t, s.cmd.Process.Pid), ring+ring*3/10+50<<20
	t.Logf("at most %d MiB resident with a ring of %d MiB; the bound is %d MiB", got>>20, ring>>20, bound>>20)
	if got > bound {
		t.Errorf("%d MiB resident with a ring of %d MiB, want at most %d MiB", got>>20, ring>>20, bound>>20)
	}
}

// residentPeak is the most memory that a process has had resident, in bytes.
func residentPeak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	t.Fatal(errors.New("no VmHWM in /proc"))
	return 0
}
