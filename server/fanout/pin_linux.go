package fanout

// Pinning: a shard's thread stays on one core, so that what the core has cached of its subscribers
// and of their sockets is still there in the next pass. New's goroutine, then the shard's thread.

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// anyCore is where a shard runs that is not pinned.
const anyCore = -1

// cores are the ones that the process may use, the last one first: the first ones are those that most
// interrupts come to. The error is the kernel's, which lets nobody choose.
func cores() (all []int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends here
		var set unix.CPUSet
		if err = unix.SchedGetaffinity(0, &set); err == nil {
			err = unix.SchedSetaffinity(0, &set) // what it has, to see whether it may
		}
		for i := len(set) * 64; i >= 0 && err == nil; i-- {
			if set.IsSet(i) {
				all = append(all, i)
			}
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("--pin: %w; sched_setaffinity(2) is forbidden here, by seccomp for one", err)
	}
	return all, nil
}

// core is where the shard of that number stays.
func (o *Options) core(shard int) int {
	if len(o.pins) == 0 {
		return anyCore
	}
	return o.pins[shard%len(o.pins)]
}

// pin keeps the shard on its core, if it has one. A thread that Go makes meanwhile does not inherit
// it: a locked thread makes none.
func (sh *shard) pin() {
	if sh.core == anyCore {
		return
	}
	var set unix.CPUSet
	set.Set(sh.core)
	// It could when New looked. Where the core has been taken away since, it runs where it may.
	_ = unix.SchedSetaffinity(0, &set)
}
