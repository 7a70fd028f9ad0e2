package loadtest

// The clock: one for publishers and readers, and for all processes of a run.
//
// Any goroutine.

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockBase ties Go's monotonic clock, which is cheap to read but counts from nowhere in
// particular, to CLOCK_MONOTONIC, which is the same in every process of this machine.
var clockBase = func() struct {
	at time.Time
	ns int64
} {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("loadtest: clock: " + err.Error()) // the kernel has had it since 2.6
	}
	return struct {
		at time.Time
		ns int64
	}{time.Now(), ts.Nano()}
}()

// clock answers nanoseconds on CLOCK_MONOTONIC.
func clock() int64 { return clockBase.ns + int64(time.Since(clockBase.at)) }
