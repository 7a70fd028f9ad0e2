package tuning

// Control groups: what a container, a unit or a pod may use. Version 2 first, version 1 where the
// controllers are there. Any goroutine.

import (
	"math"
	"path"
	"strconv"
	"strings"
)

// cgroupRoot is where control groups are mounted, by convention and by systemd.
const cgroupRoot = "sys/fs/cgroup"

// A group is what the control groups of this process allow. Zero is "no limit" for each.
type group struct {
	memory  uint64  // bytes: the least limit on the way up
	used    uint64  // bytes that count against it now and can't be reclaimed at once
	where   string  // the file that says so
	cpus    float64 // CPUs' worth of time
	cpuFile string
	slowed  uint64 // periods in which the group had to wait for its next quota
}

// group reads the limits of this process's control groups.
func (m *Machine) group() (g group) {
	text, _ := m.text("proc/self/cgroup")
	paths := parseCgroups(text)
	if own, ok := paths[""]; ok {
		for _, dir := range upwards(own) {
			m.readV2(&g, path.Join(cgroupRoot, dir))
		}
	}
	for _, dir := range upwards(paths["memory"]) {
		m.readMemoryV1(&g, path.Join(cgroupRoot, "memory", dir))
	}
	for _, controller := range []string{"cpu", "cpu,cpuacct"} {
		for _, dir := range upwards(paths["cpu"]) {
			m.readCPUV1(&g, path.Join(cgroupRoot, controller, dir))
		}
	}
	return g
}

// parseCgroups reads /proc/PID/cgroup: the path of each controller of version 1, and under "" that
// of version 2.
func parseCgroups(text string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		for name := range strings.SplitSeq(fields[1], ",") {
			paths[name] = fields[2]
		}
	}
	return paths
}

// upwards is a group's path and those above it, as they are seen from here: a container sees its
// own group as the root, whatever /proc says, so that the root comes last and is always there.
func upwards(dir string) []string {
	var all []string
	for dir = path.Clean("/" + dir); dir != "/"; dir = path.Dir(dir) {
		all = append(all, dir)
	}
	return append(all, "/")
}

// limitMemory keeps the least limit.
func (g *group) limitMemory(limit, used uint64, where string) {
	if limit > 0 && limit < 1<<62 && (g.memory == 0 || limit < g.memory) {
		g.memory, g.used, g.where = limit, min(used, limit), "/"+where
	}
}

// limitCPU keeps the least limit.
func (g *group) limitCPU(cpus float64, slowed uint64, where string) {
	if cpus > 0 && !math.IsInf(cpus, 0) && (g.cpus == 0 || cpus < g.cpus) {
		g.cpus, g.slowed, g.cpuFile = cpus, slowed, "/"+where
	}
}

func (m *Machine) readV2(g *group, dir string) {
	if limit, ok := m.limitIn(dir, "memory.max"); ok {
		used, _ := m.limitIn(dir, "memory.current")
		stat, _ := m.text(dir, "memory.stat")
		g.limitMemory(limit, used-min(used, statistic(stat, "inactive_file")), path.Join(dir, "memory.max"))
	}
	text, _ := m.text(dir, "cpu.max")
	if cpus, ok := parseCPUMax(text); ok {
		stat, _ := m.text(dir, "cpu.stat")
		g.limitCPU(cpus, statistic(stat, "nr_throttled"), path.Join(dir, "cpu.max"))
	}
}

func (m *Machine) readMemoryV1(g *group, dir string) {
	if limit, ok := m.limitIn(dir, "memory.limit_in_bytes"); ok {
		used, _ := m.limitIn(dir, "memory.usage_in_bytes")
		stat, _ := m.text(dir, "memory.stat")
		g.limitMemory(limit, used-min(used, statistic(stat, "total_inactive_file")), path.Join(dir, "memory.limit_in_bytes"))
	}
}

func (m *Machine) readCPUV1(g *group, dir string) {
	quota, ok := m.limitIn(dir, "cpu.cfs_quota_us") // -1 is none, and no number here
	period, ok2 := m.limitIn(dir, "cpu.cfs_period_us")
	if ok && ok2 && period > 0 {
		stat, _ := m.text(dir, "cpu.stat")
		g.limitCPU(float64(quota)/float64(period), statistic(stat, "nr_throttled"), path.Join(dir, "cpu.cfs_quota_us"))
	}
}

func (m *Machine) limitIn(dir, name string) (uint64, bool) {
	text, ok := m.text(dir, name)
	if !ok {
		return 0, false
	}
	return parseLimit(text)
}

// parseCPUMax reads a cpu.max: "max 100000" (no limit, and false), "150000 100000" (1.5).
func parseCPUMax(text string) (cpus float64, ok bool) {
	fields := strings.Fields(text)
	if len(fields) != 2 || fields[0] == "max" {
		return 0, false
	}
	quota, err := strconv.ParseUint(fields[0], 10, 63)
	period, err2 := strconv.ParseUint(fields[1], 10, 63)
	if err != nil || err2 != nil || quota == 0 || period == 0 {
		return 0, false
	}
	return float64(quota) / float64(period), true
}

// statistic finds a number in lines of "name value"; 0 where it is not there.
func statistic(text, name string) uint64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
