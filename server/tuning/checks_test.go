package tuning

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What people read, for machines that differ: too small, a container, ready, nothing to be read.
func TestReportsReadAsTheyShould(t *testing.T) {
	for name, n := range map[string]int{"stock": 500_000, "small": 100_000, "container": 50_000, "tuned": 1_000_000, "bare": 10_000} {
		t.Run(name, func(t *testing.T) {
			r := Check(machine(t, machines[name]), plan(n))
			var b strings.Builder
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".txt"), b.String())
			for line := range strings.Lines(b.String()) {
				if len(line) > 160 {
					t.Errorf("a line of %d bytes: %s", len(line), line)
				}
			}
		})
	}
}

// find is the finding of that id.
func find(t *testing.T, r Report, id string) Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == id })
	if i < 0 {
		t.Fatalf("no finding %q", id)
	}
	return r.Findings[i]
}

// Each limit is judged by itself: what is too low, what is enough.
func TestEachLimitIsJudged(t *testing.T) {
	m := machine(t, stock)
	for _, c := range []struct {
		id, path, text string
		connections    int
		want           Severity
	}{
		{"RLIMIT_NOFILE", "proc/self/limits", limits("1024", "4096"), 1000, Fine},
		{"RLIMIT_NOFILE", "proc/self/limits", limits("1024", "4096"), 3968, Fine},
		{"RLIMIT_NOFILE", "proc/self/limits", limits("1024", "4096"), 3969, Advice},
		{"RLIMIT_NOFILE", "proc/self/limits", limits("1024", "4096"), 3_080_192, Advice},
		{"RLIMIT_NOFILE", "proc/self/limits", limits("1024", "4096"), 3_080_193, Fails},
		{"RLIMIT_NOFILE", "proc/self/limits", limits("unlimited", "unlimited"), 1_000_000, Fine},
		{"RLIMIT_NOFILE", "proc/self/limits", "Max open files", 1000, Unknown},
		{"fs.nr_open", "proc/sys/fs/nr_open", "1048576", 1_100_000, Advice},
		{"fs.nr_open", "proc/sys/fs/nr_open", "1048576", 500_000, Fine},
		{"fs.file-max", "proc/sys/fs/file-max", "102112", 100_000, Fails},
		{"fs.file-max", "proc/sys/fs/file-max", "102240", 100_000, Fine},
		{"fs.file-max", "proc/sys/fs/file-max", "many", 100_000, Unknown},
		{"fs.epoll.max_user_watches", "proc/sys/fs/epoll/max_user_watches", "100000", 100_000, Fails},
		{"fs.epoll.max_user_watches", "proc/sys/fs/epoll/max_user_watches", "100128", 100_000, Fine},
		{"net.ipv4.ip_local_port_range", "proc/sys/net/ipv4/ip_local_port_range", "32768 60999", 28_232, Fine},
		{"net.ipv4.ip_local_port_range", "proc/sys/net/ipv4/ip_local_port_range", "32768 60999", 28_233, Advice},
		{"net.ipv4.ip_local_port_range", "proc/sys/net/ipv4/ip_local_port_range", "60999", 1, Unknown},
		{"net.ipv4.tcp_tw_reuse", "proc/sys/net/ipv4/tcp_tw_reuse", "0", 1_000_000, Fine},
		{"memory", "proc/meminfo", meminfo(64<<20, 1<<20), 100_000, Slows}, // 812 MiB idle, 1330 at a bad moment
		{"memory", "proc/meminfo", meminfo(64<<20, 2<<20), 100_000, Fine},
		{"memory", "proc/meminfo", meminfo(64<<20, 700<<10), 100_000, Fails},
		{"memory", "proc/meminfo", meminfo(64<<20, 300<<10), 1, Fails},
		{"memory", "proc/meminfo", "MemTotal: x kB", 1, Unknown},
		{"net.ipv4.tcp_mem", "proc/sys/net/ipv4/tcp_mem", "1 99999 200000", 100_000, Slows},
		{"net.ipv4.tcp_mem", "proc/sys/net/ipv4/tcp_mem", "1 100000 200000", 100_000, Fine},
		{"net.ipv4.tcp_wmem", "proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304", 10_000, Fine},
		{"net.ipv4.tcp_wmem", "proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304", 1_000_000, Fine},
		{"net.ipv4.tcp_notsent_lowat", "proc/sys/net/ipv4/tcp_notsent_lowat", "16384", 1_000_000, Fine},
		{"net.ipv4.tcp_notsent_lowat", "proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295", 1_000_000, Fine},
		{"net.ipv4.tcp_notsent_lowat", "proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295", 1000, Fine},
		{"net.ipv4.tcp_slow_start_after_idle", "proc/sys/net/ipv4/tcp_congestion_control", "cubic", 1, Advice},
		{"net.ipv4.tcp_slow_start_after_idle", "proc/sys/net/ipv4/tcp_congestion_control", "bbr", 1, Fine},
		{"transparent_hugepage", "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", 1, Fine},
		{"transparent_hugepage", "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", 1, Fine},
		{"GOMEMLIMIT", "env/GOMEMLIMIT", "200MiB", 1000, Slows},
		{"GOMEMLIMIT", "env/GOMEMLIMIT", "2GiB", 1000, Fine},
		{"GOMEMLIMIT", "env/GOMEMLIMIT", "off", 1000, Fine},
		{"GOMEMLIMIT", "env/GOMEMLIMIT", "2GB", 1000, Slows},
		{"net.core.somaxconn", "proc/sys/net/core/somaxconn", "128", 1000, Fine},
		{"net.core.somaxconn", "proc/sys/net/core/somaxconn", "128", 10_000, Slows},
		{"net.ipv4.tcp_max_syn_backlog", "proc/sys/net/ipv4/tcp_max_syn_backlog", "128", 100_000, Fine}, // cookies
		{"net.ipv4.tcp_syncookies", "proc/sys/net/ipv4/tcp_syncookies", "0", 1, Slows},
		{"net.netfilter.nf_conntrack_max", "proc/sys/net/netfilter/nf_conntrack_max", "99999", 100_000, Fails},
		{"net.netfilter.nf_conntrack_max", "proc/sys/net/netfilter/nf_conntrack_max", "110000", 100_000, Slows},
		{"net.netfilter.nf_conntrack_max", "proc/sys/net/netfilter/nf_conntrack_max", "125000", 100_000, Fine},
		{"net.ipv4.tcp_max_orphans", "proc/sys/net/ipv4/tcp_max_orphans", "4096", 100_000, Slows},
		{"cpu", "proc/self/status", "Cpus_allowed_list:\t0\n", 1_000_000, Slows},
		{"cpu", "proc/self/status", "Cpus_allowed_list:\t0\n", 2_000_000, Fails},
		{"cpu", "proc/self/status", "Cpus_allowed_list:\t0-15\n", 2_000_000, Fine},
		{"GOMAXPROCS", "env/GOMAXPROCS", "64", 1, Slows},
		{"GOMAXPROCS", "env/GOMAXPROCS", "4", 1, Fine},
		{"net.core.netdev_max_backlog", "proc/net/softnet_stat", "01 02 0 0 0 0 0 0 0 0 0\n", 1, Advice},
		{"receive queues", "sys/class/net/eth0/queues/rx-0/rps_cpus", "00ff", 100_000, Fine},
		{"receive queues", "sys/class/net/eth0/queues/rx-0/rps_cpus", "0000,00000000", 100_000, Advice},
		{"receive queues", "sys/class/net/eth0/queues/rx-1/rps_cpus", "0000", 100_000, Fine},
		{"interrupts", "sys/class/net/eth0/queues/rx-1/rps_cpus", "0000", 100_000, Advice}, // two queues, one core
		{"interrupts", "proc/irq/38/effective_affinity_list", "1", 100_000, Fine},
	} {
		restore := change(t, m, c.path, c.text)
		f := find(t, Check(m, plan(c.connections)), c.id)
		restore()
		if f.Severity != c.want {
			t.Errorf("%s with %q and %d streams: %v, want %v: %+v", c.id, c.text, c.connections, f.Severity, c.want, f)
		}
	}
}

// What a server was told is judged, and not what it would do by itself.
func TestAServersSettingsAreJudged(t *testing.T) {
	m := machine(t, tuned)
	for _, c := range []struct {
		id       string
		set      func(*Plan)
		want     Severity
		sentence string
	}{
		{"--backlog", func(*Plan) {}, Advice, "penstock serve --backlog 65535 ..."},
		{"--backlog", func(p *Plan) { p.Backlog = 4096 }, Slows, "penstock serve --backlog 65535 ..."},
		{"--backlog", func(p *Plan) { p.Backlog = 65535 }, Fine, ""},
		{"--backlog", func(p *Plan) { p.Backlog, p.Spread = 4096, time.Minute }, Fine, ""},
		{"net.core.somaxconn", func(p *Plan) { p.Spread = -time.Second }, Fine, ""},
		{"cpu", func(p *Plan) { p.Connections = 20_000_000 }, Slows, "penstock serve --heartbeat 22s ..."},
		{"cpu", func(p *Plan) { p.Connections, p.Heartbeat = 20_000_000, 22*time.Second }, Fine, ""},
		{"cpu", func(p *Plan) { p.Connections, p.Heartbeat = 20_000_000, time.Second }, Fails, "penstock serve --heartbeat 22s ..."},
	} {
		p := plan(1_000_000)
		c.set(&p)
		if f := find(t, Check(m, p), c.id); f.Severity != c.want || f.Command != c.sentence {
			t.Errorf("%s with %+v: %v and %q, want %v and %q", c.id, p, f.Severity, f.Command, c.want, c.sentence)
		}
	}
}

// Version 1 and 2 of control groups say the same.
func TestGroupsOfBothVersionsAreRead(t *testing.T) {
	for name, files := range map[string]map[string]string{"2": container, "1": container1} {
		g := machine(t, files).group()
		if g.memory != 512<<20 || g.used != 50<<20 || g.cpus != 1.5 || g.slowed != 7 {
			t.Errorf("version %s: %+v, want 512 MiB with 50 in use, 1.5 CPUs, waited 7 times", name, g)
		}
	}
	// The least limit on the way up counts, and none is none.
	files := with(stock, map[string]string{"sys/fs/cgroup/user.slice/session-1.scope/memory.max": "1073741824", "sys/fs/cgroup/user.slice/memory.max": "805306368"})
	if g := machine(t, files).group(); g.memory != 768<<20 || g.where != "/sys/fs/cgroup/user.slice/memory.max" {
		t.Errorf("%+v, want the 768 MiB of user.slice", g)
	}
	if g := machine(t, stock).group(); g != (group{}) {
		t.Errorf("%+v without limits", g)
	}
}

// A machine of which nothing can be read is unknown, and holds what it is asked to.
func TestUnknownIsNoFailure(t *testing.T) {
	r := Check(machine(t, nil), plan(1000))
	if !r.Fits {
		t.Errorf("%+v", r.Worst(Fails))
	}
	if n := len(r.Findings); n != len(checks) {
		t.Errorf("%d findings of %d checks", n, len(checks))
	}
}

// What has to be set is set, and then it is enough: on every machine, for every number.
func TestWhatIsAppliedSuffices(t *testing.T) {
	for name, files := range machines {
		for _, n := range []int{1, 30_000, 5_000_000} {
			m := machine(t, files)
			before := Check(m, plan(n))
			for _, c := range Apply(m, before) {
				if c.Error != "" {
					t.Errorf("%s, %d streams: %v", name, n, c)
				}
			}
			after := Check(m, plan(n))
			for _, f := range after.Worst(Slows) {
				if len(f.Sysctl) > 0 {
					t.Errorf("%s, %d streams: set as told, and still: %+v", name, n, f)
				}
			}
			if again := Apply(m, after); len(again) > 0 {
				t.Errorf("%s, %d streams: the second time something is set: %v", name, n, again)
			}
		}
	}
}

// What can't be set is said, with the reason, and the rest is set all the same.
func TestApplySaysWhatItCouldNot(t *testing.T) {
	m := machine(t, small)
	r := Check(m, plan(20_000))
	somaxconn := filepath.Join(m.root, "proc/sys/net/core/somaxconn")
	if err := os.Remove(somaxconn); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, c := range Apply(m, r) {
		if c.Error != "" {
			failed++
			if c.Key != "net.core.somaxconn" || !strings.Contains(c.String(), "no such file") {
				t.Errorf("%v", c)
			}
		}
	}
	if failed != 1 {
		t.Errorf("%d failed, want one", failed)
	}
	if _, err := os.Stat(somaxconn); err == nil {
		t.Error("a setting that the kernel does not have was made")
	}
	if v, _ := m.sysctl("net.ipv4.tcp_syncookies"); len(v) != 1 || v[0] != 1 {
		t.Errorf("tcp_syncookies is %v", v)
	}
}

// Checking changes nothing.
func TestCheckChangesNothing(t *testing.T) {
	m := machine(t, small)
	Check(m, plan(1_000_000))
	for path, want := range small {
		got, err := os.ReadFile(filepath.Join(m.root, path))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q after it (%v), was %q", path, got, err, want)
		}
	}
}

// So many streams as a report says the machine holds, it holds; one more, and it does not.
func TestHoldsIsTheBorder(t *testing.T) {
	for name, files := range machines {
		m := machine(t, files)
		r := Check(m, plan(1000))
		if r.BoundBy == "" || r.Holds < 2 || r.Holds > 100_000_000 {
			continue
		}
		if at := Check(m, plan(r.Holds)); !at.Fits && r.BoundBy != "cpu" {
			t.Errorf("%s holds %d by %s, and then: %s", name, r.Holds, r.BoundBy, at.Verdict())
		}
		if over := Check(m, plan(r.Holds+r.Holds/1000+1)); over.Fits {
			t.Errorf("%s holds %d by %s, and more fit", name, r.Holds, r.BoundBy)
		}
	}
}

var sysctlLine = regexp.MustCompile(`^([a-z][a-z0-9_.-]+ = [0-9]+( [0-9]+)*|#.*|)$`)

func TestSysctlFilesAreValid(t *testing.T) {
	for name, files := range machines {
		for _, n := range []int{1000, 1_000_000} {
			r := Check(machine(t, files), plan(n))
			var b strings.Builder
			if err := r.WriteSysctl(&b); err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(b.String(), "\n") {
				if !sysctlLine.MatchString(line) {
					t.Errorf("%s, %d streams: %q is no line of a sysctl.d file", name, n, line)
				}
			}
		}
	}
}

// The file in deploy/ is what a stock machine needs for half a million.
func TestDeployedSysctlsAreTheChecks(t *testing.T) {
	r := Check(machine(t, stock), plan(500_000))
	var b strings.Builder
	if err := r.WriteSysctl(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", "..", "deploy", "60-penstock.conf"), b.String())
}

// tuning.md's tables are made of the checks: what so many streams need of a machine as it comes.
func TestTheGuidesTablesAreTheChecks(t *testing.T) {
	path := filepath.Join("..", "..", "tuning.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(t, stock)
	numbers := []int{1000, 100_000, 1_000_000}
	var reports []Report
	for _, n := range numbers {
		reports = append(reports, Check(m, plan(n)))
	}
	rest, guide := string(text), ""
	seen := map[string]bool{}
	for {
		before, after, found := strings.Cut(rest, "<!-- checks: ")
		guide += before
		if !found {
			break
		}
		section, after, _ := strings.Cut(after, " -->\n")
		_, after, found = strings.Cut(after, "<!-- checks end -->")
		if !found {
			t.Fatalf("tuning.md: the table of %s has no end", section)
		}
		seen[section] = true
		guide += "<!-- checks: " + section + " -->\n" + table(t, section, reports) + "<!-- checks end -->"
		rest = after
	}
	for _, c := range checks {
		if !seen[c.section] {
			t.Errorf("tuning.md has no table of %s, where %s belongs", c.section, c.id)
		}
	}
	golden(t, path, guide)
}

// table is a section's checks in Markdown.
func table(t *testing.T, section string, reports []Report) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| what `penstock tune` looks at | needed for 1,000; 100,000; 1,000,000 streams | how to set it | why |\n| --- | --- | --- | --- |\n")
	rows := 0
	for _, c := range checks {
		if c.section != section {
			continue
		}
		var needed []string
		for _, r := range reports {
			needed = append(needed, find(t, r, c.id).Needed)
		}
		if len(slices.Compact(slices.Clone(needed))) == 1 {
			needed = needed[:1]
		}
		how := c.how
		if how == "" {
			how = "`sysctl -w " + c.id + "=...`"
		}
		b.WriteString("| `" + c.id + "`: " + c.what + " | " + strings.Join(needed, "; ") + " | " + how + " | " + c.why + " |\n")
		rows++
	}
	if rows == 0 {
		t.Errorf("tuning.md has a table of %q, and no check belongs there", section)
	}
	return b.String()
}

// JSON has every finding, with what is not known named so.
func TestJSONHasEverything(t *testing.T) {
	r := Check(machine(t, small), plan(100_000))
	var b strings.Builder
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Connections int
		Fits        bool
		Holds       int
		BoundBy     string `json:"bound_by"`
		Findings    []struct {
			ID, Severity, What, Now, Needed, Why, Command string
			Holds                                         *int
		}
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Connections != 100_000 || got.Fits || got.BoundBy == "" || got.Holds >= got.Connections || len(got.Findings) != len(checks) {
		t.Errorf("%+v", got)
	}
	for _, f := range got.Findings {
		if f.ID == "" || f.What == "" || f.Why == "" || f.Now == "" || !slices.Contains(severities, f.Severity) {
			t.Errorf("a finding without everything: %+v", f)
		}
	}
}

// FuzzMachine: whatever stands in a file, the report is whole: sorted, its sysctls valid, what it
// sets is what it says. Nothing crashes.
func FuzzMachine(f *testing.F) {
	var paths []string
	for path := range with(stock, container1) {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for i, path := range paths {
		f.Add(uint8(i), 500_000, stock[path])
		f.Add(uint8(i), 1, "18446744073709551615 -1 -1")
	}
	bases := []*Machine{machine(f, stock), machine(f, container), machine(f, container1)}
	f.Fuzz(func(t *testing.T, which uint8, n int, text string) {
		if n < 1 || n > 100_000_000 {
			return
		}
		m := bases[n%len(bases)]
		defer change(t, m, paths[int(which)%len(paths)], text)()
		r := Check(m, plan(n))
		if !slices.IsSortedFunc(r.Findings, func(a, b Finding) int { return int(b.Severity - a.Severity) }) {
			t.Error("not the worst first")
		}
		if fails := len(r.Worst(Fails)) > 0; fails == r.Fits {
			t.Errorf("fits is %v with %d that fail", r.Fits, len(r.Worst(Fails)))
		}
		if r.Holds < 0 {
			t.Errorf("it holds %d", r.Holds)
		}
		var b strings.Builder
		if r.WriteText(&b) != nil || r.WriteJSON(&b) != nil {
			t.Error("can't be written")
		}
		b.Reset()
		if err := r.WriteSysctl(&b); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			if !sysctlLine.MatchString(line) {
				t.Errorf("%q is no line of a sysctl.d file", line)
			}
		}
	})
}

// FuzzParsers: what is understood is in its bounds, and written again it is understood alike.
func FuzzParsers(f *testing.F) {
	for _, text := range []string{"0-3,8", "150000 100000", "max 100000", "always [madvise] never", "2GiB", "0::/a/b", limits("1024", "unlimited"), "-", "1-0", "[]", "1B", "-1KiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseCPUs(text); ok && (n < 1 || n > (strings.Count(text, ",")+1)<<16) {
			t.Errorf("%d CPUs in %q", n, text)
		}
		if cpus, ok := parseCPUMax(text); ok && (cpus <= 0 || math.IsInf(cpus, 0) || math.IsNaN(cpus)) {
			t.Errorf("%v CPUs in %q", cpus, text)
		}
		if choice, ok := parseChoice(text); ok && !strings.Contains(text, "["+choice+"]") {
			t.Errorf("%q chosen in %q", choice, text)
		}
		if n, set, ok := parseMemoryLimit(text); ok && set {
			if again, _, ok := parseMemoryLimit(count(n)); n < 1000 && (!ok || again != n) {
				t.Errorf("%q is %d, and that is %d", text, n, again)
			}
		}
		if n, ok := parseLimit(text); ok && n != math.MaxUint64 && strings.Trim(text, "0123456789") != "" {
			t.Errorf("%q is a limit of %d", text, n)
		}
		for name, path := range parseCgroups(text) {
			for _, dir := range upwards(path) {
				if !strings.HasPrefix(dir, "/") || strings.Contains(dir, "/../") || strings.HasSuffix(dir, "/..") {
					t.Errorf("controller %q leads to %q", name, dir)
				}
			}
		}
		_, _ = parseLimits(text)
	})
}
