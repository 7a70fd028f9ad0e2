package thread

import (
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipe is two ends of one.
func pipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func call(trap uintptr, fd int, b []byte, by func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, errno syscall.Errno)) (int, syscall.Errno) {
	n, _, errno := by(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

// A thread that waits leaves its P to others: with one P, goroutines run while it waits.
func TestOthersRunWhileAThreadWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r, w := pipe(t)
	read := make(chan byte)
	go func() {
		runtime.LockOSThread()
		var b [1]byte
		for {
			if n, errno := call(unix.SYS_READ, r, b[:], Block6); n != 1 {
				if errno == syscall.EINTR {
					continue
				}
				close(read)
				return
			}
			read <- b[0]
		}
	}()
	for i := range byte(100) {
		runtime.GC() // stops the world, which must not wait for one who waits
		if _, err := unix.Write(w, []byte{i}); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != i {
			t.Fatalf("read %d, want %d", got, i)
		}
	}
}

// What the call answers comes back, errors too.
func TestResultsComeBack(t *testing.T) {
	r, w := pipe(t)
	if n, errno := call(unix.SYS_WRITE, w, []byte("abc"), Block6); n != 3 || errno != 0 {
		t.Errorf("write: %d, %v", n, errno)
	}
	b := make([]byte, 10)
	if n, errno := call(unix.SYS_READ, r, b, Block6); string(b[:max(n, 0)]) != "abc" || errno != 0 {
		t.Errorf("read: %q, %v", b[:max(n, 0)], errno)
	}
	if n, errno := call(unix.SYS_READ, w, b, Block6); n != -1 || errno != syscall.EBADF {
		t.Errorf("read of the wrong end: %d, %v", n, errno)
	}
}

// The process's CPU time for something that happens every 5 ms: a goroutine wakes a locked thread,
// which wakes the next one, as a poller, a shard and the accept thread do. Beside it the runtime's
// own way to wait.
func BenchmarkLoneWait(b *testing.B) {
	for _, way := range []struct {
		name string
		call func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, errno syscall.Errno)
	}{{"Block6", Block6}, {"Syscall6", syscall.Syscall6}} {
		b.Run(way.name, func(b *testing.B) {
			const threads = 3
			var ends [threads + 1][2]int
			for i := range ends {
				ends[i][0], ends[i][1] = pipe(b)
			}
			for i := range threads {
				go func() {
					runtime.LockOSThread()
					var one [1]byte
					for {
						if n, _ := call(unix.SYS_READ, ends[i][0], one[:], way.call); n == 1 && one[0] == 0 {
							call(unix.SYS_WRITE, ends[i+1][1], one[:], syscall.RawSyscall6)
						} else if n == 1 {
							call(unix.SYS_WRITE, ends[i+1][1], one[:], syscall.RawSyscall6)
							return
						}
					}
				}()
			}
			before := cpu(b)
			for range b.N {
				time.Sleep(5 * time.Millisecond)
				var one [1]byte
				call(unix.SYS_WRITE, ends[0][1], one[:], syscall.RawSyscall6)
				call(unix.SYS_READ, ends[threads][0], one[:], way.call)
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/wait")
			call(unix.SYS_WRITE, ends[0][1], []byte{1}, syscall.RawSyscall6)
			call(unix.SYS_READ, ends[threads][0], make([]byte, 1), way.call)
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
