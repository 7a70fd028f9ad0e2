package tuning

// What is planned for a machine, and what that takes: memory, CPU time, places in queues. The
// constants are measured; docs/capacity.md and tuning.md say how. Plain data: any goroutine.

import (
	"cmp"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

const (
	// processStream is what a stream takes of the process at most, with a subscription that it
	// shares: 72 to 170 bytes are measured, and 400 leave room for one of its own.
	processStream = 400
	// kernelStream is what an idle stream takes of the kernel: its socket, inode, file, entry and
	// place in an epoll set.
	kernelStream = 4 << 10
	// processAlone is what the process takes beside ring and streams: program, threads, garbage.
	processAlone = 50 << 20
	// beatMicros is the CPU time of a heartbeat, most of it the kernel's.
	beatMicros = 8.6
	// sendMicros is the CPU time of an event that is sent alone.
	sendMicros = 6.8
	// mostShards is the most that --shards takes.
	mostShards = 1024
)

// A Plan is what a machine is to hold.
type Plan struct {
	Connections int   // streams, and whoever publishes
	Ring        int64 // bytes of --ring-size
	Heap        int64 // bytes for what is kept for quiet topics and for slow readers, when it is full

	// Those of a server that is known; zero is serve's default.
	Backlog   int           // --backlog (4096)
	Heartbeat time.Duration // --heartbeat (15s)
	Spread    time.Duration // from --retry-min to --retry-max (3s)
}

// fixed is what the process takes without any stream, with a full ring: the ring with what
// collecting it costs (1.3 times), the program.
func (p Plan) fixed() uint64 { return uint64(p.Ring)*13/10 + processAlone }

// Memory is what the process and the kernel need for the plan in bytes, all streams idle.
func (p Plan) Memory() uint64 {
	return p.fixed() + uint64(p.Connections)*(processStream+kernelStream)
}

// busy is what is needed beside Memory at a bad moment: an event that nobody has acknowledged yet
// takes a page of each stream, and what is bounded by --keep-size and --lag-memory is full.
func (p Plan) busy() uint64 { return uint64(p.Connections)*4096 + uint64(p.Heap) }

// inMemory is how many streams fit into so many bytes; 0 where not even the ring does.
func (p Plan) inMemory(available uint64) int {
	if available <= p.fixed() {
		return 0
	}
	return int(min(1<<40, (available-p.fixed())/(processStream+kernelStream)))
}

// arriving is how many of the streams arrive in a tenth of a second when all come back, spread from
// --retry-min to --retry-max: what should find a place while the server is busy with something
// else for that long.
func (p Plan) arriving() int {
	spread := max(cmp.Or(p.Spread, 3*time.Second), 100*time.Millisecond)
	return min(65535, max(128, int(float64(p.Connections)*0.1/spread.Seconds())))
}

// queue is a rounder number for arriving.
func (p Plan) queue() int { return min(65535, powerOfTwo(p.arriving())) }

// beats is what heartbeats take of a core.
func (p Plan) beats() float64 {
	return float64(p.Connections) / cmp.Or(p.Heartbeat, 15*time.Second).Seconds() * beatMicros / 1e6
}

// powerOfTwo is the least one that is not below n, 1 at least.
func powerOfTwo(n int) int {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(n-1))
}

// count writes a number with its thousands apart: 500,000.
func count[T int | uint64 | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	if uint64(n) > 1<<62 {
		return "no limit"
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// bytesText writes a number of bytes in the unit that leaves one to four digits.
func bytesText(n uint64) string {
	switch {
	case n >= 1<<62:
		return "no limit"
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}

// cores writes CPU time as a number of cores.
func cores(n float64) string {
	text := strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", n), "0"), ".")
	if text == "1" {
		return "1 core"
	}
	return text + " cores"
}
