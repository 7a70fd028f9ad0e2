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
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Tables are threads with descriptor tables of their own, of which New makes shards. Before that,
// sockets of another process may come into them (Receive).
type Tables struct {
	threads []*starting
}

// A starting thread becomes a shard's once it has a table of its own.
type starting struct {
	system  *epoll
	room    int
	err     error
	sockets []int32       // that it has received
	orders  chan func()   // what it does until it becomes a shard's, or ends: when this is closed
	shard   *shard        // what it becomes then; nil: it ends
	ready   chan struct{} // closed when it has separated, or could not
	ended   chan struct{} // closed when it has ended without becoming one
}

// NewTables starts so many threads, each with a table for at most so many streams. Sockets that the
// process has open already are closed in these tables; other descriptors take room there. Errors are
// ErrNoTables and those of opening epoll sets; whatever was opened is closed then. New takes tables
// over, else they are to be closed. Any goroutine.
func NewTables(n, streams int) (*Tables, error) {
	if err := startNetpoll(); err != nil {
		return nil, err
	}
	t := &Tables{}
	for range n {
		p, err := newEpoll(true)
		if err != nil {
			for _, th := range t.threads {
				th.system.shut()
			}
			return nil, err
		}
		t.threads = append(t.threads, &starting{system: p, orders: make(chan func()), ready: make(chan struct{}), ended: make(chan struct{})})
	}
	for _, th := range t.threads {
		onOwnThread(func() { th.run(streams) })
	}
	var err error
	for _, th := range t.threads {
		if <-th.ready; err == nil {
			err = th.err
		}
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// run is the thread.
func (th *starting) run(most int) {
	th.room, th.err = th.system.separate(most)
	close(th.ready)
	for do := range th.orders {
		do()
	}
	if th.shard != nil {
		th.shard.run()
		return
	}
	for _, fd := range th.sockets {
		th.system.close(fd)
	}
	th.system.release()
	close(th.ended)
}

// Rooms tells what another process has to know that sends streams into these tables; abreast is
// Options.Abreast.
func (t *Tables) Rooms(abreast int) Rooms {
	r := Rooms{Apart: true, Abreast: abreast}
	for _, th := range t.threads {
		r.Each = append(r.Each, th.room)
	}
	return r
}

// Doors are descriptors of the process's table, one for each table: what is sent into it arrives
// there. They stay the tables'.
func (t *Tables) Doors() (doors []int32) {
	for _, th := range t.threads {
		doors = append(doors, th.system.pair.door)
	}
	return doors
}

// Receive receives the sockets that Give of another process's Shards sends through the doors: so
// many into each table, in the order of its State. Each descriptor is one of its table's. After an
// error the tables are only to be closed. One goroutine.
func (t *Tables) Receive(portions []int, until time.Time) (all []int32, err error) {
	if len(portions) != len(t.threads) {
		return nil, errors.New("sockets come for another number of tables than there are")
	}
	done := make(chan error, len(t.threads))
	for i, th := range t.threads {
		th.orders <- func() {
			var err error
			th.sockets, err = ReceiveSockets(int(th.system.pair.out), portions[i], until)
			done <- err
		}
	}
	for range t.threads {
		if one := <-done; one != nil && err == nil {
			err = one
			t.Abort() // so that the others do not wait for what never comes
		}
	}
	if err != nil {
		return nil, err
	}
	for _, th := range t.threads {
		all = append(all, th.sockets...)
	}
	return all, nil
}

// Abort ends Receive, and whoever sends through the doors, with an error. Any goroutine.
func (t *Tables) Abort() {
	for _, th := range t.threads {
		_ = unix.Shutdown(int(th.system.pair.door), unix.SHUT_RDWR)
	}
}

// Close ends the threads, and closes what they have received.
func (t *Tables) Close() {
	for _, th := range t.threads {
		close(th.orders)
	}
	for _, th := range t.threads {
		<-th.ended
		th.system.shut()
	}
}

// startApart makes shards of tables.
func (s *Shards) startApart(o *Options) {
	for _, th := range o.Tables.threads {
		sh := newShard(o, th.system)
		sh.core = o.core(len(s.shards))
		sh.inbox.apart, sh.door = true, th.system.pair.door
		sh.room.Store(int64(th.room))
		th.shard = sh
		s.shards = append(s.shards, sh)
	}
	for _, th := range o.Tables.threads {
		close(th.orders)
	}
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
