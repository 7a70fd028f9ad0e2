package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Over the limit the server says so once, and once when it is over, however often it looks; what is
// near the limit is not enough to be well again.
func TestMemoryLimitIsToldOnce(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	var w memoryWatch
	w.limit.Store(1 << 30)
	for _, step := range []struct {
		used int64
		full bool
	}{
		{1 << 20, false}, {1 << 30, false}, {1<<30 + 1, true}, {2 << 30, true}, {1<<30 - 1, true}, {1<<30 - 1<<25, true}, {1<<30 - 1<<25 - 1, false}, {1 << 29, false}, {2 << 30, true},
	} {
		for range 3 {
			w.look(step.used, log)
		}
		if w.full() != step.full {
			t.Errorf("with %d bytes used: full is %v", step.used, w.full())
		}
	}
	if n := strings.Count(text.String(), "\n"); n != 3 || strings.Count(text.String(), "WARN") != 2 {
		t.Errorf("the log has %d lines, want one for each change, 3:\n%s", n, text.String())
	}
	w.limit.Store(0)
	if w.look(2<<30, log); w.full() {
		t.Error("full without a limit")
	}
	if n, ok := resident(); !ok || n < 1<<20 || n > 1<<40 {
		t.Errorf("this process has %d bytes resident: %v", n, ok)
	}
}

// By default the limit is nine tenths of what the control group allows, or of the machine's memory.
func TestMemoryLimitFollowsTheControlGroup(t *testing.T) {
	plenty := map[string]string{"proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 62914560 kB\n"}
	if got, want := on(t, DefaultConfig(), 1024, plenty).memoryLimit(), int64(64<<30)/10*9; got != want {
		t.Errorf("on a machine of 64 GiB: %d, want %d", got, want)
	}
	plenty["proc/self/cgroup"], plenty["sys/fs/cgroup/memory.max"] = "0::/\n", "1073741824\n"
	if got, want := on(t, DefaultConfig(), 1024, plenty).memoryLimit(), int64(1<<30)/10*9; got != want {
		t.Errorf("in a group of 1 GiB: %d, want %d", got, want)
	}
	c := DefaultConfig()
	c.MemoryLimit = 2 << 30
	if got := on(t, c, 1024, plenty).memoryLimit(); got != 2<<30 {
		t.Errorf("with --memory-limit 2GiB: %d", got)
	}
	c.MemoryLimit = 100 << 20
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "--ring-size") {
		t.Errorf("a limit below the ring: %v", err)
	}
}
