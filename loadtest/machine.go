package loadtest

// What /proc says: the server's process, this one, the machine. Any goroutine.

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// A Sample is the state of server and machine at one moment. CPU times are totals since some
// earlier time: only differences mean something.
type Sample struct {
	At        int64   `json:"-"` // on the run's clock
	ServerCPU float64 `json:"serverCPU"`
	ServerRSS uint64  `json:"serverRSS"` // bytes
	ClientCPU float64 `json:"clientCPU"`
	ClientRSS uint64  `json:"clientRSS"` // bytes
	Busy      float64 `json:"busy"`      // of all cores, interrupts included
	Interrupt float64 `json:"interrupt"`
	Steal     float64 `json:"steal"` // taken by the host
	Idle      float64 `json:"idle"`
}

// A ServerProcess is what is watched: one process or several that share a listening socket.
type ServerProcess struct {
	Name string `json:"name"`
	PIDs []int  `json:"-"`
}

const listening = "0A" // a TCP socket's state in /proc/net/tcp

// findServer finds the server's processes: pid and those it has started, or without one whoever
// listens at a loopback address of this machine. The error says why there is none.
func findServer(pid int, at netip.AddrPort) (*ServerProcess, error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("read /proc: %w", err)
	}
	if pid != 0 {
		s := &ServerProcess{PIDs: []int{pid}}
		for again := true; again; {
			again = false
			for _, p := range procs {
				st, err := p.Stat()
				if err != nil {
					continue
				}
				if st.PID == pid {
					s.Name = st.Comm
				}
				if slices.Contains(s.PIDs, st.PPID) && !slices.Contains(s.PIDs, st.PID) {
					s.PIDs, again = append(s.PIDs, st.PID), true
				}
			}
		}
		if s.Name == "" {
			return nil, fmt.Errorf("--pid %d: no such process", pid)
		}
		return s, nil
	}
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address: its process cannot be found; --pid names it if it runs here", at.Addr())
	}
	sockets := listeningSockets(at.Port())
	s := &ServerProcess{}
	for _, p := range procs {
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue // somebody else's process
		}
		if slices.ContainsFunc(targets, func(t string) bool { return sockets[t] }) {
			s.PIDs = append(s.PIDs, p.PID)
			if c, err := p.Comm(); err == nil {
				s.Name = c
			}
		}
	}
	if len(s.PIDs) == 0 {
		return nil, fmt.Errorf("no process of ours listens at port %d; --pid names the server's", at.Port())
	}
	return s, nil
}

// listeningSockets answers the sockets that listen at a port, as links in /proc/PID/fd name them.
// (procfs has a reader of these files, which it calls deprecated.)
func listeningSockets(port uint16) map[string]bool {
	sockets := map[string]bool{}
	suffix := fmt.Sprintf(":%04X", port)
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // no IPv6 here
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], suffix) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	return sockets
}

// sample reads everything. exact takes longer, and gives memory to the page.
func (s *ServerProcess) sample(exact bool, children []int) Sample {
	out := Sample{At: clock()}
	if s != nil {
		for _, pid := range s.PIDs {
			cpu, rss := processUse(pid, exact)
			out.ServerCPU += cpu
			out.ServerRSS += rss
		}
	}
	for _, pid := range append([]int{os.Getpid()}, children...) {
		cpu, rss := processUse(pid, exact)
		out.ClientCPU += cpu
		out.ClientRSS += rss
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if st, err := fs.Stat(); err == nil {
			c := st.CPUTotal
			out.Busy = c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ
			out.Interrupt = c.IRQ + c.SoftIRQ
			out.Steal = c.Steal
			out.Idle = c.Idle + c.Iowait
		}
	}
	return out
}

// processUse answers a process's CPU seconds and resident bytes; zeros when it is gone.
func processUse(pid int, exact bool) (cpu float64, rss uint64) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, 0
	}
	if st, err := p.Stat(); err == nil {
		cpu = st.CPUTime()
		rss = uint64(st.ResidentMemory())
	}
	// Clock ticks are 10 ms long; the sum over the threads is exact, but without those that have
	// ended.
	if exact := threadsTime(pid); exact > cpu-0.05 {
		cpu = exact
	}
	if exact {
		if m, err := p.ProcSMapsRollup(); err == nil {
			rss = m.Rss
		}
	}
	return cpu, rss
}

// threadsTime answers the CPU seconds of a process's threads, 0 where the kernel does not say.
func threadsTime(pid int) float64 {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, t := range tasks {
		text, err := os.ReadFile(dir + t.Name() + "/schedstat")
		if err != nil {
			continue
		}
		run, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseFloat(run, 64)
		if err != nil {
			return 0
		}
		sum += ns / 1e9
	}
	return sum
}

// A Machine is where a run was made. No names, no addresses.
type Machine struct {
	Cores    int               `json:"cores"`
	CPU      string            `json:"cpu"`
	Memory   uint64            `json:"memory"` // bytes
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	OpenMax  uint64            `json:"openFiles"` // descriptors a process may have
	Settings map[string]string `json:"settings"`  // of the kernel, those that matter here
}

// settings are the kernel's that change what a run finds.
var settings = []string{
	"net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_mem", "net.ipv4.tcp_tw_reuse",
	"net.ipv4.tcp_slow_start_after_idle", "fs.nr_open", "fs.file-max",
}

// ThisMachine reads what there is to say of the machine.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Settings: map[string]string{}}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + version(unix.ByteSliceToString(u.Release[:]))
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		m.OpenMax = lim.Cur
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if info, err := fs.CPUInfo(); err == nil && len(info) > 0 {
			m.CPU = info[0].ModelName
		}
		if mem, err := fs.Meminfo(); err == nil && mem.MemTotalBytes != nil {
			m.Memory = *mem.MemTotalBytes
		}
		for _, name := range settings {
			if v, err := fs.SysctlStrings(name); err == nil {
				m.Settings[name] = strings.Join(v, " ")
			}
		}
	}
	return m
}

// A threadClock reads what the kernel says of one thread: its CPU time, and how long it was ready to run and did not.
type threadClock struct {
	run, wait time.Duration
	file      *os.File
}

// read reads the calling thread's. It has to be the same one each time.
func (t *threadClock) read() {
	if t.file == nil {
		var err error
		if t.file, err = os.Open("/proc/thread-self/schedstat"); err != nil {
			return
		}
	}
	var b [96]byte
	n, _ := t.file.ReadAt(b[:], 0)
	f := strings.Fields(string(b[:n]))
	if len(f) < 2 {
		return
	}
	run, _ := strconv.ParseInt(f[0], 10, 64)
	wait, _ := strconv.ParseInt(f[1], 10, 64)
	t.run, t.wait = time.Duration(run), time.Duration(wait)
}

func (t *threadClock) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// version is a kernel's release without what its builder has added to it.
func version(release string) string {
	number, _, _ := strings.Cut(release, "-")
	return number
}
