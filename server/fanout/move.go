package fanout

// Moving to another process: what the rest of the server asks of all shards. One goroutine, but
// not a shard's thread.

import (
	"errors"
	"fmt"
	"time"
)

// errApart is why some shards do not move.
var errApart = errors.New("shards with descriptor tables of their own hand no streams over to another process: raise the limit of open files above --max-connections")

// apart tells whether the shards have descriptor tables of their own.
func (s *Shards) apart() bool { return s.shards[0].inbox.apart }

// Movable tells why these shards can't move; nil if they can. Any goroutine.
func (s *Shards) Movable() error {
	if s.apart() {
		return errApart
	}
	return nil
}

// Freeze brings all shards to rest and returns what they have: everything that was published
// has been read, and nobody is served any more, until Thaw or LetGo. The sequencer must be frozen,
// and no Drain under way. Who joins meanwhile waits for the thaw, or is closed without an answer.
// The error says that a shard took longer than it may; then none is frozen.
//
// Shards with descriptor tables of their own can't be frozen: what another process may receive at
// once is bounded by its one table.
func (s *Shards) Freeze(atMost time.Duration) (*State, error) {
	if s.apart() {
		return nil, errApart
	}
	answers := make([]chan shardState, len(s.shards))
	for i, sh := range s.shards {
		answers[i] = make(chan shardState, 1)
		sh.tell(command{kind: commandFreeze, frozen: answers[i]})
	}
	late := time.NewTimer(atMost)
	defer late.Stop()
	st := &State{}
	for i, sh := range s.shards {
		select {
		case one := <-answers[i]:
			st.shards = append(st.shards, one)
		case <-sh.stopped:
			return nil, errors.New("the shards have ended")
		case <-late.C:
			s.Thaw()
			return nil, fmt.Errorf("shard %d did not come to rest within %s", i, atMost)
		}
	}
	return st, nil
}

// Thaw lets all shards go on, with what they had or what they have adopted.
func (s *Shards) Thaw() {
	for _, sh := range s.shards {
		sh.tell(command{kind: commandThaw})
	}
}

// Give sends the sockets of st, which Freeze has returned, over a unix socket that keeps messages
// apart: whose other end ReceiveSockets reads, after that many others. They stay open here.
func (s *Shards) Give(st *State, to, others int, until time.Time) error {
	return s.each(func(i int, c *command) {
		c.kind, c.to, c.until, c.first = commandGive, int32(to), until, others
		for j := range i {
			c.first += len(st.shards[j].streams)
		}
	})
}

// Adopt makes the streams of another process's State this one's, with their sockets in its order:
// each is a descriptor of this process. The shards must have been made Frozen. They serve nobody
// before Thaw; the topics that they hold are the sequencer's, loaded before.
func (s *Shards) Adopt(st *State, sockets []int32) error {
	if len(sockets) != st.Streams() {
		return fmt.Errorf("%d sockets for %d streams", len(sockets), st.Streams())
	}
	if s.apart() && len(sockets) > 0 {
		return errApart
	}
	shares := st.split(len(s.shards), sockets)
	return s.each(func(i int, c *command) { c.kind, c.shares = commandAdopt, shares[i] })
}

// LetGo closes the sockets here and forgets the streams: another process has them. Nobody joins any
// more.
func (s *Shards) LetGo() {
	s.draining.Store(true)
	_ = s.each(func(_ int, c *command) { c.kind = commandLetGo })
}

// each gives each shard a command that is answered, and waits for all of them.
func (s *Shards) each(fill func(i int, c *command)) (err error) {
	answers := make([]chan error, len(s.shards))
	for i, sh := range s.shards {
		answers[i] = make(chan error, 1)
		c := command{done: answers[i]}
		fill(i, &c)
		sh.tell(c)
	}
	for i, sh := range s.shards {
		select {
		case one := <-answers[i]:
			err = errors.Join(err, one)
		case <-sh.stopped:
			err = errors.Join(err, errors.New("the shards have ended"))
		}
	}
	return err
}

// tell leaves a command and wakes the shard.
func (sh *shard) tell(c command) {
	sh.inbox.command(c)
	sh.wakeUp()
}
