package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"penstock/server/tuning"
)

// on is a server that is not started, on a machine with these files.
func on(t *testing.T, c Config, soft uint64, files map[string]string) *Server {
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
	s := &Server{config: c, files: tuning.Files{Soft: soft, Hard: soft}, machine: tuning.At(root, func(string) string { return "" })}
	s.room = s.machine.Room(s.plan(1))
	return s
}

// A server says how many connections it will hold and all that bounds them; the least counts.
func TestTheLeastBoundCounts(t *testing.T) {
	plenty := map[string]string{"proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 62914560 kB\n"}
	group := map[string]string{
		"proc/meminfo":             plenty["proc/meminfo"],
		"proc/self/cgroup":         "0::/\n",
		"sys/fs/cgroup/memory.max": "536870912\n",
	}
	for _, c := range []struct {
		connections int
		descriptors uint64
		files       map[string]string
		most        int
		what, small string // small is in the line of what is too small, "" for no line
	}{
		{0, 20_000, plenty, 19_872, "descriptors 19872, memory 14240016", ""},
		{1000, 20_000, plenty, 1000, "--max-connections 1000, descriptors 19872, memory 14240016", ""},
		{30_000, 20_000, plenty, 19_872, "--max-connections 30000, descriptors 19872, memory 14240016", ""},
		{0, 1 << 20, group, 30_132, "descriptors 1048448, memory 30132", ""},
		{20_000, 1 << 20, group, 20_000, "--max-connections 20000, descriptors 1048448, memory 30132", "cgroup memory"}, // idle, but not at a bad moment
		{100_000, 1 << 20, group, 30_132, "--max-connections 100000, descriptors 1048448, memory 30132", "cgroup memory 512 MiB of 512 MiB (needed: 811 MiB)"},
		{0, 1 << 20, nil, 1048448, "descriptors 1048448", ""},
	} {
		config := DefaultConfig()
		config.MaxConnections = c.connections
		s := on(t, config, c.descriptors, c.files)
		if s.maxConnections() != c.most || s.whatBounds() != c.what {
			t.Errorf("--max-connections %d with %d descriptors: up to %d (%s), want %d (%s)", c.connections, c.descriptors, s.maxConnections(), s.whatBounds(), c.most, c.what)
		}
		if got := s.tooSmall(); (got == "") != (c.small == "") || !strings.Contains(got, c.small) {
			t.Errorf("--max-connections %d: too small is %q, want %q", c.connections, got, c.small)
		}
	}
}

// A ring that does not fit is said, and refuses nobody: it is not full yet.
func TestARingWithoutRoomIsSaid(t *testing.T) {
	s := on(t, DefaultConfig(), 1<<20, map[string]string{"proc/meminfo": "MemTotal: 262144 kB\nMemAvailable: 204800 kB\n"})
	if s.maxConnections() != 1<<20-tuning.FilesReserve {
		t.Errorf("up to %d connections (%s)", s.maxConnections(), s.whatBounds())
	}
	if got := s.tooSmall(); !strings.Contains(got, "memory 200 MiB of 256 MiB") || !strings.Contains(got, "penstock tune --connections 1 --ring-size 256MiB") {
		t.Errorf("too small: %q", got)
	}
}

// At most three things are named, and where nothing is too small there is no line.
func TestWhatIsTooSmallIsOneLine(t *testing.T) {
	config := DefaultConfig()
	config.MaxConnections = 100_000
	s := on(t, config, 1<<20, map[string]string{
		"proc/sys/fs/file-max":                 "50000\n",
		"proc/sys/net/core/somaxconn":          "128\n",
		"proc/sys/net/ipv4/tcp_syncookies":     "0\n",
		"proc/sys/net/ipv4/tcp_max_orphans":    "1024\n",
		"proc/sys/net/ipv4/tcp_mem":            "1 2 3\n",
		"proc/sys/fs/epoll/max_user_watches":   "50000\n",
		"proc/sys/net/core/netdev_max_backlog": "10\n", // advice
	})
	want := "fs.file-max 50,000 (needed: 100,128), fs.epoll.max_user_watches 50,000 (needed: 100,128), net.ipv4.tcp_mem 1 2 3 (needed: pressure 100,000), 3 more; see penstock tune --connections 100000 --ring-size 256MiB"
	if got := s.tooSmall(); got != want {
		t.Errorf("too small: %q, want %q", got, want)
	}
}
