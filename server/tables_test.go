package server_test

// Descriptor tables of shards: more streams than the limit of open files allows a process.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// tableFacts is what a server in a process of its own says of itself.
type tableFacts struct {
	Address string
	Facts   []server.Fact
	Before  int // sockets in all tables before the first stream, and ...
	After   int // ... when the drain was over
	Tables  int // different ones, at the end
}

const tablesChild = "PENSTOCK_TEST_TABLES"

// serveTables is the process of its own: a server with a limit of 400, which drains when its input
// ends.
func serveTables(t *testing.T, connections int) {
	limit := syscall.Rlimit{Cur: 400, Max: 400}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	c := servertest.Config()
	c.MaxConnections = connections
	c.DrainTime = 500 * time.Millisecond
	srv, err := server.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := tableFacts{Address: srv.Addr().String(), Facts: srv.Facts()}
	f.Before, _ = socketsOfTables(t)
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(f)
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.Drain()
	// Clients may still have to hang up.
	for late := time.Now().Add(5 * time.Second); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
		if f.After, f.Tables = socketsOfTables(t); f.After <= f.Before {
			break
		}
	}
	_ = out.Encode(f)
	srv.Close()
}

// socketsOfTables counts the sockets in every descriptor table of this process, and the tables.
func socketsOfTables(t *testing.T) (sockets, tables int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, task := range tasks {
		dir := "/proc/self/task/" + task.Name() + "/fd/"
		names, err := os.ReadDir(dir)
		if err != nil {
			continue // the thread has ended
		}
		var all []string
		n := 0
		for _, name := range names {
			to, err := os.Readlink(dir + name.Name())
			if err == nil && strings.HasPrefix(to, "socket:") {
				n++
				all = append(all, to)
			}
		}
		// Threads that share a table show the same; each shard's has an end of a pair that
		// no other has.
		if key := strings.Join(all, " "); !seen[key] {
			seen[key] = true
			sockets += n
			tables++
		}
	}
	return sockets, tables
}

// Under a limit of 400 descriptors a server holds 1,200 streams, publishes to all of them, takes
// more as others leave, refuses who is one too many, and drains without a descriptor left in any
// table.
func TestMoreStreamsThanDescriptors(t *testing.T) {
	const most, streams = 1250, 1200
	if os.Getenv(tablesChild) != "" {
		serveTables(t, most)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*impatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMoreStreamsThanDescriptors$", "-test.count=1")
	cmd.Env = append(os.Environ(), tablesChild+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server's process: %v\n%s", err, stderr.String())
		}
	}()
	said := json.NewDecoder(stdout)
	var f tableFacts
	if err := said.Decode(&f); err != nil {
		t.Fatalf("the server's first words: %v\n%s", err, stderr.String())
	}
	facts := fmt.Sprint(f.Facts)
	for _, want := range []string{"up to 1250 connections (--max-connections 1250, descriptors in 5 shards with tables of their own 1360", "{shards 5 (cores:"} {
		if !strings.Contains(facts, want) {
			t.Errorf("the server says %s, want %q in it", facts, want)
		}
	}
	url := "http://" + f.Address
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	// open makes streams, 64 at a time; the long way for each tenth.
	var conns sync.Map // reader to connection
	open := func(n int) []*bufio.Reader {
		readers := make([]*bufio.Reader, n)
		var wg sync.WaitGroup
		for part := range 64 {
			wg.Go(func() {
				for i := part; i < n; i += 64 {
					conn, err := net.Dial("tcp", f.Address)
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { conn.Close() })
					conn.SetDeadline(time.Now().Add(2 * impatience))
					pad := ""
					if i%10 == 0 {
						pad = "X-Pad: " + strings.Repeat("p", 5000) + "\r\n"
					}
					fmt.Fprintf(conn, "GET /events/news HTTP/1.1\r\nHost: a\r\n%s\r\n", pad)
					readers[i] = bufio.NewReader(conn)
					conns.Store(readers[i], conn)
					if line, err := readers[i].ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
						t.Errorf("stream %d began with %q, %v", i, line, err)
					}
				}
			})
		}
		wg.Wait()
		return readers
	}
	publish := func(data string) {
		resp, err := client.Post(url+"/publish/news", "text/plain", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("publish: %s", resp.Status)
		}
	}
	// hear waits until everybody has heard it.
	hear := func(readers []*bufio.Reader, data string) {
		for i, r := range readers {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					t.Fatalf("stream %d: %v, while it waits for %q", i, err, data)
				}
				if line == "data: "+data+"\n" {
					break
				}
			}
		}
	}
	readers := open(streams)
	publish("to all")
	hear(readers, "to all")

	// What the figures say of the tables.
	var stats struct {
		Connections struct{ Streams int }
		Descriptors struct{ Open, Limit int }
		Shards      []struct {
			Streams     int
			Descriptors struct{ Open, Limit int }
		}
	}
	resp, err := client.Get(url + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	err = json.NewDecoder(resp.Body).Decode(&stats)
	resp.Body.Close()
	if err != nil || stats.Connections.Streams != streams || len(stats.Shards) != 5 || stats.Descriptors.Limit != 400 || stats.Descriptors.Open > 200 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	for i, sh := range stats.Shards {
		if d := sh.Descriptors; d.Limit != 400 || d.Open < sh.Streams || d.Open > 400 {
			t.Errorf("shard %d: %+v", i, sh)
		}
	}
	// One connection is the client's.
	readers = append(readers, open(most-streams-1)...)
	conn, err := net.Dial("tcp", f.Address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /events/news HTTP/1.1\r\nHost: a\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "HTTP/1.1 503 Service Unavailable\r\n" {
		t.Errorf("one too many got %q, %v", line, err)
	}
	conn.Close()
	publish("to more")
	hear(readers, "to more")

	// All end in good order.
	client.CloseIdleConnections()
	stdin.Close()
	for i, r := range readers {
		rest, err := io.ReadAll(r)
		if err != nil || !strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") {
			t.Errorf("stream %d ended with %q, %v", i, rest, err)
		}
		conn, _ := conns.Load(r)
		conn.(net.Conn).Close() // the server waits for it
	}
	if err := said.Decode(&f); err != nil {
		t.Fatalf("the server's last words: %v", err)
	}
	if f.After > f.Before || f.Tables < 6 {
		t.Errorf("%d sockets in %d tables after the drain, %d before the first stream", f.After, f.Tables, f.Before)
	}
}
