package fanout

// What a shard asks of the ground: a table of the system calls and the clock
// that fanout uses, and nothing else reaches the kernel from here. The real one
// is in poll_linux.go; scenarios, simulation and fault injection bring their own.
//
// All of it runs on the shard's thread, but for ring, which any goroutine may call.

import (
	"net/netip"
	"syscall"
	"time"
)

// A system is chosen once, when its shard is made.
type system interface {
	// now is the time, with Go's monotonic reading.
	now() time.Time

	// send gives p to fd's socket without blocking and tells how much of it was
	// taken: EAGAIN with what fit, which may be nothing, when the socket is full.
	send(fd int32, p []byte) (n int, err syscall.Errno)
	// discard reads and forgets what a client sent, at most 64 KiB of it.
	discard(fd int32)
	// finish says that nothing more will be sent.
	finish(fd int32)
	// close gives fd back. What still waits to be read in it makes this a reset.
	close(fd int32)
	// reset gives fd back with a reset: what the socket holds that was not sent is
	// forgotten, and the other end can't take what it got for the whole.
	reset(fd int32)
	// unsent is how many bytes fd's socket holds that the other end has not taken.
	unsent(fd int32) int32
	// peer is the other end's address.
	peer(fd int32) netip.AddrPort

	// watch asks for hang-ups of fd's socket, told by slot.
	watch(fd int32, slot uint32) syscall.Errno
	// writable asks, beside hang-ups, to be told when fd's socket takes bytes
	// again, or no longer.
	writable(fd int32, slot uint32, on bool) syscall.Errno
	// unwatch ends watch. It comes before close: a socket that another
	// descriptor table or process also holds would stay in the epoll set.
	unwatch(fd int32)

	// give sends descriptors to another process over a unix socket (sendSockets). They
	// stay open here.
	give(to int32, first int, fds []int32, until time.Time) error

	// wait appends to events what happened, waiting for something at most as
	// long as told: not at all at 0. A ring of the bell ends it without an event.
	wait(events []event, atMost time.Duration) []event
	// receive takes a message with sockets for this shard's own descriptor table, if there
	// is one: it appends them, and -1 for each that was lost on the way, and
	// tells the number of the joiner whose is the first.
	receive(fds []int32) (first uint64, _ []int32, ok bool)

	// ring ends a wait, the one under way or the next one. Any goroutine.
	ring()
	// release gives back what the table itself holds.
	release()
}

// An event is what happened to a watched socket.
type event struct {
	slot     uint32
	gone     bool // closed, half-closed, reset or timed out
	writable bool // takes bytes again
}
