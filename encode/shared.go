package encode

// One compressed stream for many: what an audience keeps for it, and what a
// member does. Everything here belongs to one goroutine at a time: the thread of
// the shard that has the audience.
//
//	member:  ──own bytes──┐ Enter                     Leave ┌──own bytes── ...
//	                      ├──none──┬──near──┬─────all───────┤
//	audience:  ───────────┴────────┴────────┴───────────────┴─────────>
//	                      0       1 KiB    the window   since it entered
//
// Members that lag, and joiners, receive bytes of their own, compressed without a
// window. One that has caught up enters the shared stream. From then on its plain
// bytes are the audience's, but at first the blocks must not point back to what it
// never had: it gets blocks made without a window, soon those with the nearest
// bytes for a window, then the ones that all others get.

import (
	"fmt"
	"hash/crc32"
)

const (
	// WindowSize is how many of its last plain bytes an audience keeps, in bytes.
	// A longer window gives little more, costs more for each batch, and makes
	// joiners wait longer: docs/compression.md.
	WindowSize = 8 << 10

	// nearWindow is what a member must have had of the shared stream to get blocks
	// with a short window. Already so few bytes are most of the gain.
	nearWindow = 1 << 10
)

// A Shared is the stream that the members of a compressed audience have in
// common: where it is, and its last plain bytes. The zero value is ready, its
// level Stored, and keeps no window: an audience of few should have no other.
type Shared struct {
	Level Level // of the blocks made from now on; to be changed between batches only

	crc    uint32 // of all plain bytes
	total  uint64 // how many they are
	window []byte // the last of them; nil where none is kept
}

// KeepWindow begins to keep a window, of WindowSize bytes, or drops it. Members
// that are in the stream when it begins need not wait for it.
func (s *Shared) KeepWindow(keep bool) {
	if !keep {
		s.window = nil
	} else if s.window == nil {
		s.window = make([]byte, 0, WindowSize)
	}
}

// KeepsWindow tells whether a window is kept.
func (s *Shared) KeepsWindow() bool { return s.window != nil }

// AppendDeflate appends blocks of plain for the members of that reach, see
// AppendDeflate. plain is what comes next in the stream, so that all of a batch's
// blocks are made before Advance.
func (s *Shared) AppendDeflate(dst, plain []byte, r Reach) []byte {
	return AppendDeflate(dst, plain, r.of(s.Level.dictionary(s.window)), s.Level)
}

// Advance moves the stream on by plain: once for each batch, after its blocks are made. Members
// that have not been sent them, or not all, can still leave at the Mark from
// before.
func (s *Shared) Advance(plain []byte) {
	s.total += uint64(len(plain))
	s.crc = crc32.Update(s.crc, crc32.IEEETable, plain)
	if s.window == nil {
		return
	}
	plain = last(plain, WindowSize)
	if over := len(s.window) + len(plain) - WindowSize; over > 0 {
		s.window = s.window[:copy(s.window, s.window[over:])]
	}
	s.window = append(s.window, plain...)
}

// Mark returns where the stream is.
func (s *Shared) Mark() Mark {
	return Mark{total: s.total, crc: s.crc, window: uint32(len(s.Level.dictionary(s.window)))}
}

// A Mark is a point of a shared stream, good for as long as anybody likes.
type Mark struct {
	total  uint64 // plain bytes before it
	crc    uint32 // of them
	window uint32 // how many of them blocks made here point back to, for those who have them
}

// A Reach says how far back blocks may point for a member: how much it has of the
// window. Blocks of one batch are the same for all members of the same reach.
type Reach uint8

const (
	ReachNone Reach = iota // nothing is known
	ReachNear              // the last 1 KiB
	ReachAll               // the window, or as much of it as the level looks at
	Reaches                // how many there are
)

// of returns the part of the window that is in reach.
func (r Reach) of(window []byte) []byte {
	switch r {
	case ReachNone:
		return nil
	case ReachNear:
		return last(window, nearWindow)
	}
	return window
}

// Reach tells which blocks p gets of the batch that begins at the mark. p must be
// in the stream, and have been sent all of it before the mark.
//
// The count of what p has had wraps at 4 GiB. A member then falls back to blocks
// with less of a window for a moment: that is never wrong.
func (m Mark) Reach(p *Place) Reach {
	if !p.in {
		panic("encode: Mark.Reach: not in the shared stream")
	}
	switch had := uint32(m.total) - p.from; {
	case had >= m.window:
		return ReachAll
	case had >= nearWindow:
		return ReachNear
	}
	return ReachNone
}

// A Place is what a member of a compressed audience keeps: whether it is in the
// shared stream, since when, and what its trailer will say. The zero value is
// that of a stream with its header and nothing else, outside of the shared one.
//
// While it is in, crc and size are the difference between its own and those of
// the shared stream. The size's difference stays as it is. The CRC's is
// multiplied by x^8 with each byte, for both; divided by x^8 for each byte since
// the shared stream began it stays as it is too. So nobody has to touch a Place
// when the audience is sent a batch.
type Place struct {
	crc  uint32 // of all plain bytes
	size uint32 // how many they are, modulo 2^32
	from uint32 // the shared stream's length where it was entered, modulo 2^32
	in   bool
}

// Add notes plain bytes that the member was sent alone. It must not be in the
// shared stream: whoever gets something that the others do not get has to leave.
// An empty block (AppendDeflate of nothing) can be sent to anyone.
func (p *Place) Add(plain []byte) {
	p.want(false, "Add")
	p.crc = crc32.Update(p.crc, crc32.IEEETable, plain)
	p.size += uint32(len(plain))
}

// Enter puts the member into the shared stream: what follows the mark is what it
// is sent next. Both it and Leave take some 200 ns.
func (p *Place) Enter(at Mark) {
	p.want(false, "Enter")
	p.in = true
	p.from = uint32(at.total)
	p.crc = unshiftCRC(p.crc^at.crc, at.total)
	p.size -= uint32(at.total)
}

// Leave takes the member out of the shared stream: it has been sent all of it
// that is before the mark, and nothing behind. Of a batch that it was sent and did
// not take whole the rest is still to be sent, before anything else: it leaves at
// the mark behind the batch, or at the one before and then has the batch added.
func (p *Place) Leave(at Mark) {
	p.want(true, "Leave")
	p.in = false
	p.crc = shiftCRC(p.crc, at.total) ^ at.crc
	p.size += uint32(at.total)
}

// Totals returns what the trailer of the member's stream would say now: the CRC of all plain bytes,
// and how many they are modulo 2^32. It must not be in the shared stream. With PlaceOf they are
// enough to go on elsewhere, for a member outside of it gets blocks without a window.
func (p *Place) Totals() (crc, size uint32) {
	p.want(false, "Totals")
	return p.crc, p.size
}

// PlaceOf returns the Place of a stream with those Totals.
func PlaceOf(crc, size uint32) Place { return Place{crc: crc, size: size} }

// In tells whether the member is in the shared stream.
func (p *Place) In() bool { return p.in }

// AppendEnd appends the end of the member's gzip stream: a block that says so, and
// the trailer (RFC 1952 2.3.1). It must have left the shared stream.
func (p *Place) AppendEnd(dst []byte) []byte {
	p.want(false, "AppendEnd")
	return appendGzipEnd(dst, p.crc, p.size)
}

func (p *Place) want(in bool, method string) {
	if p.in != in {
		panic(fmt.Sprintf("encode: Place.%s: in the shared stream: %t", method, p.in))
	}
}
