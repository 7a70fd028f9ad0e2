package tuning

// The looks of checks that are more than one number against another. Any goroutine.

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

func lookFiles(m *Machine, p Plan) verdict {
	need := p.Connections + FilesReserve
	v := verdict{severity: Fine, needed: count(need)}
	f, ok := m.Files()
	if !ok {
		v.severity = Unknown
		return v
	}
	v.now = fmt.Sprintf("%s (soft %s)", count(f.Hard), count(f.Soft))
	if f.Soft == f.Hard {
		v.now = count(f.Hard)
	}
	raised := Files{Soft: f.Hard, Hard: f.Hard}
	shards, each := raised.Tables(math.MaxInt, 1)
	v.bounds, v.most = true, min(max(raised.Connections(), shards*each), 1<<40)
	if raised.Connections() >= p.Connections {
		if f.Soft < f.Hard {
			v.note = "serve raises the soft limit by itself"
		}
		return v
	}
	limit := powerOfTwo(need)
	v.command = fmt.Sprintf("prlimit --nofile=%d penstock serve ...   (unit: LimitNOFILE=%d; docker run --ulimit nofile=%d)", limit, limit, limit)
	if v.most < p.Connections {
		v.severity = Fails
		v.note = fmt.Sprintf("even %s shards with tables of their own hold %s", count(shards), count(v.most))
		return v
	}
	v.severity = Advice
	shards, _ = raised.Tables(p.Connections, 1)
	v.note = fmt.Sprintf("serve --max-connections %d does with it, by %s with tables of their own", p.Connections, plural(shards, "shard"))
	return v
}

func lookPorts(m *Machine, p Plan) verdict {
	v := verdict{severity: Fine, needed: "any for the server"}
	r, ok := m.sysctl("net.ipv4.ip_local_port_range")
	if !ok || len(r) != 2 || r[0] < 0 || r[1] < r[0] || r[1] > 65535 {
		v.severity = Unknown
		return v
	}
	ports := r[1] - r[0] + 1
	v.now = fmt.Sprintf("%d to %d", r[0], r[1])
	if ports < p.Connections {
		v.severity = Advice
		v.note = fmt.Sprintf("a proxy or a load test on this machine needs %d addresses to connect from or to (on loopback: 127.0.0.2, 127.0.0.3, ...), or a unix socket",
			(p.Connections+ports-1)/ports)
		if ports < 64512 {
			v.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
		}
	}
	return v
}

// judgeMemory holds what is available against what the plan needs.
func judgeMemory(p Plan, available uint64) verdict {
	v := verdict{severity: Fine, needed: bytesText(p.Memory()), bounds: true, most: p.inMemory(available)}
	switch {
	case p.fixed() >= available:
		v.severity = Fails
		v.note = fmt.Sprintf("a ring of %s has no room, which takes %s with the program", bytesText(uint64(p.Ring)), bytesText(p.fixed()))
	case v.most < p.Connections:
		v.severity = Fails
		v.note = fmt.Sprintf("there is room for %s", plural(v.most, "stream"))
	case p.Memory()+p.busy() > available:
		v.severity = Slows
		v.note = fmt.Sprintf("idle streams fit; an event to all at once, and slow readers, take %s more", bytesText(p.busy()))
	}
	if v.severity == Fails {
		// The largest ring that leaves room for the streams, where one does.
		smaller := p
		smaller.Ring = 0
		if left := int64(available) - int64(smaller.Memory()); left*10/13>>20 >= 1 {
			v.command = fmt.Sprintf("penstock serve --ring-size %dMiB ...", left*10/13>>20)
		}
	}
	return v
}

func lookMemory(m *Machine, p Plan) verdict {
	total, available, ok := m.Memory()
	if !ok {
		return verdict{severity: Unknown, needed: bytesText(p.Memory())}
	}
	v := judgeMemory(p, available)
	v.now = fmt.Sprintf("%s of %s", bytesText(available), bytesText(total))
	return v
}

func lookGroupMemory(m *Machine, p Plan) verdict {
	g := m.group()
	if g.memory == 0 {
		return verdict{severity: Fine, now: "no limit", needed: bytesText(p.Memory())}
	}
	v := judgeMemory(p, g.memory-g.used)
	v.now = fmt.Sprintf("%s of %s", bytesText(g.memory-g.used), bytesText(g.memory))
	if v.severity != Fine {
		limit := bytesText((p.Memory() + p.busy() + 1<<30 - 1) >> 30 << 30)
		v.note = strings.TrimPrefix(v.note+"; set by "+g.where, "; ")
		v.command = strings.TrimPrefix(fmt.Sprintf("%s\nsystemctl set-property penstock.service MemoryMax=%s   (docker run --memory %[2]s; resources.limits.memory of the pod)",
			v.command, strings.NewReplacer(" GiB", "G", ".0", "").Replace(limit)), "\n")
	}
	return v
}

func lookTCPMemory(m *Machine, p Plan) verdict {
	const key = "net.ipv4.tcp_mem"
	need := p.Connections // a page each
	v := verdict{severity: Fine, needed: "pressure " + count(need)}
	pages, ok := m.sysctl(key)
	if !ok || len(pages) != 3 {
		v.severity = Unknown
		return v
	}
	v.now = fmt.Sprintf("%d %d %d", pages[0], pages[1], pages[2])
	if pages[1] >= need {
		return v
	}
	v.severity = Slows
	high := need * 2
	if total, _, ok := m.Memory(); ok {
		high = min(high, int(total/2)/m.pageSize()) // never more than half of the machine
	}
	if high*2/3 <= pages[1] {
		v.note = "it is as high as this machine's memory allows"
		return v
	}
	v.sysctl(key, fmt.Sprintf("%d %d %d", high/2, high*2/3, high))
	return v
}

// What Penstock sets for its own sockets needs no sysctl: these are shown, for whoever wonders.

func lookSendBuffers(m *Machine, _ Plan) verdict {
	return m.shown("net.ipv4.tcp_wmem", "any, as --notsent-lowat bounds it")
}

func lookUnsent(m *Machine, _ Plan) verdict {
	const key = "net.ipv4.tcp_notsent_lowat"
	v := m.shown(key, "any, as --notsent-lowat sets it")
	if unsent, ok := m.sysctl(key); ok && (unsent[0] < 0 || unsent[0] >= 1<<30) {
		v.now = "no limit"
	}
	return v
}

func lookHugePages(m *Machine, _ Plan) verdict {
	v := verdict{severity: Fine, needed: "any"}
	choice, ok := m.hugePages()
	if !ok {
		v.severity = Unknown
	}
	v.now = choice
	return v
}

func lookGoMemory(m *Machine, p Plan) verdict {
	need := p.fixed() + uint64(p.Connections)*processStream
	v := verdict{severity: Fine, now: "not set", needed: "none, or " + bytesText(need)}
	text := m.getenv("GOMEMLIMIT")
	limit, set, ok := parseMemoryLimit(text)
	if !set {
		return v
	}
	v.now = text
	switch {
	case !ok:
		v.severity, v.note = Slows, "this is no limit that Go reads: it ends at start with an error"
		v.command = "unset GOMEMLIMIT"
	case uint64(limit) < need:
		v.severity = Slows
		v.command = "unset GOMEMLIMIT"
	}
	return v
}

func lookBacklog(_ *Machine, p Plan) verdict {
	backlog := cmp.Or(p.Backlog, 4096)
	v := verdict{severity: Fine, now: count(backlog), needed: count(p.arriving())}
	if p.Backlog == 0 {
		v.now += ", the default"
	}
	if backlog < p.arriving() {
		v.severity = Advice // nobody has started a server with it yet
		if p.Backlog > 0 {
			v.severity = Slows
		}
		v.command = fmt.Sprintf("penstock serve --backlog %d ...", p.queue())
	}
	return v
}

func lookConntrack(m *Machine, p Plan) verdict {
	const key = "net.netfilter.nf_conntrack_max"
	need := p.Connections + p.Connections/4
	v := verdict{severity: Fine, needed: count(need)}
	most, ok := m.sysctl(key)
	if !ok {
		v.now, v.needed = "not loaded", ""
		return v
	}
	v.now = count(most[0])
	tracked, ok := m.sysctl("net.netfilter.nf_conntrack_count")
	atWork := !ok || tracked[0] > 0
	if atWork {
		v.bounds, v.most = true, max(0, most[0])
	}
	if most[0] >= need {
		return v
	}
	switch {
	case !atWork:
		v.severity, v.note = Advice, "loaded, but nothing is followed now: it counts from the first rule of a firewall on"
	case most[0] < p.Connections:
		v.severity = Fails
	default:
		v.severity = Slows
	}
	v.sysctl(key, strconv.Itoa(powerOfTwo(need)))
	return v
}

func lookCPU(m *Machine, p Plan) verdict {
	v := verdict{severity: Fine, needed: fmt.Sprintf("%s for heartbeats, %s for an event a second to all", cores(p.beats()), cores(float64(p.Connections)*sendMicros/1e6))}
	n, ok := m.Cores()
	if !ok {
		v.severity = Unknown
		return v
	}
	has, g := float64(n), m.group()
	v.now = plural(n, "core")
	if g.cpus > 0 && g.cpus < has {
		has = g.cpus
		v.now = fmt.Sprintf("%s of %d, by %s", cores(has), n, g.cpuFile)
		if g.slowed > 0 {
			v.note = fmt.Sprintf("the quota has been used up %s times", count(g.slowed))
		}
	}
	v.bounds, v.most = true, int(has/p.beats()*float64(p.Connections))
	switch {
	case p.beats() > has:
		v.severity = Fails
		v.note = "heartbeats alone take more"
		v.command = fmt.Sprintf("penstock serve --heartbeat %.0fs ...", math.Ceil(cmp.Or(p.Heartbeat, 15*time.Second).Seconds()*p.beats()/has*2))
	case p.beats() > has/2:
		v.severity = Slows
		v.note = "heartbeats take more than half of it"
		v.command = fmt.Sprintf("penstock serve --heartbeat %.0fs ...", math.Ceil(cmp.Or(p.Heartbeat, 15*time.Second).Seconds()*p.beats()/has*2))
	}
	return v
}

func lookGoProcs(m *Machine, _ Plan) verdict {
	v := verdict{severity: Fine, now: "not set", needed: "not set"}
	text := m.getenv("GOMAXPROCS")
	if text == "" {
		return v
	}
	v.now = text
	set, err := strconv.Atoi(text)
	n, ok := m.Cores()
	if err != nil || set < 1 {
		v.note = "Go ignores it"
		return v
	}
	if !ok {
		return v
	}
	has := float64(n)
	if g := m.group(); g.cpus > 0 {
		has = min(has, g.cpus)
	}
	v.needed = "not set, or up to " + strconv.Itoa(max(1, int(has+0.99)))
	if float64(set) >= has+1 {
		v.severity = Slows
		v.command = "unset GOMAXPROCS"
	}
	return v
}

func lookDropped(m *Machine, _ Plan) verdict {
	const key = "net.core.netdev_max_backlog"
	v := m.atLeast(key, 1000, 4096, Advice)
	v.needed = "nothing dropped"
	dropped, ok := m.dropped()
	if !ok || v.now == "" {
		return v
	}
	v.now += ", dropped " + count(dropped)
	if values, _ := m.sysctl(key); dropped > 0 {
		v.severity, v.set, v.command = Advice, nil, ""
		v.note = "dropped since boot; raise it if the number grows"
		v.sysctl(key, strconv.Itoa(max(4096, powerOfTwo(min(values[0], 1<<30)+1))))
	}
	return v
}

func lookQueues(m *Machine, p Plan) verdict {
	v := verdict{severity: Fine}
	cards := m.cards()
	n, ok := m.Cores()
	if len(cards) == 0 || !ok {
		v.severity = Unknown
		return v
	}
	v.needed = fmt.Sprintf("as many as cores (%d), or RPS", n)
	var now []string
	for _, c := range cards {
		text := c.name + " " + strconv.Itoa(len(c.queues))
		if c.steered {
			text += " and RPS"
		}
		now = append(now, text)
		// From some ten thousand streams on one core's interrupts may be what is full.
		if len(c.queues) == 1 && n > 1 && !c.steered && p.Connections >= 10_000 {
			v.severity = Advice
			if v.command != "" {
				v.command += "\n"
			}
			v.command += fmt.Sprintf("echo %s > /sys/class/net/%s/queues/%s/rps_cpus", cpuMask(n), c.name, c.queues[0])
		}
	}
	v.now = strings.Join(now, ", ")
	return v
}

func lookInterrupts(m *Machine, p Plan) verdict {
	v := verdict{severity: Unknown, needed: "several, where there are several queues"}
	n, _ := m.Cores()
	var now []string
	for _, c := range m.cards() {
		if len(c.irqs) == 0 {
			continue
		}
		now = append(now, fmt.Sprintf("%s %d on %s", c.name, len(c.irqs), plural(len(c.cpus), "core")))
		if len(c.queues) > 1 && len(c.cpus) == 1 && n > 1 && !c.steered && p.Connections >= 10_000 {
			v.severity = Advice
			v.note = fmt.Sprintf("all interrupts of %s come to core %s", c.name, c.cpus[0])
			v.command = "systemctl enable --now irqbalance"
		}
	}
	if len(now) > 0 {
		v.now = strings.Join(now, ", ")
		if v.severity == Unknown {
			v.severity = Fine
		}
	}
	return v
}

// cpuMask is the mask of the first n CPUs as /sys takes it: groups of 32 bits in hexadecimal.
func cpuMask(n int) string {
	var groups []string
	for ; n > 0; n -= 32 {
		groups = append([]string{fmt.Sprintf("%x", uint64(1)<<min(n, 32)-1)}, groups...)
	}
	return strings.Join(groups, ",")
}

// Room is what there is for connections in the memory that is available to this process.
type Room struct {
	Connections int  // idle streams, beside the ring
	Known       bool // false where the memory can't be read, or where not even the ring has room
}

// Room says how many connections have room in memory beside the plan's ring: that of the machine
// or of the control group, whichever is less.
func (m *Machine) Room(p Plan) Room {
	_, available, ok := m.Memory()
	if g := m.group(); g.memory > 0 && (!ok || g.memory-g.used < available) {
		available, ok = g.memory-g.used, true
	}
	n := p.inMemory(available)
	return Room{Connections: n, Known: ok && n > 0}
}
