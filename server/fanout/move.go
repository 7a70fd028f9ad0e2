package fanout

// Moving to another process: what the rest of the server asks of all shards. One goroutine, but
// not a shard's thread.

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Freeze brings all shards to rest and returns what they have: everything that was published
// has been read, and nobody is served any more, until Thaw or LetGo. The sequencer must be frozen,
// and no Drain under way. Who joins meanwhile waits for the thaw, or is closed without an answer.
// The error says that a shard took longer than it may; then none is frozen.
func (s *Shards) Freeze(atMost time.Duration) (*State, error) {
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

// Give sends the sockets of st, which Freeze has returned: portion i over the unix socket to[i] of the
// process's table, which keeps messages apart and whose other end ReceiveSockets or Tables.Receive
// reads. Each shard sends its own from its own descriptor table, all at the same time. They stay open
// here. With an error some may have been sent.
func (s *Shards) Give(st *State, portions []int, to []int32, until time.Time) error {
	if len(to) != len(portions) {
		return fmt.Errorf("%d ways to send sockets for %d portions", len(to), len(portions))
	}
	var all sync.WaitGroup
	errs := make([]error, len(s.shards))
	stretches := st.stretches(portions)
	for i, sh := range s.shards {
		all.Go(func() {
			for _, one := range stretches {
				if one.from == i && errs[i] == nil {
					errs[i] = sh.handTo(to[one.to], one, until)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// handTo has the shard send some of its sockets, and waits until it has.
func (sh *shard) handTo(to int32, which stretch, until time.Time) error {
	if sh.inbox.apart {
		if err := sh.lend(to, until); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	sh.tell(command{kind: commandGive, to: to, stretch: which, until: until, done: done})
	return sh.answered(done)
}

// Adopt makes the streams of another process's State this one's, with their sockets in its order.
// Where the shards have tables of their own they must have been received there, by these portions;
// else each is a descriptor of the process, and portions are nil. The shards must have been made
// Frozen. They serve nobody before Thaw; the topics that they hold are the sequencer's, loaded before.
func (s *Shards) Adopt(st *State, portions []int, sockets []int32) (err error) {
	if len(sockets) != st.Streams() {
		return fmt.Errorf("%d sockets for %d streams", len(sockets), st.Streams())
	}
	if !s.apart() {
		any := Rooms{Abreast: len(s.shards), Each: make([]int, len(s.shards))}
		for i := range any.Each {
			any.Each[i] = math.MaxInt / len(s.shards)
		}
		if portions, err = st.Portions(&any); err != nil {
			return err
		}
	}
	sum := 0
	for _, n := range portions {
		sum += n
	}
	if len(portions) != len(s.shards) || sum != len(sockets) {
		return fmt.Errorf("portions of %d streams for %d shards, of %d for %d", sum, len(portions), len(sockets), len(s.shards))
	}
	shares := st.split(portions, sockets)
	return s.each(func(i int, c *command) { c.kind, c.shares = commandAdopt, shares[i] })
}

// apart tells whether the shards have descriptor tables of their own.
func (s *Shards) apart() bool { return s.shards[0].inbox.apart }

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
		err = errors.Join(err, sh.answered(answers[i]))
	}
	return err
}

// answered waits for a command's answer.
func (sh *shard) answered(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-sh.stopped:
		return errors.New("the shards have ended")
	}
}

// tell leaves a command and wakes the shard.
func (sh *shard) tell(c command) {
	sh.inbox.command(c)
	sh.wakeUp()
}
