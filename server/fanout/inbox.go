package fanout

// What other goroutines leave for a shard, and its bell.
//
// The only lock of this package. A shard that is awake looks in at each pass's
// end, so that the bell is rung only for one that sleeps.

import (
	"sync"
	"time"
)

// A joiner is a socket with what it asks for, on its way to a shard.
type joiner struct {
	fd           int32
	subscription *Subscription
}

// A command is what the rest of the server wants of a shard.
type command struct {
	kind   commandKind
	spread time.Duration       // drain: over which the streams end
	limits Limits              // limit
	n      int                 // laggards: how many
	answer chan<- []StreamInfo // laggards: one answer, without waiting: it has room

	frozen chan<- shardState // freeze: the answer, once the shard has come to rest; it has room
	shares []share           // adopt
	done   chan<- error      // give, adopt, let go: the answer; it has room
	first  int               // give: where the shard's sockets begin among all
	to     int32             // give: over which unix socket
	until  time.Time         // give: how long it may take
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
	commandStop
)

// inbox is safe from any goroutine.
type inbox struct {
	mu       sync.Mutex
	joiners  []joiner
	commands []command
	closed   bool // drained: takes no more joiners
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
	return len(in.joiners) == 0 && len(in.commands) == 0
}

// orderless tells whether there is no command.
func (in *inbox) orderless() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.commands) == 0
}

// takeAll returns all joiners.
func (in *inbox) takeAll() (joiners []joiner) {
	in.mu.Lock()
	defer in.mu.Unlock()
	joiners, in.joiners = in.joiners, nil
	return joiners
}

// take appends at most n joiners, the oldest first, and all commands.
func (in *inbox) take(joiners []joiner, commands []command, n int) ([]joiner, []command) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.joiners) <= n {
		n = len(in.joiners)
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
