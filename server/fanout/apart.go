package fanout

// Shards with descriptor tables of their own: how they begin and end. What the limit of open files
// bounds then is a shard, not the server.
//
// The order matters. Every bell and every pair is opened in the process's table first, so that each
// shard finds them at the numbers that others know; then each thread separates (table_linux.go). Only
// when all have is there a shard that follows the ring: nothing waits for one that could not begin.
// From then on a shard's thread touches its epoll set, its bell, its end of its pair and its sockets, and
// nothing else that has a descriptor.

import (
	"golang.org/x/sys/unix"
)

// A starting thread becomes a shard's once it has a table of its own.
type starting struct {
	system *epoll
	room   int
	err    error
	begin  chan *shard   // what it becomes; closed without one: it ends
	ready  chan struct{} // closed when it has separated, or could not
	ended  chan struct{} // closed when it has ended without becoming one
}

// startApart starts o.Shards shards.
func (s *Shards) startApart(o *Options) error {
	if err := startNetpoll(); err != nil {
		return err
	}
	threads := make([]*starting, 0, o.Shards)
	var err error
	for range o.Shards {
		var p *epoll
		if p, err = newEpoll(true); err != nil {
			break
		}
		threads = append(threads, &starting{system: p, begin: make(chan *shard), ready: make(chan struct{}), ended: make(chan struct{})})
	}
	if err != nil {
		for _, t := range threads {
			t.system.shut()
		}
		return err
	}
	for _, t := range threads {
		onOwnThread(func() { t.run(o.TableStreams) })
	}
	for _, t := range threads {
		if <-t.ready; err == nil {
			err = t.err
		}
	}
	for _, t := range threads {
		if err != nil {
			close(t.begin)
			<-t.ended
			t.system.shut()
			continue
		}
		sh := newShard(o, t.system)
		sh.core = o.core(len(s.shards))
		sh.inbox.apart, sh.door = true, t.system.pair.door
		sh.room.Store(int64(t.room))
		s.shards = append(s.shards, sh)
	}
	if err != nil {
		return err
	}
	for i, t := range threads {
		t.begin <- s.shards[i]
	}
	return nil
}

// run is the thread.
func (t *starting) run(most int) {
	t.room, t.err = t.system.separate(most)
	close(t.ready)
	if sh := <-t.begin; sh != nil {
		sh.run()
		return
	}
	t.system.release()
	close(t.ended)
}

// pair is the way into the shard's own descriptor table; nil where it has none.
func (sh *shard) pair() *pair {
	if p, ok := sh.sys.(*epoll); ok {
		return p.pair
	}
	return nil
}

// closeApart gives back what the process's table holds of a shard whose thread has ended: sockets that
// were never sent, and the ends of its pair. What is in flight between those goes with them.
func (s *Shards) closeApart(sh *shard) {
	for _, fd := range sh.inbox.abandon() {
		unix.Close(int(fd))
	}
	sh.sys.(*epoll).shut()
}
