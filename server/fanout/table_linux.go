package fanout

// Descriptor tables: a thread may have one of its own, and then it alone is bound by its size.

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// separate gives the calling thread, which onOwnThread has started, a descriptor table of its own
// and opens p's epoll set in it. It counts how many streams the table has room for, up to most.
//
// Sockets that came with the copy are closed here, but for the pair's end: a connection or a
// listening socket would stay open in this table when the process has closed it. The rest stays: Go's
// runtime writes to descriptors of its own by their numbers from any thread, and what is printed when
// all ends goes to 2.
func (p *epoll) separate(most int) (room int, err error) {
	if errno := unshareFiles(); errno != 0 {
		return 0, fmt.Errorf("%w: unshare: %w", ErrNoTables, errno)
	}
	if err := p.open(); err != nil {
		return 0, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	// Whoever has more descriptors than this lies above what the streams need.
	p.pair.thread = unix.Gettid()
	p.pair.limit = int(min(limit.Cur, math.MaxInt32))
	for fd := range min(p.pair.limit, most+inheritedMost) {
		var s unix.Stat_t
		if unix.Fstat(fd, &s) != nil {
			continue
		}
		if fd > 2 && fd != int(p.pair.out) && s.Mode&unix.S_IFMT == unix.S_IFSOCK {
			unix.Close(fd)
			continue
		}
		p.pair.files++
	}
	room = min(most, p.pair.limit-p.pair.files)
	if room < 1 {
		return 0, fmt.Errorf("%w: the limit of %d open files leaves no room beside %d others", ErrNoTables, p.pair.limit, p.pair.files)
	}
	return room, nil
}

// inheritedMost is how many descriptors that are not streams a table is looked through for: those
// that the process has open when it starts its shards.
const inheritedMost = 1 << 16

// startNetpoll makes Go's runtime open what it has for waiting (an epoll set and an eventfd), which
// it does when it is first needed. It may write to the eventfd from any thread, by its number: so it has
// to be there before tables are copied.
func startNetpoll() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	return errors.Join(r.Close(), w.Close())
}

// unshareFiles gives the calling thread, which must be locked and stay so until it ends, a
// descriptor table of its own: a copy of the one it had. Threads that Go starts later do not get it,
// for a locked thread leaves that to another.
//
// A container's filter often refuses unshare, which could do other things too, and lets close_range
// pass: it can unshare as well, and is told to close nothing.
func unshareFiles() syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_FILES, 0, 0)
	if errno != 0 {
		_, _, second := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, math.MaxUint32, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE)
		if second == 0 {
			return 0
		}
	}
	return errno
}

// onOwnThread runs f on a locked thread that ends with it, and so gives back the descriptor table
// that f may have unshared. That is never the process's first thread: Go keeps that one for ever, and
// what /proc tells of the process is told of it. Any goroutine; it does not wait for f.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread() // not unlocked where f runs
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked // this goroutine holds the first thread until then
		runtime.UnlockOSThread()
	}()
}
