package fanout

// What a container's filter refuses.

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"penstock/server/topic"
)

// refuse makes the kernel answer EPERM to these calls, in this process and for good.
func refuse(t *testing.T, calls ...uint32) {
	t.Helper()
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the call's number
	for _, call := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 || r != 0 {
		t.Skipf("no filter can be set here: %v, thread %d", errno, r)
	}
}

// Where a filter refuses unshare, as containers' do, close_range makes the tables; where it refuses
// both, New says that there are none, and nothing is left of its attempt.
func TestTablesBehindAFilter(t *testing.T) {
	const child = "PENSTOCK_TEST_FILTER"
	start := func(t *testing.T) (*Shards, error) {
		seq, err := topic.New(topic.Options{RingSize: 1 << 20, MaxEventSize: 1 << 10, MaxTopics: 10, Keep: 1, KeepSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return newApart(Options{Shards: 2, Sequencer: seq, Heartbeat: time.Second, FlushMaxBytes: 64 << 10, LagMemory: 1 << 20, RetryMin: time.Second, RetryMax: time.Second, CompressShare: 8}, 10)
	}
	switch os.Getenv(child) {
	case "":
		for _, refused := range []string{"unshare", "both"} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestTablesBehindAFilter$", "-test.count=1", "-test.v")
			cmd.Env = append(os.Environ(), child+"="+refused)
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				t.Errorf("%s refused: %v\n%s", refused, err, out)
			}
		}
	case "unshare":
		refuse(t, unix.SYS_UNSHARE)
		s, err := start(t)
		if err != nil {
			t.Fatal(err)
		}
		pair := pairOf(t, unix.SOCK_STREAM)
		before := tableOf(t, os.Getpid())
		if err := s.Join(dup(t, int(pair[0])), &Subscription{Topics: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		wait(t, "a stream in its shard's table", func() bool { return s.Stats()[0].Joins == 1 && tableOf(t, os.Getpid()) == before })
		s.Drain(0, nil)
		s.Close()
	case "both":
		refuse(t, unix.SYS_UNSHARE, unix.SYS_CLOSE_RANGE)
		before := tableOf(t, os.Getpid())
		if _, err := start(t); !errors.Is(err, ErrNoTables) {
			t.Errorf("%v, want ErrNoTables", err)
		}
		if n := tableOf(t, os.Getpid()); n != before {
			t.Errorf("%d descriptors, %d before", n, before)
		}
	}
}
