package tuning

// What is read of a machine: /proc, /sys and the environment, below a root that tests replace.
// Whatever can't be read or understood is unknown, and never an error. Any goroutine.

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// A Machine is what the checks look at: the files below a root, and the variables that Go reads.
// It is read when it is asked, and holds nothing open.
type Machine struct {
	root   string
	proc   procfs.FS
	known  bool // there is a proc
	getenv func(string) string
}

// Here is the machine that this process runs on.
func Here() *Machine { return At("/", os.Getenv) }

// At is the machine whose /proc and /sys are below root and whose variables getenv answers.
func At(root string, getenv func(string) string) *Machine {
	m := &Machine{root: root, getenv: getenv}
	var err error
	m.proc, err = procfs.NewFS(filepath.Join(root, "proc"))
	m.known = err == nil
	return m
}

// text reads a small file, without space around it; false where there is none.
func (m *Machine) text(path ...string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(append([]string{m.root}, path...)...))
	return strings.TrimSpace(string(b)), err == nil
}

// sysctl reads the whole numbers of a setting of the kernel; false where it is not there or is
// none.
func (m *Machine) sysctl(key string) ([]int, bool) {
	if !m.known {
		return nil, false
	}
	v, err := m.proc.SysctlInts(key)
	return v, err == nil && len(v) > 0
}

// Files are the limits of open files of this process; false where they are unknown.
func (m *Machine) Files() (Files, bool) {
	limits, ok := m.text("proc/self/limits")
	if !ok {
		return Files{}, false
	}
	return parseLimits(limits)
}

// parseLimits finds the limits of open files in the text of /proc/PID/limits.
func parseLimits(text string) (f Files, ok bool) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if fields := strings.Fields(rest); found && len(fields) >= 2 {
			soft, ok1 := parseLimit(fields[0])
			hard, ok2 := parseLimit(fields[1])
			return Files{Soft: soft, Hard: hard}, ok1 && ok2
		}
	}
	return Files{}, false
}

// parseLimit reads a number, or what stands for no limit: "unlimited" (limits), "max" (cgroups).
func parseLimit(text string) (uint64, bool) {
	if text == "unlimited" || text == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// Memory is what the machine has and what of it new work can get, in bytes; false where that is
// unknown.
func (m *Machine) Memory() (total, available uint64, ok bool) {
	if !m.known {
		return 0, 0, false
	}
	info, err := m.proc.Meminfo()
	if err != nil || info.MemTotalBytes == nil || info.MemAvailableBytes == nil {
		return 0, 0, false
	}
	return *info.MemTotalBytes, *info.MemAvailableBytes, true
}

// Cores is how many CPUs there are for this process; false where that is unknown.
func (m *Machine) Cores() (int, bool) {
	status, _ := m.text("proc/self/status")
	for line := range strings.Lines(status) {
		if list, found := strings.CutPrefix(line, "Cpus_allowed_list:"); found {
			if n, ok := parseCPUs(strings.TrimSpace(list)); ok {
				return n, true
			}
		}
	}
	online, _ := m.text("sys/devices/system/cpu/online")
	return parseCPUs(online)
}

// parseCPUs counts the CPUs of a list like 0-3,8.
func parseCPUs(list string) (n int, ok bool) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a {
			return 0, false
		}
		n += int(b-a) + 1
	}
	return n, n > 0
}

// kernel is the kernel's release, "" where it is unknown; without what its builder has added.
func (m *Machine) kernel() string {
	release, _ := m.text("proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(release, "-")
	return version
}

// hugePages is what the kernel does with transparent huge pages: always, madvise or never.
func (m *Machine) hugePages() (string, bool) {
	text, _ := m.text("sys/kernel/mm/transparent_hugepage/enabled")
	return parseChoice(text)
}

// congestion is the name of TCP's congestion control, "" where it is unknown.
func (m *Machine) congestion() string {
	name, _ := m.text("proc/sys/net/ipv4/tcp_congestion_control")
	return name
}

// parseChoice finds the choice in brackets of a line like "always [madvise] never".
func parseChoice(text string) (string, bool) {
	for _, word := range strings.Fields(text) {
		if inner, ok := strings.CutPrefix(word, "["); ok && strings.HasSuffix(inner, "]") {
			return strings.TrimSuffix(inner, "]"), len(inner) > 1
		}
	}
	return "", false
}

// dropped is how many packets were dropped since boot because a CPU's backlog was full.
func (m *Machine) dropped() (n uint64, ok bool) {
	if !m.known {
		return 0, false
	}
	stats, err := m.proc.NetSoftnetStat()
	for _, s := range stats {
		n += uint64(s.Dropped)
	}
	return n, err == nil && len(stats) > 0
}

// A card is a network interface with a device behind it.
type card struct {
	name    string
	queues  []string // its receive queues: rx-0, rx-1, ...
	steered bool     // some queue's packets are spread by software (RPS)
	irqs    []string // the numbers of its interrupts
	cpus    []string // the cores that they come to, each once
}

// cards lists the network interfaces of hardware, or of a virtual machine's.
func (m *Machine) cards() (all []card) {
	const class = "sys/class/net"
	names, _ := os.ReadDir(filepath.Join(m.root, class))
	for _, n := range names {
		c := card{name: n.Name()}
		if _, err := os.Stat(filepath.Join(m.root, class, c.name, "device")); err != nil {
			continue // lo, bridges, the ends of containers
		}
		queues, _ := os.ReadDir(filepath.Join(m.root, class, c.name, "queues"))
		for _, q := range queues {
			if !strings.HasPrefix(q.Name(), "rx-") {
				continue
			}
			c.queues = append(c.queues, q.Name())
			mask, _ := m.text(class, c.name, "queues", q.Name(), "rps_cpus")
			c.steered = c.steered || strings.Trim(mask, "0,") != ""
		}
		if len(c.queues) > 0 {
			slices.Sort(c.queues)
			m.interrupts(&c)
			all = append(all, c)
		}
	}
	return all
}

// interrupts finds a card's interrupts, and where they come to.
func (m *Machine) interrupts(c *card) {
	// A virtual card's are its parent's. The kernel resolves "..", for device is a link.
	for _, where := range []string{"/device/msi_irqs", "/device/../msi_irqs"} {
		names, _ := os.ReadDir(filepath.Join(m.root, "sys/class/net", c.name) + where)
		for _, n := range names {
			at, ok := m.text("proc/irq", n.Name(), "effective_affinity_list")
			if !ok || at == "" {
				continue
			}
			c.irqs = append(c.irqs, n.Name())
			if !slices.Contains(c.cpus, at) {
				c.cpus = append(c.cpus, at)
			}
		}
		if len(c.irqs) > 0 {
			break
		}
	}
	slices.Sort(c.cpus)
}

// pageSize is the kernel's, in which tcp_mem is counted.
func (m *Machine) pageSize() int {
	if m.root == "/" {
		return os.Getpagesize()
	}
	return 4096
}

// parseMemoryLimit reads a GOMEMLIMIT: a number of bytes, or with B, KiB, MiB, GiB or TiB. "" and
// off are no limit.
func parseMemoryLimit(text string) (limit int64, set, ok bool) {
	if text == "" || text == "off" {
		return 0, false, true
	}
	number, factor := strings.TrimSuffix(text, "B"), int64(1)
	for i, unit := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if n, found := strings.CutSuffix(number, unit); found && strings.HasSuffix(text, "B") {
			number, factor = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, true, false
	}
	return n * factor, true, true
}

// system is what a report's first line says of the machine.
func (m *Machine) system() string {
	var parts []string
	if n, ok := m.Cores(); ok {
		parts = append(parts, plural(n, "core"))
	}
	if total, _, ok := m.Memory(); ok {
		parts = append(parts, bytesText(total))
	}
	name := "Linux"
	if runtime.GOOS != "linux" && m.root == "/" {
		name = runtime.GOOS
	}
	return strings.Join(append(parts, strings.TrimSpace(name+" "+m.kernel())), ", ")
}
