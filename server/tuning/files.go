// Package tuning looks at what the machine allows. It imports nothing of Penstock's.
package tuning

// File descriptors: each connection is one, so their limit bounds the streams that a server, or a
// shard with a table of its own, holds.
// Called once, before serving, but for OpenFiles; any goroutine.

import (
	"fmt"
	"os"
	"syscall"
)

// FilesReserve is how many descriptors a server keeps for itself: listeners, epoll sets, bells,
// logs, profiles, the files it reads.
const FilesReserve = 128

// Files is the limit of open files (RLIMIT_NOFILE), soft and hard.
type Files struct{ Soft, Hard uint64 }

// RaiseFiles raises the soft limit of open files to the hard one and returns what holds then. An
// error leaves the limit as it was and is no reason not to serve.
func RaiseFiles() (Files, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return Files{}, fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur == limit.Max {
		return Files{limit.Cur, limit.Max}, nil
	}
	raised := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return Files{limit.Cur, limit.Max}, fmt.Errorf("raise the limit of open files from %d to %d: %w", limit.Cur, limit.Max, err)
	}
	return Files{raised.Cur, raised.Max}, nil
}

// Connections is how many connections the limit leaves room for, one at the least.
func (f Files) Connections() int {
	const most = 1 << 30 // "unlimited" must not overflow an int that others add to
	n := min(f.Soft, most)
	if n > 2*FilesReserve {
		return int(n) - FilesReserve
	}
	return max(1, int(n)/2)
}

// Tables is how many shards it takes, so many at least, each with a descriptor table of its own, to hold
// so many streams together, and how many streams such a table holds: what Connections says, less where
// there are so many shards that their bells take more than is reserved. Where no number of shards
// holds them it is the one that holds the most.
func (f Files) Tables(streams, least int) (tables, each int) {
	best := 0
	for n := max(1, least); n <= max(mostShards, least); n++ {
		room := f.Connections()
		if soft := int64(f.Soft); soft > 2*FilesReserve && soft < 1<<30 {
			room = int(max(0, min(int64(room), soft-FilesReserve/2-int64(n))))
		}
		if n*room > best {
			best, tables, each = n*room, n, room
		}
		if best >= streams {
			return tables, each
		}
	}
	return tables, each
}

// OpenFiles is how many descriptors the process's table has; 0 where the kernel does not say so
// without listing them (before Linux 6.2). Any goroutine.
func OpenFiles() int {
	info, err := os.Stat("/proc/self/fd")
	if err != nil {
		return 0
	}
	return int(info.Size())
}
