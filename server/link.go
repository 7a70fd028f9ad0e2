package server

// What two processes say to each other during an upgrade. One goroutine on each side, but for
// abort.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"penstock/ring"
	"penstock/server/accept"
	"penstock/server/handover"
)

// handoverVersion is the version of everything that is said, and of the formats of topic.State,
// fanout.State and accept.Moved: another one is refused. It grows with every change of them. What
// comes before it in a hello never changes.
const handoverVersion = 3

const (
	// upgradeVariable tells a process that it is to take over, and by which descriptors.
	upgradeVariable    = "PENSTOCK_HANDOVER"
	upgradeDescriptors = "3,4"

	wordSent = "sent" // all sockets
	wordGo   = "go"
)

// A link is a connection to the other process.
type link struct {
	conn net.Conn
	out  *handover.Coder
	in   *handover.Coder
}

func newLink(f *os.File) (*link, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, out: handover.NewWriter(conn), in: handover.NewReader(conn)}, nil
}

// within gives what follows its time.
func (l *link) within(d time.Duration) { _ = l.conn.SetDeadline(time.Now().Add(d)) }

// failed is why the conversation has ended, in words that tell what it means: what the other side
// has said, if it has.
func (l *link) failed() error {
	if why := l.refusal(); why != nil {
		return why
	}
	return meaning(errors.Join(l.out.Err(), l.in.Err()))
}

func meaning(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the other process takes longer than it may (--upgrade-timeout): %w", err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return errors.New("the other process has ended")
	}
	return err
}

// refusal is what the other side has said instead of going on, if it has.
func (l *link) refusal() error {
	if l.in.Err() != nil {
		return nil
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if err := l.hear(); err != nil && errors.Is(err, errRefused) {
		return err
	}
	return nil
}

var errRefused = errors.New("the new process refuses")

// say answers the other side: nil for yes.
func (l *link) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.out.String(&text)
	_ = l.out.Flush()
}

// hear hears such an answer.
func (l *link) hear() error {
	var text string
	if l.in.String(&text); l.in.Err() != nil {
		return meaning(l.in.Err())
	}
	if text != "" {
		return fmt.Errorf("%w: %s", errRefused, text)
	}
	return nil
}

// A hello says who hands over.
type hello struct {
	version, layout, segment int
	build                    string
	carrier                  string // Server.carriedBy
}

func newHello(segment int, carrier string) hello {
	return hello{version: handoverVersion, layout: ring.Layout, segment: segment, build: BuildInfo(), carrier: carrier}
}

func (h *hello) code(c *handover.Coder) {
	c.Word("penstock")
	handover.Num(c, &h.version)
	c.String(&h.build)
	if h.version != handoverVersion {
		return
	}
	handover.Num(c, &h.layout)
	handover.Num(c, &h.segment)
	c.String(&h.carrier)
}

// check tells why this process can't take over from that one.
func (h *hello) check() error {
	if h.version != handoverVersion || h.layout != ring.Layout {
		return fmt.Errorf("it hands over in version %d.%d (%s), and version %d.%d is what this one (%s) takes: drain and start anew",
			h.version, h.layout, h.build, handoverVersion, ring.Layout, BuildInfo())
	}
	return nil
}

// sendPiece sends a piece of the ring, and where its tail is; without bytes it says that there are
// no more.
func (l *link) sendPiece(at ring.Position, b []byte, tail ring.Position) {
	n := len(b)
	handover.Num(l.out, &at)
	handover.Num(l.out, &n)
	handover.Num(l.out, &tail)
	_, _ = l.out.Write(b)
}

// takePieces takes the ring's pieces, as they come.
func (l *link) takePieces(c *ring.Copy, more func()) error {
	for {
		var at, tail ring.Position
		var n int
		handover.Num(l.in, &at)
		handover.Num(l.in, &n)
		handover.Num(l.in, &tail)
		if err := l.in.Err(); err != nil || n == 0 {
			return err
		}
		if err := c.Take(at, n, l.in); err != nil {
			return err
		}
		c.Drop(tail)
		more()
	}
}

// parts are what an upgrade is made of, beside the sequencer's and the shards' states.
type parts struct {
	main, admin *accept.Moved
	debug       string // the debug door's address as it was set
	sockets     int    // how many of these come first: main's, admin's, the debug door's
	portions    []int  // how many streams' come then, into each descriptor table
}

func (p *parts) code(c *handover.Coder) {
	c.Word("parts")
	p.main.Code(c)
	p.admin.Code(c)
	c.String(&p.debug)
	handover.Num(c, &p.sockets)
	handover.Numbers(c, &p.portions)
	if p.sockets < 0 || len(p.portions) == 0 || slices.Min(p.portions) < 0 {
		c.Fail(fmt.Errorf("%d sockets, and %d for streams", p.sockets, p.portions))
	}
}

// streams is how many streams come.
func (p *parts) streams() (n int) {
	for _, portion := range p.portions {
		n += portion
	}
	return n
}
