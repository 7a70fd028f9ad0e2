package main

// Upgrades with real processes: SIGUSR2, what its streams and publishers see of it, who may not.

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"penstock/encode"
)

// A watcher is one stream over one connection, and what it has seen.
type watcher struct {
	kind string
	conn net.Conn
	mu   sync.Mutex
	ids  []uint64
	seen []int // the events' numbers
	gaps int
	err  error // how the stream ended; nil while it is there
	hold chan struct{}
}

// watch opens a stream. With hold, it is not read before that is closed.
func (s *served) watch(t *testing.T, kind, path string, header http.Header, hold chan struct{}) *watcher {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	req, _ := http.NewRequest("GET", s.url+path, nil)
	req.Header = header
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %v", path, resp, err)
	}
	w := &watcher{kind: kind, conn: conn, hold: hold}
	go w.read(resp)
	return w
}

func (w *watcher) read(resp *http.Response) {
	if w.hold != nil {
		<-w.hold
	}
	end := func(err error) {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			end(err)
			return
		}
		body = z
	}
	var d encode.Decoder
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		w.mu.Lock()
		derr := d.Decode(buf[:n], func(e *encode.Decoded) {
			switch {
			case string(e.Type) == "gap":
				w.gaps++
			case e.HasData && e.HasID:
				id, _ := encode.ParseID(e.ID)
				w.ids = append(w.ids, id)
				text, _, _ := strings.Cut(string(e.Data), " ")
				n, _ := strconv.Atoi(text)
				w.seen = append(w.seen, n)
			}
		})
		w.mu.Unlock()
		if err == nil {
			err = derr
		}
		if err != nil {
			end(fmt.Errorf("it ended: %w", err))
			return
		}
	}
}

func (w *watcher) newest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ids) == 0 {
		return 0
	}
	return w.ids[len(w.ids)-1]
}

// upgradeTo sends SIGUSR2 to a process and returns the one that has taken over.
func (s *served) upgradeTo(t *testing.T, pid int) int {
	t.Helper()
	before := strings.Count(s.said(), `"msg":"handed over"`)
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	to := 0
	poll(t, "it hands over", func() bool {
		said := s.said()
		if strings.Contains(said, "the upgrade has failed") {
			t.Fatal(said)
		}
		if strings.Count(said, `"msg":"handed over"`) == before {
			return false
		}
		for line := range strings.Lines(said) {
			var l struct {
				Msg string
				To  int
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "handed over" {
				to = l.To
			}
		}
		return strings.Count(said, `"msg":"serving"`) > before+1
	})
	t.Cleanup(func() { _ = syscall.Kill(to, syscall.SIGKILL) })
	return to
}

// publishLines publishes batches over one connection after the other until it is stopped, and
// returns the numbers of the events that were acknowledged.
func (s *served) publishLines(t *testing.T, stop chan struct{}, newest, batches *atomic.Uint64) (acknowledged []int, failures int) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return acknowledged, failures
		default:
		}
		var b strings.Builder
		for i := range 10 {
			fmt.Fprintf(&b, `{"topic":"t.%d","data":"%d %s"}`+"\n", i%3, n*10+i, strings.Repeat("x", 2000))
		}
		resp, err := client.Post(s.url+"/publish", "application/x-ndjson", strings.NewReader(b.String()))
		if err != nil {
			failures++
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var answer struct{ LastID string }
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil {
			failures++
			if failures > 1000 {
				t.Errorf("publishing: %s %s", resp.Status, body)
				return acknowledged, failures
			}
			continue
		}
		for i := range 10 {
			acknowledged = append(acknowledged, n*10+i)
		}
		id, _ := strconv.ParseUint(answer.LastID, 10, 64)
		newest.Store(id)
		batches.Add(1)
	}
}

var lagging = regexp.MustCompile(`(?m)^penstock_lagging_subscribers(\{.*\})? [1-9]`)

// Three upgrades in a row under load: no stream of any kind ends, and each has every acknowledged
// event, once and in order.
func TestUpgradesAreNotNoticed(t *testing.T) {
	s := serve(t, nil, "--ring-size", "64MiB", "--shards", "2", "--drain-time", "0s")
	hold := make(chan struct{})
	zip := http.Header{"Accept-Encoding": {"gzip"}}
	var all []*watcher
	for range 50 {
		all = append(all,
			s.watch(t, "all", "/events/t.0,t.1,t.2", nil, nil),
			s.watch(t, "all", "/events/t.0,t.1,t.2", zip, nil),
			s.watch(t, "all", "/events/t.*", nil, nil),
			s.watch(t, "all", "/events/t.0,t.1,t.2?interval=250ms", zip, nil),
			s.watch(t, "latest", "/events/t.*?mode=latest", zip, nil),
		)
	}
	for range 25 {
		all = append(all,
			s.watch(t, "all", "/events/t.*", nil, hold),
			s.watch(t, "all", "/events/t.0,t.1,t.2", zip, hold),
		)
	}
	stop := make(chan struct{})
	var publisher sync.WaitGroup
	var acknowledged []int
	var failures int
	var newest, batches atomic.Uint64
	publisher.Go(func() { acknowledged, failures = s.publishLines(t, stop, &newest, &batches) })
	further := func() {
		was := batches.Load()
		poll(t, "publishing goes on", func() bool { return batches.Load() > was+20 })
	}
	poll(t, "those who do not read lag", func() bool {
		_, metrics := s.get("/metrics")
		return lagging.MatchString(metrics)
	})
	pid := s.cmd.Process.Pid
	for i := range 3 {
		further()
		pid = s.upgradeTo(t, pid)
		further()
		if i == 1 {
			close(hold)
		}
	}
	close(stop)
	publisher.Wait()
	last := newest.Load()
	t.Logf("%d events, %d publishes to be tried again", len(acknowledged), failures)
	for i, w := range all {
		poll(t, fmt.Sprintf("stream %d (%s) has the last event", i, w.kind), func() bool {
			w.mu.Lock()
			err := w.err
			w.mu.Unlock()
			if err != nil {
				t.Fatalf("stream %d (%s): %v\n%s", i, w.kind, err, s.said())
			}
			return w.newest() >= last
		})
		if t.Failed() {
			return
		}
		w.mu.Lock()
		if !slices.IsSorted(w.ids) || len(slices.Compact(slices.Clone(w.ids))) != len(w.ids) {
			t.Errorf("stream %d: ids out of order, or doubled", i)
		}
		if w.gaps > 0 {
			t.Errorf("stream %d: %d gaps", i, w.gaps)
		}
		if w.kind == "all" {
			missing := 0
			for _, n := range acknowledged {
				if _, ok := slices.BinarySearch(w.seen, n); !ok {
					missing++
				}
			}
			if missing > 0 {
				t.Errorf("stream %d lacks %d of %d acknowledged events", i, missing, len(acknowledged))
			}
		}
		w.mu.Unlock()
	}
	if failures > 30 {
		t.Errorf("%d publishes failed around three upgrades", failures)
	}
	if status, _ := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d", status)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "the last one drains", func() bool { return strings.Contains(s.said(), `"msg":"drained"`) })
}

// What is installed under the program's name is what is started, and a failure is told.
func TestUpgradeStartsWhatIsInstalled(t *testing.T) {
	program := t.TempDir() + "/penstock"
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	s := &served{ended: make(chan struct{})}
	s.cmd = exec.Command(program, "serve", "--listen", "127.0.0.1:0")
	s.start(t, nil)
	s.wait(t)
	r := s.stream(t, "news")
	old := program + ".old"
	if err := os.Rename(program, old); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho this is the new one >&2\nexit 9\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	poll(t, "it tells that this has failed", func() bool {
		said := s.said()
		return strings.Contains(said, "this is the new one") && strings.Contains(said, "the upgrade has failed") && strings.Contains(said, "exit status 9")
	})
	if err := os.Rename(old, program); err != nil {
		t.Fatal(err)
	}
	pid := s.upgradeTo2(t)
	resp, err := http.Post(s.url+"/publish/news", "text/plain", strings.NewReader("by the new one"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "data: by the new one\n" {
			break
		}
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
}

// upgradeTo2 is upgradeTo for one that has failed before.
func (s *served) upgradeTo2(t *testing.T) int {
	t.Helper()
	s.mu.Lock()
	text := strings.ReplaceAll(s.stderr.String(), "the upgrade has failed", "it had failed")
	s.stderr.Reset()
	s.stderr.WriteString(text)
	s.mu.Unlock()
	return s.upgradeTo(t, s.cmd.Process.Pid)
}

// As process 1 of a container it hands over to nobody, and says what to do.
func TestFirstProcessRefusesToUpgrade(t *testing.T) {
	if out, err := exec.Command("unshare", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("no PID namespace can be had here: %v %s", err, out)
	}
	s := &served{ended: make(chan struct{})}
	s.cmd = exec.Command("unshare", "--pid", "--fork", "--kill-child", os.Args[0], "serve", "--listen", "127.0.0.1:0")
	s.start(t, nil)
	s.wait(t)
	s.stream(t, "news")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.cmd.Process.Pid, s.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	poll(t, "it says why not", func() bool { return strings.Contains(s.said(), "process 1 can't hand over") })
	if status, _ := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d", status)
	}
}

// serve --upgrade finds the server by its address, and tells what came of it.
func TestServeUpgradeFindsTheServer(t *testing.T) {
	s := serve(t, nil)
	address := strings.TrimPrefix(s.url, "http://")
	ask := func(address string) (string, error) {
		cmd := exec.Command(os.Args[0], "serve", "--upgrade", "--listen", address)
		cmd.Env = append(os.Environ(), beCommand+"=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	r := s.stream(t, "news")
	out, err := ask(address)
	if want := fmt.Sprintf("process %d has handed over to process ", s.cmd.Process.Pid); err != nil || !strings.Contains(out, want) {
		t.Fatalf("%v: %s; want %q", err, out, want)
	}
	now := 0
	_, _ = fmt.Sscanf(out[strings.LastIndex(out, " ")+1:], "%d", &now)
	t.Cleanup(func() { _ = syscall.Kill(now, syscall.SIGKILL) })
	resp, err := http.Post(s.url+"/publish/news", "text/plain", strings.NewReader("new"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if line, err := r.ReadString('\n'); err != nil || line != "data: new\n" {
		t.Errorf("the stream goes on with %q %v", line, err)
	}
	if out, err := ask("127.0.0.1:1"); err == nil || !strings.Contains(out, "no process") {
		t.Errorf("where nobody listens: %v %s", err, out)
	}
	if out, err := ask("127.0.0.1:0"); err == nil || !strings.Contains(out, "port") {
		t.Errorf("without a port: %v %s", err, out)
	}
}

// SIGUSR2 while it drains changes nothing: it ends as it was told.
func TestUpgradeSignalWhileDrainingIsIgnored(t *testing.T) {
	s := serve(t, nil, "--drain-time", "500ms")
	s.stream(t, "news")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "it drains", func() bool { return strings.Contains(s.said(), `"msg":"draining"`) })
	if code := s.end(t, syscall.SIGUSR2); code != exitOK {
		t.Errorf("exit code %d; it said:\n%s", code, s.said())
	}
	if strings.Contains(s.said(), "handed over") {
		t.Error("it has handed over")
	}
}
