package fanout

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Pinned shards stay on one core each, the last ones; the process's other threads go where they like.
func TestPinnedShardsStayOnOneCore(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one core")
	}
	pinned := func() (n int, where string) {
		all, _ := filepath.Glob("/proc/self/task/*/status")
		for _, path := range all {
			text, _ := os.ReadFile(path)
			_, list, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
			list, _, _ = strings.Cut(list, "\n")
			if list != "" && !strings.ContainsAny(list, ",-") {
				n++
				where += list + " "
			}
		}
		return n, where
	}
	if n, _ := pinned(); n > 0 {
		t.Skip("one core is allowed")
	}
	newReal(t, 2, func(o *Options) { o.Pin = true })
	n, where := 0, ""
	for began := time.Now(); n != 2 && time.Since(began) < 10*time.Second; runtime.Gosched() {
		n, where = pinned()
	}
	if fields := strings.Fields(where); n != 2 || fields[0] == fields[1] {
		t.Errorf("%d threads with one core: %s", n, where)
	}
}
