package main

// The command memory: what topics, audiences, watchlists and streams cost, on a live server. Each
// figure is the growth of its live heap (after a collection, without the ring) by a known number
// of things, and of the kernel's memory where it says so: docs/capacity.md.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

// A weighing is a server under the scales, and the streams that are held of it.
type weighing struct {
	base, debug string
	header      string // of requests for streams: whole lines
	port        string
	streams     []net.Conn
}

// A weight is the memory in use at a moment, in bytes.
type weight struct {
	heap, ring, resident int64
	kernel               int64 // of the whole machine, slabs of sockets and their buffers
}

// step is a line of the table: what was added, and how many.
type step struct {
	what, unit string
	count      int64
	flags      []string
	before     func(*weighing) error // not weighed
	add        func(*weighing) error
}

// name is a topic's: 12 bytes, as ordinary names are.
func topicName(i int) string { return fmt.Sprintf("load.t%06d", i) }

// watchlist is list k: 50 of so many topics, drawn evenly.
func watchlist(k, of int) []string {
	rng := rand.New(rand.NewPCG(1, uint64(k)))
	var list []string
	for len(list) < 50 {
		if t := topicName(rng.IntN(of)); !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

func steps() []step {
	published := func(n, size int) func(*weighing) error {
		return func(w *weighing) error { return w.publish(n, size) }
	}
	return []step{
		{"a topic, published to once", "topic", 100_000, nil, nil, published(100_000, 100)},
		{"its newest event when the ring has passed it (frame of 150 B, --keep 1)", "topic", 100_000, []string{"--ring-size", "1MiB", "--max-event-size", "64KiB"}, nil,
			func(w *weighing) error { return errors.Join(w.publish(100_000, 100), w.fill(4<<20)) }},
		{"a topic that is only subscribed to (200 streams of 300 each)", "topic", 60_000, nil, nil,
			func(w *weighing) error {
				return w.subscribe(200, func(k int) string {
					var list []string
					for i := range 300 {
						list = append(list, topicName(k*300+i))
					}
					return query(list)
				})
			}},
		{"a stream of a shared audience", "stream", 10_000, nil, published(1, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(int) string { return query([]string{topicName(0)}) })
			}},
		{"the same by the long way (a head of over 4 KiB)", "stream", 10_000, nil, published(1, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(int) string { return query([]string{topicName(0)}) + "&_=" + strings.Repeat("x", 4<<10) })
			}},
		{"a compressed stream of a shared audience (gzip)", "stream", 10_000, nil, published(1, 100),
			func(w *weighing) error {
				w.header = "Accept-Encoding: gzip\r\n"
				return w.subscribe(10_000, func(int) string { return query([]string{topicName(0)}) })
			}},
		{"a stream that is an audience of its own (one topic each, published before)", "stream", 10_000, nil, published(10_000, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(k int) string { return query([]string{topicName(k)}) })
			}},
		{"the same with `mode=latest&interval=250ms`", "stream", 10_000, nil, published(10_000, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(k int) string { return query([]string{topicName(k)}) + "&mode=latest&interval=250ms" })
			}},
		{"a topic in a watchlist: 10,000 different ones of 50 out of 5,000", "watched topic", 500_000, nil, published(5_000, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(k int) string { return query(watchlist(k, 5_000)) })
			}},
		{"the same with `mode=latest&interval=250ms`", "watched topic", 500_000, nil, published(5_000, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(k int) string { return query(watchlist(k, 5_000)) + "&mode=latest&interval=250ms" })
			}},
		{"100,000 topics and 10,000 different watchlists of 50, all in all", "", 1, nil, nil,
			func(w *weighing) error {
				return errors.Join(w.publish(100_000, 100), w.subscribe(10_000, func(k int) string { return query(watchlist(k, 100_000)) }))
			}},
		{"a stream of a pattern that all share, beside 10,000 topics", "stream", 10_000, nil, published(10_000, 100),
			func(w *weighing) error { return w.subscribe(10_000, func(int) string { return "topic=load.*" }) }},
		{"a pattern of its own, which matches nothing", "stream", 10_000, nil, published(10_000, 100),
			func(w *weighing) error {
				return w.subscribe(10_000, func(k int) string { return "topic=none.p" + strconv.Itoa(k) + ".*" })
			}},
		{"a topic that a pattern matches (100 patterns of all 10,000, judged)", "pair", 1_000_000, nil,
			func(w *weighing) error {
				return errors.Join(w.publish(10_000, 100), w.subscribe(100, func(k int) string { return "topic=none.p" + strconv.Itoa(k) + ".*" }))
			},
			func(w *weighing) error {
				return errors.Join(w.subscribe(100, func(k int) string { return "topic=load.*&topic=own.p" + strconv.Itoa(k) }), w.publish(10_000, 100))
			}},
	}
}

// memory weighs and writes bench/results/memory.md.
func (s *session) memory(ctx context.Context) error {
	m := loadtest.ThisMachine()
	var b strings.Builder
	fmt.Fprintf(&b, "# What memory is used for\n\n%s, Penstock %s, on %s, %s. Live heap of the server after a collection, without the ring; RSS has the ring and garbage in it; topics have names of 12 bytes. Again: `go run ./bench memory`\n\n",
		today(), s.version(ctx), m.CPU, m.Kernel)
	fmt.Fprintf(&b, "| what | number | heap each | RSS each | kernel each, both ends | heap in all |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, st := range steps() {
		grown, err := s.weigh(ctx, &st)
		if err != nil {
			return fmt.Errorf("%s: %w", st.what, err)
		}
		each := func(v int64) string {
			if st.count == 1 {
				return "-"
			}
			return quantity(float64(v)/float64(st.count), "B")
		}
		kernel := "-"
		if strings.HasSuffix(st.unit, "stream") {
			kernel = each(grown.kernel)
		}
		line := fmt.Sprintf("| %s | %s | %s | %s | %s | %.1f MB |\n", st.what, thousands(float64(st.count)), each(grown.heap), each(grown.resident), kernel, float64(grown.heap)/1e6)
		fmt.Fprint(os.Stderr, line)
		b.WriteString(line)
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.out, "memory.md"), []byte(b.String()), 0o644)
}

// weigh makes a server, adds what the step adds, and answers how much memory that took.
func (s *session) weigh(ctx context.Context, st *step) (grown weight, err error) {
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return grown, err
	}
	debug := door.Addr().String()
	door.Close()
	p := peers.With("penstock", append([]string{"--debug", debug, "--heartbeat", "1h", "--ring-size", "64MiB"}, st.flags...)...)
	r, err := p.Start(ctx, &s.peers)
	if err != nil {
		return grown, err
	}
	w := &weighing{base: r.Base, debug: debug, port: strings.TrimPrefix(r.Base, "http://")}
	defer func() {
		for _, c := range w.streams {
			c.(*net.TCPConn).SetLinger(0) // no ports that wait
			c.Close()
		}
		r.Stop()
	}()
	if st.before != nil {
		if err := st.before(w); err != nil {
			return grown, err
		}
	}
	before, err := w.now(r.PID())
	if err != nil {
		return grown, err
	}
	if err := st.add(w); err != nil {
		return grown, err
	}
	after, err := w.now(r.PID())
	return weight{after.heap - after.ring - before.heap + before.ring, 0, after.resident - before.resident, after.kernel - before.kernel}, err
}

// now weighs.
func (w *weighing) now(pid int) (weight, error) {
	var at weight
	for range 2 { // what pools hold goes with the second collection
		text, err := get("http://" + w.debug + "/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			return at, err
		}
		at.heap = number(text, "# HeapAlloc = ")
	}
	text, err := get(w.base + "/metrics")
	if err != nil {
		return at, err
	}
	at.ring = number(text, "penstock_ring_allocated_bytes ")
	if at.ring == 0 {
		at.ring = number(text, "penstock_ring_bytes ")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return at, err
	}
	at.resident = number(status, "VmRSS:") << 10
	at.kernel = kernelMemory()
	return at, nil
}

// kernelMemory is what sockets take of the kernel's memory, machine-wide: their slabs, which root
// may read, else all slabs; and the pages of their buffers.
func kernelMemory() int64 {
	var sum int64
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		sum += number(text, "Slab:") << 10
	}
	if text, err := os.ReadFile("/proc/net/sockstat"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 10 && f[0] == "TCP:" {
				pages, _ := strconv.ParseInt(f[10], 10, 64) // a kernel that says it otherwise has none
				sum += pages * int64(os.Getpagesize())
			}
		}
	}
	return sum
}

// number finds the number after a word at a line's beginning; 0 where there is none.
func number(text []byte, word string) int64 {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(word))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) > 0 {
			v, _ := strconv.ParseFloat(string(f[0]), 64) // what is no number is none
			return int64(v)
		}
	}
	return 0
}

func get(url string) ([]byte, error) {
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return b, err
}

// publish publishes once to each of the first n topics.
func (w *weighing) publish(n, size int) error {
	data := strings.Repeat("x", size)
	return w.lines(n, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, "{\"topic\":%q,\"data\":%q}\n", topicName(i), data) })
}

// fill publishes so many bytes to a topic aside.
func (w *weighing) fill(size int) error {
	data := strings.Repeat("x", 1000)
	return w.lines(size/1000, func(b *bytes.Buffer, _ int) { fmt.Fprintf(b, "{\"topic\":\"aside\",\"data\":%q}\n", data) })
}

// lines publishes n lines of NDJSON.
func (w *weighing) lines(n int, line func(*bytes.Buffer, int)) error {
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	for from := 0; from < n; from += 1000 {
		var b bytes.Buffer
		for i := from; i < min(n, from+1000); i++ {
			line(&b, i)
		}
		resp, err := client.Post(w.base+"/publish", "application/x-ndjson", &b)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("publish: %s", resp.Status)
		}
	}
	return nil
}

func query(topics []string) string { return "topic=" + strings.Join(topics, ",") }

// subscribe opens n streams and waits for the first bytes of each.
func (w *weighing) subscribe(n int, query func(k int) string) error {
	buf := bufio.NewReaderSize(nil, 4096)
	for k := range n {
		c, err := net.Dial("tcp", w.port)
		if err != nil {
			return err
		}
		w.streams = append(w.streams, c)
		if _, err := fmt.Fprintf(c, "GET /events?%s HTTP/1.1\r\nHost: bench\r\n%s\r\n", query(k), w.header); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf.Reset(c)
		status, err := buf.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.Contains(status, " 200 ") {
			return fmt.Errorf("subscribe: %s", strings.TrimSpace(status))
		}
	}
	return nil
}
