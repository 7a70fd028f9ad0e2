package fanout

// What other goroutines leave for a shard, and its bell.
//
// The only lock that a shard takes. A shard that is awake looks in at each pass's
// end, so that the bell is rung only for one that sleeps.
//
// Where the shard has a descriptor table of its own, a joiner waits here from the
// beginning, and its socket follows by another way (porter.go): only when that has been
// sent may the shard take it.

import (
	"sync"
	"time"
)

// A joiner is a socket with what it asks for, on its way to a shard.
type joiner struct {
	fd           int32 // in the process's descriptor table until it is sent; -1 where it was lost on the way
	subscription *Subscription
}

// A command is what the rest of the server wants of a shard.
type command struct {
	kind   commandKind
	spread time.Duration       // drain: over which the streams end
	limits Limits              // limit
	n      int                 // laggards: how many
	answer chan<- []StreamInfo // laggards: one answer, without waiting: it has room

	frozen  chan<- shardState // freeze: the answer, once the shard has come to rest; it has room
	shares  []share           // adopt
	done    chan<- error      // give, adopt, let go: the answer; it has room
	stretch stretch           // give: which streams
	to      int32             // give: over which unix socket of the process's table; one with a table of its own was lent it
	until   time.Time         // give: how long it may take
	barrier barrier           // break: where the shard stands still
}

type commandKind uint8

const (
	commandDrain commandKind = iota
	commandCut
	commandLaggards
	commandFreeze
	commandThaw
	commandGive
	commandAdopt
	commandLetGo
	commandLimit
	commandBreak
	commandStop
)

// inbox is safe from any goroutine.
type inbox struct {
	apart bool // set once: the shard has a descriptor table of its own
	out   parcel

	mu       sync.Mutex
	joiners  []joiner
	commands []command
	closed   bool   // drained: takes no more joiners
	first    uint64 // apart: the number of joiners[0]; they are numbered from 0 on
	sent     uint64 // apart: the number of the first one whose socket has not been sent
	sending  bool   // apart: somebody sends, and out is theirs
}

// join leaves a socket; false when the shard takes no more.
func (in *inbox) join(j joiner) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	in.joiners = append(in.joiners, j)
	return true
}

func (in *inbox) command(c command) {
	in.mu.Lock()
	in.commands = append(in.commands, c)
	in.mu.Unlock()
}

// close refuses joiners from now on.
func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
}

// empty tells whether there is nothing to take. Called between "asleep" and
// sleep: whoever puts something in later sees the shard asleep and rings.
func (in *inbox) empty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.ready() == 0 && len(in.commands) == 0
}

// waits tells whether there are joiners, of a shard without a table of its own.
func (in *inbox) waits() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.joiners) > 0
}

// ready is how many joiners may be taken. With the lock.
func (in *inbox) ready() int {
	if in.apart {
		return int(in.sent - in.first)
	}
	return len(in.joiners)
}

// orderless tells whether there is no command.
func (in *inbox) orderless() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.commands) == 0
}

// take appends at most n joiners, the oldest first, and all commands.
func (in *inbox) take(joiners []joiner, commands []command, n int) ([]joiner, []command) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n = min(n, in.ready())
	if in.apart {
		in.first += uint64(n)
	}
	joiners = append(joiners, in.joiners[:n]...)
	rest := copy(in.joiners, in.joiners[n:])
	clear(in.joiners[rest:])
	in.joiners = in.joiners[:rest]
	commands = append(commands, in.commands...)
	clear(in.commands)
	in.commands = in.commands[:0]
	return joiners, commands
}

// unsent is how many sockets wait to be sent.
func (in *inbox) unsent() int {
	if !in.apart {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.joiners) - in.ready()
}

// beginSending appends the sockets that are to be sent next, at most so many, and tells the number of
// the first; whoever gets some must call endSending. None where nothing waits, or where somebody sends
// already, who will send these too.
func (in *inbox) beginSending(fds []int32, most int) (_ []int32, first uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.sending {
		return fds, 0
	}
	waiting := in.joiners[in.ready():]
	for _, j := range waiting[:min(len(waiting), most)] {
		fds = append(fds, j.fd)
	}
	in.sending = len(fds) > 0
	return fds, in.sent
}

// endSending tells that the first n of these sockets were sent.
func (in *inbox) endSending(n int) {
	in.mu.Lock()
	in.sent += uint64(n)
	in.sending = false
	in.mu.Unlock()
}

// abandon empties the inbox of a shard whose thread has ended, and returns the sockets that were
// never sent.
func (in *inbox) abandon() (fds []int32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, j := range in.joiners[in.ready():] {
		fds = append(fds, j.fd)
	}
	in.joiners, in.closed, in.first = nil, true, in.sent
	return fds
}
