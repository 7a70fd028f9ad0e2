package fanout

// Scenarios: a shard stepped by hand, in text files.
//
// A file of testdata is blocks with an empty line between them: commands, then
// "----", then what every subscriber received by them, in the order of their first
// subscription. `go test ./server/fanout -run Scenario -update` writes what is
// received now; read the diff.
//
//	subscribe NAME TOPIC,TOPIC [after=ID] [bad=TEXT] [http10] [gzip] [events] [form=topic|envelope]
//	          [hello] [snapshot] [latest] [interval=D] [onlag=latest|close] [rewind=N|Ds|all] [room=BYTES]
//	publish TOPIC [xN] [size=BYTES]
//	end TOPIC
//	block NAME [room=BYTES]      its socket takes so many more bytes, then none
//	unblock NAME [room=BYTES]    its socket takes bytes again, all or so many
//	read NAME                    its client reads a byte, which does not make room yet
//	hangup NAME                  the client closes
//	fail CALL ERRNO|ok           what a system call answers from now on
//	pass                         one pass
//	settle                       passes until one finds nothing
//	sleep DURATION               the clock moves, and the shard does not pass meanwhile
//	advance DURATION             the clock moves, a tick at a time, a pass for each
//	drain DURATION
//	stat                         counters that a scenario may care for

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

var update = flag.Bool("update", false, "write the scenarios' outcomes")

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if got == string(text) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s differs; it now is\n%s", file, got)
		})
	}
}

// A player runs one scenario.
type player struct {
	t     *testing.T
	house *house
	names []string
	who   map[string]*socket
	reads map[string]*reading
}

// play runs a scenario and returns it with what came out.
func play(t *testing.T, text string) string {
	p := &player{t: t, who: map[string]*socket{}, reads: map[string]*reading{}}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands)
		var said []string
		if i == 0 {
			p.options(commands)
		} else {
			for _, line := range strings.Split(strings.TrimRight(commands, "\n"), "\n") {
				if line != "" && line[0] != '#' {
					said = append(said, p.do(strings.Fields(line))...)
				}
			}
		}
		for _, name := range p.names {
			if s := p.who[name].read(p.reads[name]); s != "" {
				said = append(said, name+": "+s)
			}
		}
		if len(said) > 0 {
			out.WriteString("----\n" + strings.Join(said, "\n") + "\n")
		}
	}
	return out.String()
}

// options reads the first block: comments, and a line "ring=64KiB" and so on.
func (p *player) options(text string) {
	var o houseOptions
	slice, most := mostSlice, mostRead
	for _, word := range strings.Fields(text) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		n, _ := strconv.Atoi(value)
		switch name {
		case "ring":
			o.ringSize = n
		case "max-topics":
			o.maxTopics = n
		case "keep":
			o.keep = n
		case "flush-max":
			o.flushMax = n
		case "lag-memory":
			o.lagMemory = int64(n)
		case "share":
			o.share = n
		case "heartbeat":
			o.heartbeat, _ = time.ParseDuration(value)
		case "max-lag":
			o.maxLag = n
		case "max-age":
			o.maxAge, _ = time.ParseDuration(value)
		case "stall":
			o.stall, _ = time.ParseDuration(value)
		case "max-event":
			o.maxEvent = n
		case "slice":
			slice = n
		case "pass":
			most = n
		}
	}
	p.house = newHouse(p.t, o)
	p.house.sh.sliceBytes, p.house.sh.passBytes = slice, ring.Position(most)
}

func (p *player) do(words []string) []string {
	args := map[string]string{}
	var plain []string
	for _, w := range words[1:] {
		if name, value, ok := strings.Cut(w, "="); ok {
			args[name] = value
		} else {
			plain = append(plain, w)
		}
	}
	has := func(word string) bool {
		for _, w := range plain {
			if w == word {
				return true
			}
		}
		return false
	}
	number := func(name string, or int) int {
		if v, ok := args[name]; ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
		return or
	}
	h := p.house
	switch words[0] {
	case "subscribe":
		sub := &Subscription{HTTP10: has("http10"), HeartbeatEvent: has("events"), BadID: args["bad"],
			Form: map[string]encode.Form{"": encode.FormType, "topic": encode.FormTopic, "envelope": encode.FormEnvelope}[args["form"]]}
		if has("gzip") {
			sub.Coding = encode.Gzip
		}
		sub.Topics = nil
		for _, name := range strings.Split(plain[1], ",") {
			if pattern, err := topic.ParsePattern(name); err != nil {
				p.t.Fatal(err)
			} else if pattern.Plain() {
				sub.Topics = append(sub.Topics, name)
			} else {
				sub.Patterns = append(sub.Patterns, pattern)
			}
		}
		sub.Snapshot, sub.Latest, sub.Hello = has("snapshot"), has("latest"), has("hello")
		sub.OnLag = map[string]OnLag{"": OnLagGap, "latest": OnLagLatest, "close": OnLagClose}[args["onlag"]]
		sub.Interval, _ = time.ParseDuration(args["interval"])
		switch r := args["rewind"]; {
		case r == "all":
			sub.Rewind.All = true
		case strings.HasSuffix(r, "s"):
			sub.Rewind.Since, _ = time.ParseDuration(r)
		default:
			sub.Rewind.Count = number("rewind", 0)
		}
		if _, ok := args["after"]; ok {
			sub.Resume, sub.LastID = true, uint64(number("after", 0))
		}
		if p.who[plain[0]] == nil {
			p.names = append(p.names, plain[0])
		}
		p.who[plain[0]], p.reads[plain[0]] = h.subscribe(sub), &reading{}
		p.who[plain[0]].room = number("room", -1)
	case "publish":
		n := 1
		for _, w := range plain[1:] {
			n, _ = strconv.Atoi(strings.TrimPrefix(w, "x"))
		}
		for range n {
			h.publish(p.t, plain[0], strings.Repeat("d", number("size", 10)))
		}
	case "end":
		h.micros++
		if _, err := h.seq.End(plain[0]); err != nil {
			p.t.Fatal(err)
		}
	case "block":
		h.ground.take(p.who[plain[0]], number("room", 0))
	case "unblock":
		h.ground.take(p.who[plain[0]], number("room", -1))
	case "read":
		p.who[plain[0]].taken++
	case "hangup":
		h.ground.hangUp(p.who[plain[0]])
	case "fail":
		h.ground.fail[plain[0]] = map[string]syscall.Errno{"ok": 0, "EPIPE": syscall.EPIPE, "ENOMEM": syscall.ENOMEM, "ENOSPC": syscall.ENOSPC, "EAGAIN": syscall.EAGAIN, "ENOBUFS": syscall.ENOBUFS}[plain[1]]
	case "pass":
		h.pass(p.t)
	case "settle":
		h.settle(p.t)
	case "sleep":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			p.t.Fatal(err)
		}
		h.ground.time = h.ground.time.Add(d)
	case "advance":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			p.t.Fatal(err)
		}
		for end := h.ground.time.Add(d); h.ground.time.Before(end); {
			h.ground.time = h.ground.time.Add(tickTime)
			h.pass(p.t)
		}
	case "drain":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			p.t.Fatal(err)
		}
		h.sh.inbox.command(command{kind: commandDrain, spread: d})
	case "stat":
		s := h.sh.stats.snapshot()
		why := s.Disconnects[:]
		for len(why) > int(Aged) && why[len(why)-1] == 0 {
			why = why[:len(why)-1]
		}
		return []string{fmt.Sprintf("streams=%d audiences=%d lagging=%d held=%d sends=%d deliveries=%d heartbeats=%d resumes=%v gaps=%v disconnects=%v",
			s.Streams, s.Audiences, s.Lagging, s.LagBytes, s.Sends, s.Deliveries, s.Heartbeats, s.Resumes, s.Gaps, why)}
	default:
		p.t.Fatalf("no such command: %s", words[0])
	}
	return nil
}
