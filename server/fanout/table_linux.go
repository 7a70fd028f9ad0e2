package fanout

// Descriptor tables: a thread may have one of its own, and then it alone is bound by its size.

import (
	"math"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

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
