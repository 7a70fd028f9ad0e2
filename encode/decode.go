package encode

// The Decoder: what a client makes of an event stream. One goroutine at a time.

import (
	"bytes"
	"fmt"
	"sync"
)

// DefaultMaxBlock is the Decoder's bound where MaxBlock is 0.
const DefaultMaxBlock = 16 << 20

// A Decoded is a block of an event stream: what stands between two empty lines.
//
// Its bytes are lent: they lie in what was given to Decode or in a buffer that
// will be used again, are valid during the call only and must not be changed.
// Who keeps them copies them. They are given as they came; where they are not
// UTF-8, a browser shows U+FFFD.
type Decoded struct {
	Type     []byte // what the last event line says, "message" where that is nothing
	Data     []byte // the data lines, joined by LF
	ID       []byte // the last event id after this block, its own or an earlier one's
	HasData  bool   // there was a data line: this is an event; without one nothing is dispatched
	HasID    bool   // the block has an id line that counts: ID is its own
	Retry    int    // the reconnection time it sets, in milliseconds, MaxRetry where it is more; -1: none
	Comments int    // comment lines in it: a heartbeat is a block that has nothing else
}

// A Decoder reads an event stream that comes in pieces of any size, strictly as
// WHATWG HTML 9.2.6 says:
//
//   - one byte order mark at the very start is skipped;
//   - CR, LF and CRLF end a line, wherever a piece ends;
//   - one space behind the colon belongs to it; a line without a colon is a
//     field without a value; unknown fields and an id with a NUL are ignored, and
//     so is a retry of anything but digits;
//   - the last event id stays from block to block, event type and data do not;
//   - a block that has no empty line behind it at the end is thrown away.
//
// The zero value is ready for a stream. It is small (64 bytes, and its last event
// id) and holds no buffer but for a block of which only a part has come; such
// buffers are shared by all decoders. A Decoder belongs to one goroutine at a
// time.
//
// One thing differs from a browser: a retry counts when its block ends, not at
// once.
type Decoder struct {
	// MaxBlock bounds the bytes that are kept of a block that comes in pieces;
	// comments and unknown fields do not count once their line has ended. 0 is
	// DefaultMaxBlock. It may be changed at any time.
	MaxBlock int

	id       []byte // the last event id
	open     *block // what has come of an unfinished block, nil where that is nothing
	line     int    // where the unfinished line begins in open.raw
	comments int    // of the unfinished block, those that were dropped
	mark     uint8  // bytes of a byte order mark seen; markDone behind the start
	skipLF   bool   // the last byte was a CR: an LF belongs to it
	skipLine bool   // drop everything up to the end of this line
	begun    bool   // a block is unfinished, be there anything to keep of it or not
	failed   bool   // a block was over MaxBlock
}

const markDone = 0xff

// A block is what Decode needs beside the bytes that it is given, from the pool:
// a Decoded that may be handed to a function, and room.
type block struct {
	Decoded
	raw    []byte // the lines of an unfinished block
	joined []byte // its data where they are of several lines
}

var blocks = sync.Pool{New: func() any { return new(block) }}

// maxIdle is how much room an idle block keeps, in bytes, of either kind.
const maxIdle = 16 << 10

func (b *block) free() {
	b.Decoded = Decoded{} // it may point into the caller's bytes
	if cap(b.raw) > maxIdle {
		b.raw = nil
	}
	if cap(b.joined) > maxIdle {
		b.joined = nil
	}
	blocks.Put(b)
}

var defaultType = []byte("message")

// A BlockSizeError says that a block of a stream is longer than the Decoder may
// keep.
type BlockSizeError struct{ Max int }

func (e *BlockSizeError) Error() string {
	return fmt.Sprintf("event stream: a block of more than %d bytes; there must be an empty line before", e.Max)
}

// Decode reads p, the next bytes of the stream, and calls each for every block
// that ends in it and has data, an id, a retry or a comment. It allocates nothing
// for blocks that lie whole in p. each must not call the same Decoder.
//
// The error is a *BlockSizeError and stays until Reset; blocks before it were
// handed out.
func (d *Decoder) Decode(p []byte, each func(*Decoded)) error {
	if d.failed {
		return &BlockSizeError{d.maxBlock()}
	}
	if d.mark != markDone {
		p = d.skipMark(p)
	}
	if d.skipLF && len(p) > 0 {
		d.skipLF = false
		if p[0] == '\n' {
			p = p[1:]
		}
	}
	if d.skipLine {
		p = d.skip(p)
	}
	if len(p) == 0 {
		return nil
	}
	b := d.open
	if b != nil {
		rest, ended := d.resume(b, p)
		if !ended {
			return d.kept()
		}
		if len(b.raw) > d.maxBlock() {
			return d.fail()
		}
		d.open = nil
		d.whole(b, b.raw, each)
		if len(rest) == 0 {
			b.free()
			return nil
		}
		p = rest
	} else {
		b = blocks.Get().(*block)
	}
	start, line := d.whole(b, p, each)
	if start == len(p) {
		b.free()
		return nil
	}
	return d.keep(b, p[start:], line-start)
}

// Open tells that bytes of an unfinished block have come: a stream that ends now
// is cut within a block.
func (d *Decoder) Open() bool { return d.begun }

// LastID returns the last event id, that of the last block that has one; it is
// valid until the next call of Decode.
func (d *Decoder) LastID() []byte { return d.id }

// Reset makes d ready for another stream, whose last event id is empty at first.
// MaxBlock stays.
func (d *Decoder) Reset() {
	if d.open != nil {
		d.open.free()
	}
	*d = Decoder{MaxBlock: d.MaxBlock, id: d.id[:0]}
}

func (d *Decoder) maxBlock() int {
	if d.MaxBlock > 0 {
		return d.MaxBlock
	}
	return DefaultMaxBlock
}

func (d *Decoder) fail() error {
	d.open.free()
	d.open = nil
	d.failed = true
	return &BlockSizeError{d.maxBlock()}
}

// skipMark takes the byte order mark off the stream's start. Where only a part of
// one stands there, the part begins a line of no known field: the line is
// dropped, nothing need be kept.
func (d *Decoder) skipMark(p []byte) []byte {
	const bom = "\xef\xbb\xbf"
	for len(p) > 0 && int(d.mark) < len(bom) && p[0] == bom[d.mark] {
		d.mark++
		p = p[1:]
	}
	whole := int(d.mark) == len(bom)
	d.begun = d.mark > 0 && !whole
	if whole || len(p) > 0 {
		d.skipLine = d.begun
		d.mark = markDone
	}
	return p
}

// skip drops p up to the end of its first line.
func (d *Decoder) skip(p []byte) []byte {
	end := nextByte(p, 0, '\n')
	end = nextByte(p[:end], 0, '\r')
	if end == len(p) {
		return nil
	}
	d.skipLine = false
	return d.passEnd(p, end)
}

// passEnd returns what follows the line end at p[end].
func (d *Decoder) passEnd(p []byte, end int) []byte {
	if p[end] == '\r' {
		if end+1 == len(p) {
			d.skipLF = true
		} else if p[end+1] == '\n' {
			end++
		}
	}
	return p[end+1:]
}

// resume adds p to the unfinished block b, line by line and only what counts, up
// to the empty line that ends it. ended tells that it was there; rest is what
// follows it then. All lines that are added end with LF.
func (d *Decoder) resume(b *block, p []byte) (rest []byte, ended bool) {
	lf, cr := -1, -1 // the next ones in p
	for at := 0; at < len(p); at = len(p) - len(rest) {
		if lf < at {
			lf = nextByte(p, at, '\n')
		}
		if cr < at {
			cr = nextByte(p, at, '\r')
		}
		end := min(lf, cr)
		b.raw = append(b.raw, p[at:end]...)
		if end == len(p) {
			d.dropOpenComment(b)
			return nil, false
		}
		rest = d.passEnd(p, end)
		line := b.raw[d.line:]
		if len(line) == 0 {
			b.raw = append(b.raw, '\n')
			return rest, true
		}
		switch field, _ := parseLine(line); field {
		case fieldComment:
			d.comments++
			b.raw = b.raw[:d.line]
		case fieldUnknown:
			b.raw = b.raw[:d.line]
		default:
			b.raw = append(b.raw, '\n')
			d.line = len(b.raw)
		}
	}
	return nil, false
}

// keep makes p, the beginning of a block whose unfinished line begins at line,
// the open block.
func (d *Decoder) keep(b *block, p []byte, line int) error {
	b.raw = append(b.raw[:0], p...)
	if line > 0 {
		b.raw[line-1] = '\n' // a CR would take the LF of an empty line, should that be added next, for its own
	}
	b.Decoded = Decoded{}
	d.open, d.line = b, line
	d.dropOpenComment(b)
	return d.kept()
}

// kept looks at what is kept of the open block: too much is an error, for
// nothing at all no buffer is held.
func (d *Decoder) kept() error {
	switch n := len(d.open.raw); {
	case n > d.maxBlock():
		return d.fail()
	case n == 0:
		d.open.free()
		d.open = nil
	}
	return nil
}

// dropOpenComment drops the unfinished line if it is a comment, so that one
// without an end takes no memory.
func (d *Decoder) dropOpenComment(b *block) {
	if len(b.raw) > d.line && b.raw[d.line] == ':' {
		b.raw = b.raw[:d.line]
		d.comments++
		d.skipLine = true
	}
}

// What a line is.
const (
	fieldUnknown = iota
	fieldComment
	fieldData
	fieldEvent
	fieldID
	fieldRetry
)

// parseLine returns the field of a line that is not empty, and the value: what
// is behind the colon and one space, nothing where there is no colon.
func parseLine(line []byte) (field int, value []byte) {
	name := ""
	switch line[0] {
	case ':':
		return fieldComment, nil
	case 'd':
		field, name = fieldData, "data"
	case 'i':
		field, name = fieldID, "id"
	case 'e':
		field, name = fieldEvent, "event"
	case 'r':
		field, name = fieldRetry, "retry"
	default:
		return fieldUnknown, nil
	}
	n := len(name)
	switch {
	case len(line) < n || string(line[:n]) != name:
		return fieldUnknown, nil
	case len(line) == n:
		return field, nil
	case line[n] != ':':
		return fieldUnknown, nil
	}
	if value = line[n+1:]; len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return field, value
}

// whole hands out the blocks that lie whole in p, which begins at a line's
// border. start is where an unfinished one begins, line where its unfinished line
// does.
//
// This is the hot loop: a line costs one search for its end, for where the next
// CR is, usually nowhere, is remembered.
func (d *Decoder) whole(b *block, p []byte, each func(*Decoded)) (start, line int) {
	var (
		typ, data []byte
		lines     int // of data
		retry     = -1
		comments  = d.comments
		hasID     bool
		id        = d.id   // of the block
		lf, cr    = -1, -1 // the next ones
		at        int
	)
	last := id // of the blocks that have ended
	for {
		if lf < at {
			lf = nextByte(p, at, '\n')
		}
		if cr < at {
			cr = nextByte(p, at, '\r')
		}
		end := min(lf, cr)
		if end == len(p) {
			break
		}
		text := p[at:end]
		at = end + 1
		if end == cr {
			if at == len(p) {
				d.skipLF = true
			} else if p[at] == '\n' {
				at++
			}
		}
		if len(text) == 0 {
			if lines > 0 || hasID || retry >= 0 || comments > 0 {
				if len(typ) == 0 {
					typ = defaultType
				}
				last = id
				b.Decoded = Decoded{
					Type: typ, Data: data, ID: id,
					HasData: lines > 0, HasID: hasID,
					Retry: retry, Comments: comments,
				}
				d.comments = 0
				each(&b.Decoded)
			}
			typ, data, lines, retry, comments, hasID = nil, nil, 0, -1, 0, false
			start = at
			continue
		}
		switch field, v := parseLine(text); field {
		case fieldData:
			switch lines {
			case 0:
				data = v
			case 1:
				b.joined = append(b.joined[:0], data...)
				fallthrough
			default:
				b.joined = append(append(b.joined, '\n'), v...)
				data = b.joined
			}
			lines++
		case fieldEvent:
			typ = v
		case fieldID:
			if bytes.IndexByte(v, 0) < 0 {
				id, hasID = v, true
			}
		case fieldRetry:
			if n := parseRetry(v); n >= 0 {
				retry = n
			}
		case fieldComment:
			comments++
		}
	}
	if len(last) == 0 || len(d.id) == 0 || &last[0] != &d.id[0] {
		d.id = append(d.id[:0], last...)
	}
	d.begun = start < len(p)
	return start, at
}

// parseRetry returns the milliseconds of a retry line, MaxRetry where they are
// more, -1 where v is anything but digits.
func parseRetry(v []byte) int {
	if len(v) == 0 {
		return -1
	}
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1
		}
		n = min(n*10+int64(c-'0'), MaxRetry)
	}
	return int(n)
}
