// Package thread is how a locked thread waits in the kernel.
//
// The accept thread and the shards sleep in epoll_wait most of the time. To Go's scheduler that is
// a system call: with syscall.Syscall6 the thread keeps its P (the right to run Go code) until the
// runtime's monitor takes it away, up to 10 ms later, and until then the monitor wakes every 20 us
// to look. A server to which something happens every few milliseconds so spends more on looking
// than on its work. Block6 gives the P away at once: the monitor sleeps when all threads do, and
// goroutines need not wait for a P that nobody uses. BenchmarkLoneWait: 130 us of CPU instead of
// 430 to 550 for something that happens every 5 ms and wakes three threads; a lone event to a
// lone subscriber: 250 us instead of 660.
package thread

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// Block6 makes a system call that is expected to wait, and gives the thread's P away meanwhile. It
// is syscall.Syscall6 otherwise, interrupted calls included. Where the call would not wait,
// RawSyscall6 is cheaper; the way back costs about a microsecond. Any goroutine.
//
// Nothing may happen between the two halves: the goroutine has no P then, so that its stack can't
// grow and nothing of Go's memory may be allocated or reported.
//
//go:nosplit
//go:norace
func Block6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, errno syscall.Errno) {
	entersyscallblock()
	r1, r2, errno = syscall.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
	exitsyscall()
	return r1, r2, errno
}

// What the runtime does itself before and after a call of which it knows that it waits. Both are
// names that it keeps for programs that link to them (the notes at their definitions in
// runtime/proc.go say so).

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
