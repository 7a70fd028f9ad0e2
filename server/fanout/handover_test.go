package fanout

// Descriptors in messages.

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairOf opens a pair of connected unix sockets that keep messages apart.
func pairOf(t testing.TB, kind int) [2]int32 {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return [2]int32{int32(p[0]), int32(p[1])}
}

// inode tells which file a descriptor is.
func inode(t testing.TB, fd int32) uint64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Fstat(int(fd), &s); err != nil {
		t.Fatalf("descriptor %d: %v", fd, err)
	}
	return s.Ino
}

// A message's descriptors arrive in their order with its bytes, as many as it takes, and are closed
// on exec; the sender's stay open.
func TestDescriptorsArriveInOrder(t *testing.T) {
	for _, kind := range []int{unix.SOCK_SEQPACKET, unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		for _, n := range []int{0, 1, 2, 3, mostFiles} {
			t.Run(fmt.Sprintf("kind=%d/files=%d", kind, n), func(t *testing.T) {
				pair := pairOf(t, kind)
				var sent []int32
				var inodes []uint64
				for range n {
					s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer unix.Close(s)
					sent = append(sent, int32(s))
					inodes = append(inodes, inode(t, int32(s)))
				}
				var out, in parcel
				if errno := out.send(pair[0], []byte("hello"), sent); errno != 0 {
					t.Fatal(errno)
				}
				data := make([]byte, 16)
				k, got, cut, errno := in.receive(pair[1], data, nil)
				if errno != 0 || cut || string(data[:k]) != "hello" || len(got) != n {
					t.Fatalf("received %q and %d of %d descriptors, cut %v: %v", data[:k], len(got), n, cut, errno)
				}
				var arrived []uint64
				for _, fd := range got {
					arrived = append(arrived, inode(t, fd))
					if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
						t.Errorf("descriptor %d: flags %d, %v; want it closed on exec", fd, flags, err)
					}
					unix.Close(int(fd))
				}
				if !slices.Equal(arrived, inodes) {
					t.Errorf("%v arrived, %v were sent", arrived, inodes)
				}
				if _, _, _, errno := in.receive(pair[1], data, nil); errno != syscall.EAGAIN {
					t.Errorf("a second message: %v, want EAGAIN", errno)
				}
			})
		}
	}
}

// More than a message takes, and what is no descriptor, is refused whole.
func TestMessagesThatCanNotBeAreRefused(t *testing.T) {
	pair := pairOf(t, unix.SOCK_SEQPACKET)
	var p parcel
	if errno := p.send(pair[0], []byte("x"), []int32{0, 1, -1}); errno != syscall.EBADF {
		t.Errorf("a descriptor that is none: %v, want EBADF", errno)
	}
	if _, got, _, errno := p.receive(pair[1], make([]byte, 8), nil); errno != syscall.EAGAIN || len(got) > 0 {
		t.Errorf("something arrived: %v, %v", got, errno)
	}
}

// A pair that nobody reads is full at some time, and says so instead of blocking.
func TestFullPairSaysSo(t *testing.T) {
	pair := pairOf(t, unix.SOCK_SEQPACKET)
	var p parcel
	for range 100_000 {
		if errno := p.send(pair[0], []byte("x"), nil); errno == syscall.EAGAIN {
			return
		} else if errno != 0 {
			t.Fatal(errno)
		}
	}
	t.Error("100,000 messages and it is not full")
}

// What a full table drops is told: of ten descriptors for which there are four places four come,
// the first ones, and none stays open anywhere.
func TestFullTableIsTold(t *testing.T) {
	pair := pairOf(t, unix.SOCK_SEQPACKET)
	done := make(chan error)
	onOwnThread(func() {
		done <- func() error {
			if errno := unshareFiles(); errno != 0 {
				return fmt.Errorf("unshare: %v", errno)
			}
			var p parcel
			if errno := p.send(pair[0], []byte("x"), slices.Repeat([]int32{pair[0]}, 10)); errno != 0 {
				return errno
			}
			// Fill the table but for four.
			var own []int
			for {
				fd, err := unix.FcntlInt(uintptr(pair[0]), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					break
				}
				own = append(own, fd)
			}
			for _, fd := range own[len(own)-4:] {
				unix.Close(fd)
			}
			_, got, cut, errno := p.receive(pair[1], make([]byte, 8), nil)
			if errno != 0 || !cut || len(got) != 4 {
				return fmt.Errorf("%d descriptors, cut %v, %v; want 4 and cut", len(got), cut, errno)
			}
			return nil
		}()
	})
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("waited 10 s")
	}
}

// Nobody but the thread that has it sees a private table: threads that Go starts later, from
// whatever goroutine, have the process's. Descriptors that are opened on either side do not show on
// the other.
func TestLaterThreadsHaveTheProcessTable(t *testing.T) {
	tid, leave := make(chan int), make(chan struct{})
	const apart = 30
	onOwnThread(func() {
		if errno := unshareFiles(); errno != 0 {
			t.Error(errno)
		}
		var own []int
		for range apart {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Error(err)
			}
			own = append(own, fd)
		}
		tid <- unix.Gettid()
		// Threads started from here are asked for by a locked thread.
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { time.Sleep(5 * time.Millisecond) })
		}
		wg.Wait()
		<-leave
		for _, fd := range own {
			unix.Close(fd)
		}
	})
	own := <-tid
	// Each of these is locked and waits: so there must be a thread for each.
	const more = 20
	ids := make(chan int, more)
	for range more {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ids <- unix.Gettid()
			<-leave
		}()
	}
	for range more {
		<-ids
	}
	shared := tableOf(t, os.Getpid())
	if shared >= apart {
		t.Fatalf("%d descriptors in the process's table: too many to tell the tables apart", shared)
	}
	wrong, threads := "", 0
	looks := func() bool {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		wrong, threads = "", len(tasks)
		for _, task := range tasks {
			id, _ := strconv.Atoi(task.Name())
			names, err := os.ReadDir("/proc/self/task/" + task.Name() + "/fd")
			if err != nil {
				continue // it has ended meanwhile
			}
			if n := len(names); (n > apart) != (id == own) {
				wrong = fmt.Sprintf("thread %d has %d descriptors; the process %d, the thread with its own table, %d, has %d more", id, n, shared, own, apart)
			}
		}
		return wrong == ""
	}
	// Threads that end may show their tables for a moment.
	for late := time.Now().Add(10 * time.Second); !looks() && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
	if wrong != "" || threads < more {
		t.Errorf("%d threads, want more than %d; %s", threads, more, wrong)
	}
	close(leave)
}

// tableOf counts the descriptors in a thread's table.
func tableOf(t testing.TB, tid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/self/task/%d/fd", tid))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// BenchmarkHandover moves sockets into another table and back out of it: send, receive, close in
// both, a message of so many at a time.
func BenchmarkHandover(b *testing.B) {
	for _, n := range []int{1, 16, 64, mostFiles} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			pair := pairOf(b, unix.SOCK_SEQPACKET)
			var p parcel
			var l [12]byte
			fds := make([]int32, n)
			var got []int32
			for range b.N {
				b.StopTimer()
				for i := range fds {
					fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						b.Fatal(err)
					}
					fds[i] = int32(fd)
				}
				b.StartTimer()
				if errno := p.send(pair[0], l[:], fds); errno != 0 {
					b.Fatal(errno)
				}
				for _, fd := range fds {
					syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
				}
				_, got, _, _ = p.receive(pair[1], l[:], got[:0])
				b.StopTimer()
				for _, fd := range got {
					unix.Close(int(fd))
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/socket")
		})
	}
}
