package tuning

// The checks: one table, in the order in which a person meets the limits. `penstock tune`, the line
// of limits that `penstock serve` says at start and the table in tuning.md are made from it. A
// check reads, judges and answers; it changes nothing. Any goroutine.

import (
	"fmt"
	"strings"
)

// A check is one thing to look at.
type check struct {
	id      string // the sysctl's name where it is one
	section string // of tuning.md
	what    string // what it is
	why     string // what it does to streams
	how     string // how it is set in general, where that is no sysctl
	look    func(m *Machine, p Plan) verdict
}

// A verdict is what a check has found.
type verdict struct {
	severity Severity
	now      string   // "" is unknown
	needed   string   // "" where nothing is
	note     string   // what is to be said of this machine, beside the check's why
	command  string   // how to set it here
	set      []Sysctl // what of it is the kernel's to set
	bounds   bool     // most says something
	most     int      // how many streams this allows
}

// checks is the table.
var checks = []check{
	{
		id: "RLIMIT_NOFILE", section: "Descriptors", what: "open files of a table of descriptors (ulimit -Hn)",
		why:  "each stream is a descriptor; a shard has a table of its own where one for all is too small, so that this decides the number of shards and not that of streams",
		how:  "`LimitNOFILE=1048576` in the unit, `docker run --ulimit nofile=1048576`, `prlimit --nofile=1048576 penstock serve`",
		look: lookFiles,
	},
	{
		id: "fs.nr_open", section: "Descriptors", what: "the highest limit of open files that can be set",
		why: "RLIMIT_NOFILE can't be set beyond it; shards do with less",
		look: func(m *Machine, p Plan) verdict {
			files, _ := m.Files()
			v := m.atLeast("fs.nr_open", p.Connections+FilesReserve, powerOfTwo(p.Connections+FilesReserve), Advice)
			if v.severity == Advice && files.Hard >= uint64(p.Connections+FilesReserve) {
				v.severity, v.set, v.command = Fine, nil, ""
			}
			return v
		},
	},
	{
		id: "fs.file-max", section: "Descriptors", what: "open files of the whole machine",
		why: "beyond it nothing can be accepted, whatever the process's own limit",
		look: func(m *Machine, p Plan) verdict {
			used := 0
			if nr, ok := m.sysctl("fs.file-nr"); ok {
				used = max(0, min(nr[0], 1<<40))
			}
			need := p.Connections + FilesReserve + used
			v := m.atLeast("fs.file-max", need, powerOfTwo(need), Fails)
			if most, ok := m.sysctl("fs.file-max"); ok {
				v.bounds, v.most = true, max(0, most[0]-used-FilesReserve)
			}
			return v
		},
	},
	{
		id: "fs.epoll.max_user_watches", section: "Descriptors", what: "sockets that one user may have in epoll sets",
		why: "each stream is in the epoll set of its shard; beyond it epoll_ctl fails with ENOSPC",
		look: func(m *Machine, p Plan) verdict {
			need := p.Connections + FilesReserve
			v := m.atLeast("fs.epoll.max_user_watches", need, powerOfTwo(need), Fails)
			if most, ok := m.sysctl("fs.epoll.max_user_watches"); ok {
				v.bounds, v.most = true, max(0, most[0]-FilesReserve)
			}
			return v
		},
	},
	{
		id: "net.ipv4.ip_local_port_range", section: "Ports", what: "ports to connect from",
		why:  "a server needs one port for all its streams; a proxy in front, or a load test, needs one for each stream and address it connects from or to",
		look: lookPorts,
	},
	{
		id: "net.ipv4.tcp_tw_reuse", section: "Ports", what: "whether a port in TIME_WAIT may be used again to connect",
		why: "means something to who connects; the server's side of a connection takes no port of its own",
		look: func(m *Machine, _ Plan) verdict {
			return m.shown("net.ipv4.tcp_tw_reuse", "any")
		},
	},
	{
		id: "memory", section: "Memory", what: "memory that is available",
		why:  "the ring with what collecting it costs, and for each stream at most 400 B of the process and about 4 KiB of the kernel; twice that while an event is on its way to all",
		how:  "`--ring-size`, fewer streams, a larger machine",
		look: lookMemory,
	},
	{
		id: "cgroup memory", section: "Memory", what: "memory that the control group (container, unit, pod) may use",
		why:  "the kernel's memory for sockets counts in it; beyond it the kernel ends the process",
		how:  "`MemoryMax=` in the unit, `docker run --memory`, `resources.limits.memory` of the pod",
		look: lookGroupMemory,
	},
	{
		id: "net.ipv4.tcp_mem", section: "Memory", what: "pages that all TCP buffers may take: low, pressure, high",
		why:  "an event that nobody has acknowledged yet takes a page of each stream; above the second value the kernel takes buffers back, above the third it drops what it is sent",
		look: lookTCPMemory,
	},
	{
		id: "net.ipv4.tcp_wmem", section: "Memory", what: "bytes of a socket's send buffer: least, first, most",
		why:  "a reader that sleeps would be sent to until the third value is full; serve --notsent-lowat (128KiB) ends that earlier",
		look: lookSendBuffers,
	},
	{
		id: "net.ipv4.tcp_notsent_lowat", section: "Memory", what: "bytes that may wait in a send buffer before a socket counts as full",
		why:  "without a bound a reader that sleeps fills its send buffer up to tcp_wmem; with one what it has not taken waits in the ring, which is there once for all",
		look: lookUnsent,
	},
	{
		id: "net.ipv4.tcp_rmem", section: "Memory", what: "bytes of a socket's receive buffer: least, first, most",
		why: "a subscriber sends nothing after its request, so that these are windows and not memory",
		look: func(m *Machine, _ Plan) verdict {
			return m.shown("net.ipv4.tcp_rmem", "any")
		},
	},
	{
		id: "transparent_hugepage", section: "Memory", what: "transparent huge pages",
		why:  "always makes the process some MiB larger while it holds little, and no larger once the ring is full",
		how:  "as it is",
		look: lookHugePages,
	},
	{
		id: "GOMEMLIMIT", section: "Memory", what: "the memory that Go's collector is to stay within",
		why:  "below what the process needs, collecting never ends; while it or GOGC is set, Penstock does not pace the collector to its ring by itself",
		how:  "leave it out, or set it to the process's share: ring x 1.3 + 50 MiB + 400 B a stream and some",
		look: lookGoMemory,
	},
	{
		id: "net.core.somaxconn", section: "Connections at once", what: "connections that may wait to be accepted, of a listener",
		why: "beyond it the kernel drops the connection, and its client tries again after one second, then two, four, ...",
		look: func(m *Machine, p Plan) verdict {
			return m.atLeast("net.core.somaxconn", p.arriving(), p.queue(), Slows)
		},
	},
	{
		id: "--backlog", section: "Connections at once", what: "how many of those serve asks for",
		why:  "the lesser of it and net.core.somaxconn holds",
		how:  "`penstock serve --backlog 32768`",
		look: lookBacklog,
	},
	{
		id: "net.ipv4.tcp_max_syn_backlog", section: "Connections at once", what: "connections half open, where syncookies are off",
		why: "with tcp_syncookies on the kernel asks --backlog instead",
		look: func(m *Machine, p Plan) verdict {
			v := m.atLeast("net.ipv4.tcp_max_syn_backlog", p.arriving(), p.queue(), Slows)
			if cookies, ok := m.sysctl("net.ipv4.tcp_syncookies"); v.severity == Slows && ok && cookies[0] != 0 {
				v.severity, v.needed, v.set, v.command = Fine, "any, as tcp_syncookies is on", nil, ""
			}
			return v
		},
	},
	{
		id: "net.ipv4.tcp_syncookies", section: "Connections at once", what: "cookies for connections half open: 1 when too many, 0 never, 2 always",
		why: "a flood, or a reconnecting crowd, that fills the queue keeps others out without them",
		look: func(m *Machine, _ Plan) verdict {
			v := m.shown("net.ipv4.tcp_syncookies", "1")
			if on, ok := m.sysctl("net.ipv4.tcp_syncookies"); ok && on[0] != 1 {
				v.severity = Slows
				v.sysctl("net.ipv4.tcp_syncookies", "1")
			}
			return v
		},
	},
	{
		id: "net.netfilter.nf_conntrack_max", section: "Connections at once", what: "connections that a firewall or NAT on this machine may follow",
		why:  "where connection tracking is at work (a firewall, docker's NAT), new connections beyond it are dropped in silence",
		how:  "`sysctl -w net.netfilter.nf_conntrack_max=...`, or do not track the port: `iptables -t raw -A PREROUTING -p tcp --dport 8080 -j NOTRACK` (and in OUTPUT `--sport 8080`)",
		look: lookConntrack,
	},
	{
		id: "net.ipv4.tcp_max_orphans", section: "Connections at once", what: "connections closed here whose last bytes are not acknowledged yet",
		why: "a drain closes all streams within --drain-time; beyond it the kernel resets them, and the end of a stream is lost",
		look: func(m *Machine, p Plan) verdict {
			need := max(1024, p.Connections/10)
			return m.atLeast("net.ipv4.tcp_max_orphans", need, powerOfTwo(need), Slows)
		},
	},
	{
		id: "cpu", section: "CPU", what: "cores, or the time that the control group gives",
		why:  "each heartbeat and each event is one send to each stream: 8.6 us and 6.8 us, most of them the kernel's",
		how:  "more cores; `--heartbeat 45s` sends a third",
		look: lookCPU,
	},
	{
		id: "GOMAXPROCS", section: "CPU", what: "threads of Go at work at once",
		why:  "Go follows cores and quota by itself; set higher than the quota, the kernel stops all threads for the rest of each period",
		how:  "leave it out",
		look: lookGoProcs,
	},
	{
		id: "net.ipv4.tcp_slow_start_after_idle", section: "Network", what: "whether a connection that was idle begins slowly again",
		why: "events below 14 KB leave at once either way, and with BBR all do; a larger batch after quiet (a snapshot of many topics) takes round trips more",
		look: func(m *Machine, _ Plan) verdict {
			v := m.shown("net.ipv4.tcp_slow_start_after_idle", "0 where events are large, any with BBR")
			if on, ok := m.sysctl("net.ipv4.tcp_slow_start_after_idle"); ok && on[0] != 0 && m.congestion() != "bbr" {
				v.severity = Advice
				v.sysctl("net.ipv4.tcp_slow_start_after_idle", "0")
			}
			return v
		},
	},
	{
		id: "net.core.netdev_max_backlog", section: "Network", what: "packets that wait for a CPU, with RPS and on loopback",
		why:  "beyond it packets are dropped and sent again; the second column of /proc/net/softnet_stat counts them",
		look: lookDropped,
	},
	{
		id: "receive queues", section: "Network", what: "queues of the network card, and RPS, which spreads one queue over cores",
		why:  "one queue is one interrupt, and one core takes all packets: acknowledgements of each event among them",
		how:  "`ethtool -L eth0 combined 4`, or `echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus`",
		look: lookQueues,
	},
	{
		id: "interrupts", section: "Network", what: "the cores that the network card's interrupts come to",
		why:  "several queues are of no use while one core takes the interrupts of all",
		how:  "`systemctl enable --now irqbalance`, or `echo 2 > /proc/irq/N/smp_affinity_list`",
		look: lookInterrupts,
	},
}

// shown is a verdict that only shows a setting.
func (m *Machine) shown(key, needed string) verdict {
	v := verdict{severity: Fine, needed: needed}
	values, ok := m.sysctl(key)
	if !ok {
		v.severity = Unknown
		return v
	}
	v.now = strings.Trim(fmt.Sprint(values), "[]")
	return v
}

// atLeast is a verdict on a setting of one number, which has to be need or is of that severity;
// then it is to be set to a rounder number.
func (m *Machine) atLeast(key string, need, set int, severity Severity) verdict {
	v := verdict{severity: Fine, needed: count(need)}
	values, ok := m.sysctl(key)
	if !ok {
		v.severity = Unknown
		return v
	}
	v.now = count(values[0])
	if values[0] < need {
		v.severity = severity
		v.sysctl(key, fmt.Sprint(set))
	}
	return v
}

// sysctl adds a setting of the kernel to what is to be set.
func (v *verdict) sysctl(key, value string) {
	v.set = append(v.set, Sysctl{key, value})
	if strings.Contains(value, " ") {
		value = "'" + value + "'"
	}
	if v.command != "" {
		v.command += "\n"
	}
	v.command += "sysctl -w " + key + "=" + value
}
