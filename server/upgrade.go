package server

// Upgrades, as the process sees them that hands over: it starts another one, and gives it the
// ring, the topics, the listening sockets and every stream. Until the other one has said that it
// has everything, any failure thaws what was frozen, and this one goes on. takeover.go is the
// other side; what is said between them is in link.go.
//
//	old                                             new
//	start it                          ------------> reads its settings
//	who am I                          ------------> can I take that?         yes / no, why
//	                                  <------------ its descriptor tables: rooms, and doors (SCM_RIGHTS)
//	the ring, while it still moves    ------------> copies
//	freeze: acceptors, publishers, shards
//	the rest of the ring, the state   ------------> makes a sequencer, shards, acceptors of it
//	the sockets (SCM_RIGHTS)          ------------> adopts them, frozen
//	  listeners, connections: by the socket of the pair that both began with
//	  streams: each shard its own, by the door of the table where they go on
//	                                  <------------ ready / why not
//	go                                ------------> thaws
//	lets go of the sockets, answers what is in hand, ends
//
// Upgrade runs on the goroutine of whoever calls it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"penstock/ring"
	"penstock/server/accept"
	"penstock/server/fanout"
)

// ErrFirstProcess is the answer of a server that is process 1: when it ends, so does everything.
var ErrFirstProcess = errors.New("process 1 can't hand over, for its container ends with it: drain it (SIGTERM) and start another container instead")

var errGivenUp = errors.New("it was given up: this process is to end")

// precopyLeft is how few bytes of the ring may be left to copy when everything is frozen.
const precopyLeft = 1 << 20

// Upgrade starts cmd, which is to be a server that calls TakeOver, and hands over to it: when it
// returns without an error, the other process serves every stream, and Run is about to return.
// With one, this server goes on as if nothing had been, and the other process has ended. No phase
// takes longer than --upgrade-timeout; the end of ctx ends it too. done is called as soon as that
// is certain. Any goroutine; one at a time.
func (s *Server) Upgrade(ctx context.Context, cmd *exec.Cmd, done func()) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	switch {
	case s.pid() == 1:
		return ErrFirstProcess
	case s.config.NatsEmbedded != "":
		return errEmbedded
	case s.drains.Load():
		return errors.New("the server drains: there is nothing to hand over")
	}
	began := time.Now()
	n, err := startNext(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	n.certain = context.AfterFunc(ctx, n.abort)
	defer n.certain()
	streams, paused, err := s.handOver(n, done)
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-n.exited: // by itself: how, is worth telling
			case <-time.After(time.Second):
			}
		}
		n.abort()
		if status := n.ended(); ctx.Err() != nil {
			err = errGivenUp
		} else if status != "" {
			err = fmt.Errorf("%w (the new process: %s)", err, status)
		}
		return err
	}
	n.close()
	s.log.Info("handed over", "streams", streams, "to", cmd.Process.Pid, "paused", paused.Round(time.Millisecond).String(), "after", time.Since(began).Round(time.Millisecond).String())
	s.drains.Store(true)
	close(s.handed)
	return nil
}

// handOver is the conversation with the other process. The error says that nothing has happened.
func (s *Server) handOver(n *next, done func()) (streams int, paused time.Duration, err error) {
	l := n.link
	l.within(s.current().UpgradeTimeout)
	r := s.sequencer.Ring()
	who := newHello(r.SegmentSize(), s.carriedBy())
	if who.code(l.out); l.out.Flush() != nil {
		return 0, 0, l.failed()
	}
	if err := l.hear(); err != nil {
		return 0, 0, err
	}
	rooms, err := s.learnRooms(n)
	if err != nil {
		return 0, 0, err
	}
	at, err := s.precopy(l)
	if err != nil {
		return 0, 0, err
	}

	began := time.Now()
	l.within(s.current().UpgradeTimeout)
	until := began.Add(s.current().UpgradeTimeout)
	acceptors := s.acceptors()
	for _, a := range acceptors {
		a.Freeze()
	}
	defer func() {
		if err != nil {
			for _, a := range acceptors {
				a.Thaw()
			}
		}
	}()
	if err := s.sequencer.Freeze(time.Until(until)); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			s.sequencer.Thaw()
		}
	}()
	st, err := s.shards.Freeze(time.Until(until))
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			s.shards.Thaw()
		}
	}()
	portions, err := st.Portions(rooms)
	if err != nil {
		return 0, 0, noRoom(err)
	}
	if err := s.send(n, at, st, portions, until); err != nil {
		return 0, 0, err
	}
	if err := l.hear(); err != nil {
		return 0, 0, err
	}
	// From here on the other process is not killed: it may have everything.
	if !n.certain() {
		return 0, 0, context.Canceled
	}
	if l.out.Word(wordGo); l.out.Flush() != nil {
		return 0, 0, l.failed()
	}
	paused = time.Since(began)
	done()
	// From here on it is the other's.
	s.shards.LetGo()
	for _, a := range acceptors {
		a.LetGo()
	}
	return st.Streams(), paused, nil
}

// acceptors are those of the main and the admin address, where there is one.
func (s *Server) acceptors() []*accept.Acceptor {
	all := []*accept.Acceptor{s.main.Load()}
	if s.admin != nil {
		all = append(all, s.admin)
	}
	return all
}

// precopy sends the ring while it still moves on, until little is left or publishers are as fast,
// and returns the position that is next.
func (s *Server) precopy(l *link) (ring.Position, error) {
	r := s.sequencer.Ring()
	at, most := ring.Position(0), r.Tail()+ring.Position(4*r.Size())
	for {
		p, b := r.Piece(at)
		if r.Head()-p < precopyLeft || p > most {
			return at, nil
		}
		at = p + ring.Position(len(b))
		if l.sendPiece(p, b, r.Tail()); l.out.Err() != nil {
			return 0, l.failed()
		}
	}
}

// learnRooms hears where the streams are to go, and whether there is room for those that there are
// now: before anything is frozen for it.
func (s *Server) learnRooms(n *next) (*fanout.Rooms, error) {
	l, rooms := n.link, new(fanout.Rooms)
	if rooms.Code(l.in); l.in.Err() != nil {
		return nil, l.failed()
	}
	if err := rooms.Take(s.shards.Streams()); err != nil {
		return nil, noRoom(err)
	}
	n.doors = []int32{int32(n.sockets)}
	if rooms.Apart {
		var err error
		if n.doors, err = fanout.ReceiveSockets(n.sockets, len(rooms.Each), time.Now().Add(s.current().UpgradeTimeout)); err != nil {
			return nil, fmt.Errorf("the doors of the new process's descriptor tables: %w", err)
		}
	}
	return rooms, nil
}

func noRoom(err error) error { return fmt.Errorf("the new process can't take all streams: %w", err) }

// send sends everything else. All is frozen.
func (s *Server) send(n *next, at ring.Position, st *fanout.State, portions []int, until time.Time) error {
	l, r := n.link, s.sequencer.Ring()
	for {
		p, b := r.Piece(at)
		if len(b) == 0 {
			break
		}
		l.sendPiece(p, b, r.Tail())
		at = p + ring.Position(len(b))
	}
	l.sendPiece(0, nil, 0)

	var own []int32 // sockets that are no streams
	var moved [2]accept.Moved
	for i, a := range s.acceptors() {
		moved[i] = a.Moved()
		for _, d := range moved[i].Doors {
			own = append(own, d.FD)
		}
		for _, c := range moved[i].Connections {
			own = append(own, c.FD)
		}
	}
	debug := s.debugDoor()
	if debug >= 0 {
		own = append(own, debug)
	}
	parts := parts{main: &moved[0], admin: &moved[1], debug: s.config.Debug, sockets: len(own), portions: portions}
	sent := make(chan error, 1)
	parts.code(l.out)
	if l.out.Flush() != nil {
		return l.failed()
	}
	go func() {
		err := fanout.SendSockets(n.sockets, own, until)
		if err == nil {
			err = s.shards.Give(st, portions, n.doors, until)
		}
		sent <- err
	}()
	s.sequencer.Export().Code(l.out)
	st.Code(l.out)
	if l.out.Flush() != nil {
		n.abort() // or it would be waited for
		<-sent
		return l.failed()
	}
	if err := <-sent; err != nil {
		if why := l.refusal(); why != nil {
			return why
		}
		return err
	}
	l.out.Word(wordSent)
	if l.out.Flush() != nil {
		return l.failed()
	}
	return nil
}

// debugDoor is the debug door's listening socket; -1 where there is none.
func (s *Server) debugDoor() int32 {
	fd := int32(-1)
	if l, ok := s.debugListener.(*net.TCPListener); ok {
		if raw, err := l.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = int32(n) })
		}
	}
	return fd
}

// pid is the number of this process, as it sees itself.
func (s *Server) pid() int { return os.Getpid() }

// A next is the process that is to take over.
type next struct {
	link    *link
	sockets int     // the unix socket that sockets go through
	doors   []int32 // and those of streams, by portion: this same one, or one for each table of shards' own
	cmd     *exec.Cmd
	certain func() bool // from its call on the end of the context does not end it; false: it has
	exited  chan struct{}
	status  string
}

// startNext starts the other process, with a link to it.
func startNext(cmd *exec.Cmd) (*next, error) {
	words, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(words[0]), "words"), os.NewFile(uintptr(words[1]), "words")
	defer theirs.Close()
	defer ours.Close() // the link has its own
	l, err := newLink(ours)
	if err != nil {
		return nil, err
	}
	sockets, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		l.conn.Close()
		return nil, os.NewSyscallError("socketpair", err)
	}
	taken := os.NewFile(uintptr(sockets[1]), "sockets")
	defer taken.Close()
	n := &next{link: l, sockets: sockets[0], cmd: cmd, exited: make(chan struct{})}
	cmd.ExtraFiles = []*os.File{theirs, taken}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, upgradeVariable+"="+upgradeDescriptors)
	if err := cmd.Start(); err != nil {
		n.close()
		return nil, err
	}
	go func() {
		if err := cmd.Wait(); err != nil {
			n.status = err.Error()
		} else {
			n.status = cmd.ProcessState.String()
		}
		close(n.exited)
	}()
	return n, nil
}

// abort ends the conversation and the other process. Any goroutine.
func (n *next) abort() {
	_ = n.link.conn.SetDeadline(time.Unix(1, 0))
	_ = syscall.Shutdown(n.sockets, syscall.SHUT_RDWR) // our own pair: nobody's stream
	_ = n.cmd.Process.Kill()
}

// ended waits for the other process's end and says how it was, once n was aborted.
func (n *next) ended() string {
	<-n.exited
	n.close()
	return n.status
}

func (n *next) close() {
	n.link.conn.Close()
	for _, fd := range n.doors {
		if int(fd) != n.sockets {
			syscall.Close(int(fd))
		}
	}
	syscall.Close(n.sockets)
}
