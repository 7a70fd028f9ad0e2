package server

// Upgrades, as the process sees them that takes over: the other side of upgrade.go.
//
// TakeOver runs on the goroutine of whoever calls it.

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"penstock/ring"
	"penstock/server/accept"
	"penstock/server/fanout"
	"penstock/server/topic"
)

// A Predecessor is the process that this one is to take over from.
type Predecessor struct {
	link    *link
	sockets int
}

// FromEnvironment returns the process that has started this one to take over from it; nil where
// this one begins anew. It forgets what the environment says, so that no child is told. Call it
// once, before others open files.
func FromEnvironment() (*Predecessor, error) {
	value, ok := os.LookupEnv(upgradeVariable)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(upgradeVariable)
	words, sockets, _ := strings.Cut(value, ",")
	w, err := strconv.ParseUint(words, 10, 31)
	f, ferr := strconv.ParseUint(sockets, 10, 31)
	if err != nil || ferr != nil {
		return nil, fmt.Errorf("%s=%q: it is set by a server that hands over, to the numbers of two descriptors", upgradeVariable, value)
	}
	file := os.NewFile(uintptr(w), "words")
	defer file.Close()
	syscall.CloseOnExec(int(f))
	l, err := newLink(file)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w", upgradeVariable, value, err)
	}
	return &Predecessor{link: l, sockets: int(f)}, nil
}

// TakeOver is New for a process that goes on for another one, with its events and streams. When it
// returns without an error, the other one has let go. With one, that has gone on; nothing of it was
// touched, and whoever calls it should end.
func TakeOver(c Config, log *slog.Logger, from *Predecessor) (*Server, error) {
	if log == nil {
		log = slog.Default()
	}
	defer from.close()
	if err := c.Check(); err != nil {
		from.link.say(err)
		return nil, err
	}
	s := newServer(c, log)
	past := &past{from: from, log: log, connect: s.connect}
	err := s.look()
	if err == nil {
		past.tables = s.tables
		err = past.take(s.rooms(), c.UpgradeTimeout)
	}
	if err == nil {
		s.past = past
		err = s.open()
	}
	if err == nil {
		err = s.agree()
	}
	if err != nil {
		err = meaning(err)
		from.link.say(err)
		s.letGo()
		s.Close()
		past.forget()
		return nil, fmt.Errorf("take over: %w", err)
	}
	s.past = nil
	return s, nil
}

func (p *Predecessor) close() {
	p.link.conn.Close()
	syscall.Close(p.sockets)
}

// past is what was taken over and is not yet somebody's.
type past struct {
	from      *Predecessor
	log       *slog.Logger
	copy      *ring.Copy
	sequencer topic.State
	streams   fanout.State
	parts     parts
	doors     []accept.MovedDoor // of both; whoever takes one takes its descriptor out
	tables    *fanout.Tables     // where they come into; nil: into the process's
	sockets   []int32            // of the streams, by numbers of those
	debug     int32              // -1: none
	began     time.Time
	keepState func() // begins to keep the state file

	connect func(carrier string) error // is told what carries the events there, while nothing is frozen yet
}

// take takes the ring and then, everything being frozen there, all the rest.
func (p *past) take(rooms fanout.Rooms, timeout time.Duration) error {
	l := p.from.link
	l.within(timeout)
	p.debug = -1
	if err := p.greet(rooms, timeout); err != nil {
		return err
	}
	if err := l.takePieces(p.copy, func() { l.within(timeout) }); err != nil {
		return err
	}
	p.began = time.Now()
	l.within(timeout)
	p.parts.main, p.parts.admin = new(accept.Moved), new(accept.Moved)
	if p.parts.code(l.in); l.in.Err() != nil {
		return l.in.Err()
	}
	type result struct {
		own, streams []int32
		err          error
	}
	received := make(chan result, 1)
	go func() {
		own, streams, err := p.receive(p.began.Add(timeout))
		received <- result{own, streams, err}
		if err != nil {
			_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // the other one sends no more, and waits to hear why
		}
	}()
	p.sequencer.Code(l.in)
	p.streams.Code(l.in)
	l.in.Word(wordSent) // or it was not to be: then nobody waits for sockets
	err := l.in.Err()
	var got result
	select {
	case got = <-received:
		if got.err != nil {
			err = got.err
		}
	default:
		if err != nil {
			_ = syscall.Shutdown(p.from.sockets, syscall.SHUT_RDWR)
			if p.tables != nil {
				p.tables.Abort()
			}
		}
		if got = <-received; err == nil {
			err = got.err
		}
	}
	p.sockets = got.streams
	if err != nil {
		for i := range got.own {
			drop(&got.own[i])
		}
		return err
	}
	return p.deal(got.own)
}

// greet hears who hands over, and says where the streams are to go.
func (p *past) greet(rooms fanout.Rooms, timeout time.Duration) error {
	l := p.from.link
	var h hello
	if h.code(l.in); l.in.Err() != nil {
		return l.in.Err()
	}
	err := h.check()
	if err == nil && p.connect != nil {
		err = p.connect(h.carrier)
	}
	if err == nil {
		p.copy, err = ring.NewCopy(h.segment)
	}
	if err != nil {
		return err
	}
	l.say(nil)
	if rooms.Code(l.out); l.out.Flush() != nil {
		return l.out.Err()
	}
	if p.tables == nil {
		return nil
	}
	return fanout.SendSockets(p.from.sockets, p.tables.Doors(), time.Now().Add(timeout))
}

// receive receives the sockets: first those that are no streams.
func (p *past) receive(until time.Time) (own, streams []int32, err error) {
	own, err = fanout.ReceiveSockets(p.from.sockets, p.parts.sockets, until)
	switch {
	case err != nil:
	case p.tables != nil:
		streams, err = p.tables.Receive(p.parts.portions, until)
	default:
		streams, err = fanout.ReceiveSockets(p.from.sockets, p.parts.streams(), until)
	}
	return own, streams, err
}

// deal gives each part its sockets.
func (p *past) deal(sockets []int32) error {
	for _, m := range []*accept.Moved{p.parts.main, p.parts.admin} {
		if len(m.Doors)+len(m.Connections) > len(sockets) {
			return errors.New("there are fewer sockets than there should be")
		}
		for i := range m.Doors {
			m.Doors[i].FD, sockets = sockets[0], sockets[1:]
		}
		p.doors = append(p.doors, m.Doors...)
		for i := range m.Connections {
			m.Connections[i].FD, sockets = sockets[0], sockets[1:]
		}
	}
	if p.parts.debug != "" && len(sockets) > 0 {
		p.debug, sockets = sockets[0], sockets[1:]
	}
	if len(sockets) > 0 || len(p.sockets) != p.streams.Streams() {
		return fmt.Errorf("%d sockets have come for %d streams, and %d for nobody", len(p.sockets), p.streams.Streams(), len(sockets))
	}
	return nil
}

// forget closes the sockets that nobody has taken.
func (p *past) forget() {
	for _, m := range []*accept.Moved{p.parts.main, p.parts.admin} {
		if m == nil {
			continue
		}
		for i := range m.Connections {
			drop(&m.Connections[i].FD)
		}
	}
	for i := range p.doors {
		drop(&p.doors[i].FD)
	}
	drop(&p.debug)
	for i := range p.sockets {
		if p.tables == nil { // else they go with those
			drop(&p.sockets[i])
		}
	}
}

func drop(fd *int32) {
	if *fd >= 0 {
		syscall.Close(int(*fd))
		*fd = -1
	}
}

// adopt gives the connections between requests to an acceptor: those whose address is served here
// too.
func (p *past) adopt(a *accept.Acceptor, m *accept.Moved, addresses []string) {
	var all []accept.MovedConnection
	for i := range m.Connections {
		c := &m.Connections[i]
		if int(c.From.Listener) >= len(m.Doors) {
			continue
		}
		for j, address := range addresses {
			if address == m.Doors[c.From.Listener].Address {
				moved := *c
				moved.From.Listener = uint8(j)
				all = append(all, moved)
				c.FD = -1
				break
			}
		}
	}
	a.Adopt(all)
}

// debugListener is the other process's, if the address is the same; nil else.
func (p *past) debugListener(address string) net.Listener {
	if p == nil || p.debug < 0 || p.parts.debug != address {
		return nil
	}
	f := os.NewFile(uintptr(p.debug), "debug")
	p.debug = -1
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	return l
}

// agree tells the other process that everything is here, and begins to serve when that has let go.
func (s *Server) agree() error {
	p := s.past
	l := p.from.link
	if err := s.shards.Adopt(&p.streams, p.parts.portions, p.sockets); err != nil {
		return err
	}
	streams := len(p.sockets)
	p.sockets = nil
	s.sequencer.Settle()
	l.within(s.current().UpgradeTimeout)
	l.say(nil)
	if l.in.Word(wordGo); l.in.Err() != nil {
		return l.in.Err()
	}
	if err := s.state.begin(s.sequencer); err != nil {
		s.log.Error("the newest id can't be kept", "error", err) // it is too late to refuse
	}
	p.keepState()
	s.shards.Thaw()
	s.sequencer.Thaw()
	if s.backplane != nil {
		s.backplane.Start(true)
	}
	for _, a := range s.acceptors() {
		a.Thaw()
	}
	p.forget() // of addresses that are not served any more
	p.streams = fanout.State{}
	s.background.Go(debug.FreeOSMemory) // what all that came has left behind
	s.log.Info("took over", "streams", streams, "paused", time.Since(p.began).Round(time.Millisecond).String())
	return nil
}

// letGo forgets everything that another process has.
func (s *Server) letGo() {
	if s.shards != nil {
		s.shards.LetGo()
	}
	if a := s.main.Load(); a != nil {
		a.LetGo()
	}
	if s.admin != nil {
		s.admin.LetGo()
	}
}
