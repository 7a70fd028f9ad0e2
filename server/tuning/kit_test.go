package tuning

// Machines made of files, for tests: one as it comes, and others by what differs.

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// stock is a machine of 16 cores and 64 GiB as a distribution's kernel comes.
var stock = map[string]string{
	"proc/sys/kernel/osrelease":                        "6.12.43-generic\n",
	"proc/sys/fs/nr_open":                              "1048576\n",
	"proc/sys/fs/file-max":                             "9223372036854775807\n",
	"proc/sys/fs/file-nr":                              "2112\t0\t9223372036854775807\n",
	"proc/sys/fs/epoll/max_user_watches":               "14640332\n",
	"proc/sys/net/core/somaxconn":                      "4096\n",
	"proc/sys/net/core/netdev_max_backlog":             "1000\n",
	"proc/sys/net/ipv4/ip_local_port_range":            "32768\t60999\n",
	"proc/sys/net/ipv4/tcp_max_orphans":                "262144\n",
	"proc/sys/net/ipv4/tcp_max_syn_backlog":            "4096\n",
	"proc/sys/net/ipv4/tcp_mem":                        "766698\t1022265\t1533396\n",
	"proc/sys/net/ipv4/tcp_rmem":                       "4096\t131072\t6291456\n",
	"proc/sys/net/ipv4/tcp_slow_start_after_idle":      "1\n",
	"proc/sys/net/ipv4/tcp_syncookies":                 "1\n",
	"proc/sys/net/ipv4/tcp_tw_reuse":                   "2\n",
	"proc/sys/net/ipv4/tcp_congestion_control":         "cubic\n",
	"proc/sys/net/ipv4/tcp_notsent_lowat":              "4294967295\n",
	"proc/sys/net/ipv4/tcp_wmem":                       "4096\t16384\t4194304\n",
	"proc/sys/net/netfilter/nf_conntrack_max":          "262144\n",
	"proc/sys/net/netfilter/nf_conntrack_count":        "311\n",
	"proc/self/limits":                                 limits("1024", "524288"),
	"proc/self/status":                                 "Name:\tbash\nCpus_allowed:\tffff\nCpus_allowed_list:\t0-15\n",
	"proc/self/cgroup":                                 "0::/user.slice/session-1.scope\n",
	"proc/meminfo":                                     meminfo(64<<20, 60<<20),
	"proc/net/softnet_stat":                            "0025e7a1 00000000 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n",
	"sys/devices/system/cpu/online":                    "0-15\n",
	"sys/fs/cgroup/user.slice/memory.max":              "max\n",
	"sys/fs/cgroup/user.slice/cpu.max":                 "max 100000\n",
	"sys/kernel/mm/transparent_hugepage/enabled":       "always [madvise] never\n",
	"sys/class/net/lo/queues/rx-0/rps_cpus":            "0000\n",
	"sys/class/net/eth0/device/vendor":                 "0x1af4\n",
	"sys/class/net/eth0/queues/rx-0/rps_cpus":          "0000\n",
	"sys/class/net/eth0/msi_irqs/37":                   "msix\n", // device/../msi_irqs, as of a virtual card
	"sys/class/net/eth0/msi_irqs/38":                   "msix\n",
	"proc/irq/37/effective_affinity_list":              "0\n",
	"proc/irq/38/effective_affinity_list":              "0\n",
	"sys/class/net/eth0/queues/tx-0/byte_queue_limits": "0\n",
}

// The others.
var (
	// A small virtual machine with one core and a kernel before 5.4.
	small = with(stock, map[string]string{
		"proc/sys/kernel/osrelease":                  "4.19.0-27-cloud-amd64\n",
		"proc/sys/fs/file-max":                       "49834\n",
		"proc/sys/fs/file-nr":                        "864\t0\t49834\n",
		"proc/sys/fs/epoll/max_user_watches":         "101478\n",
		"proc/sys/net/core/somaxconn":                "128\n",
		"proc/sys/net/ipv4/tcp_max_orphans":          "2048\n",
		"proc/sys/net/ipv4/tcp_max_syn_backlog":      "128\n",
		"proc/sys/net/ipv4/tcp_mem":                  "5403\t7207\t10806\n",
		"proc/sys/net/ipv4/tcp_syncookies":           "0\n",
		"proc/sys/net/netfilter/nf_conntrack_max":    "7680\n",
		"proc/self/limits":                           limits("1024", "4096"),
		"proc/self/status":                           "Name:\tbash\nCpus_allowed_list:\t0\n",
		"proc/meminfo":                               meminfo(1<<20, 700<<10),
		"proc/net/softnet_stat":                      "0025e7a1 0000002a 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n",
		"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
	})
	// A container of version 2 with 512 MiB and one and a half CPUs on the stock machine. The
	// settings that belong to no network namespace are not there.
	container = with(stock, map[string]string{
		"proc/sys/net/ipv4/tcp_mem":               "",
		"proc/sys/net/core/netdev_max_backlog":    "",
		"proc/self/cgroup":                        "0::/\n",
		"proc/self/limits":                        limits("1048576", "1048576"),
		"sys/class/net/eth0/device/vendor":        "",
		"sys/fs/cgroup/memory.max":                "536870912\n",
		"sys/fs/cgroup/memory.current":            "104857600\n",
		"sys/fs/cgroup/memory.stat":               "anon 40000000\nfile 60000000\ninactive_file 52428800\n",
		"sys/fs/cgroup/cpu.max":                   "150000 100000\n",
		"sys/fs/cgroup/cpu.stat":                  "usage_usec 12\nnr_periods 90\nnr_throttled 7\n",
		"sys/fs/cgroup/user.slice/memory.max":     "",
		"sys/fs/cgroup/user.slice/cpu.max":        "",
		"proc/sys/net/netfilter/nf_conntrack_max": "",
		"env/GOMAXPROCS":                          "16",
		"env/GOMEMLIMIT":                          "200MiB",
	})
	// The same of version 1.
	container1 = with(container, map[string]string{
		"proc/self/cgroup":                                       "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
		"sys/fs/cgroup/memory.max":                               "",
		"sys/fs/cgroup/memory.current":                           "",
		"sys/fs/cgroup/memory.stat":                              "",
		"sys/fs/cgroup/cpu.max":                                  "",
		"sys/fs/cgroup/cpu.stat":                                 "",
		"sys/fs/cgroup/memory/memory.limit_in_bytes":             "536870912\n",
		"sys/fs/cgroup/memory/memory.usage_in_bytes":             "104857600\n",
		"sys/fs/cgroup/memory/memory.stat":                       "total_inactive_file 52428800\n",
		"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":             "150000\n",
		"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":            "100000\n",
		"sys/fs/cgroup/cpu,cpuacct/cpu.stat":                     "nr_periods 90\nnr_throttled 7\n",
		"sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us":  "-1\n",
		"sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
	})
	// The stock machine, made ready for a million.
	tuned = with(stock, map[string]string{
		"proc/sys/fs/nr_open":                         "4194304\n",
		"proc/sys/net/core/somaxconn":                 "65535\n",
		"proc/sys/net/ipv4/ip_local_port_range":       "1024\t65535\n",
		"proc/sys/net/ipv4/tcp_mem":                   "1000000\t1333333\t2000000\n",
		"proc/sys/net/ipv4/tcp_slow_start_after_idle": "0\n",
		"proc/sys/net/ipv4/tcp_wmem":                  "4096\t16384\t262144\n",
		"proc/sys/net/netfilter/nf_conntrack_max":     "2097152\n",
		"proc/self/limits":                            limits("2097152", "2097152"),
		"sys/class/net/eth0/queues/rx-1/rps_cpus":     "0000\n",
	})
	machines = map[string]map[string]string{"stock": stock, "small": small, "container": container, "container1": container1, "tuned": tuned, "bare": {}}
)

// with is a machine that differs; a file without text is not there.
func with(base, more map[string]string) map[string]string {
	files := maps.Clone(base)
	maps.Copy(files, more)
	maps.DeleteFunc(files, func(_, text string) bool { return text == "" })
	return files
}

func limits(soft, hard string) string {
	return "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max processes             96365                96365                processes \n" +
		"Max open files            " + soft + "                 " + hard + "               files     \n"
}

func meminfo(totalKB, availableKB int) string {
	return fmt.Sprintf("MemTotal: %d kB\nMemAvailable: %d kB\n", totalKB, availableKB)
}

// machine writes the files to a folder and is the machine below it.
func machine(t testing.TB, files map[string]string) *Machine {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return At(root, func(name string) string {
		text, _ := os.ReadFile(filepath.Join(root, "env", name))
		return string(text)
	})
}

// change writes another text into a machine's file, and puts back what was there with restore.
func change(t testing.TB, m *Machine, path, text string) (restore func()) {
	t.Helper()
	path = filepath.Join(m.root, path)
	was, err := os.ReadFile(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err != nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// plan is a plan with serve's defaults.
func plan(connections int) Plan {
	return Plan{Connections: connections, Ring: 256 << 20, Heap: 128 << 20}
}

// golden holds a text against a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make golden writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s is not this any more (make golden writes it anew):\n%s", path, got)
	}
}
