package encode

// The Inflater: a gzip stream that comes in pieces (RFC 1952), read as a client
// reads it. One goroutine at a time.
//
// A reader of thousands of streams has no goroutine for each that could wait in
// the middle of a block, as the readers of libraries do. This one stops at any
// bit and goes on there: a code is taken out of the bits only when all that
// belongs to it has come, and so all is shown that can be known.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// An Inflater reads a gzip stream that comes in pieces of any size, and hands on
// its plain bytes as soon as they are known: what was flushed is there at once.
// Members may follow each other (RFC 1952 2.2). It has no pointers inside and
// takes 37 KB, most of it the 32 KiB that a block may point back to. The zero
// value is ready for a stream.
type Inflater struct {
	window [maxWindow]byte // the last plain bytes, around and around
	at     int             // where the next one goes
	total  uint64          // plain bytes of this member
	crc    uint32          // of them
	bits   uint64          // that were read and are not used yet, the next one lowest
	held   uint            // how many
	state  inflateState
	step   int // how far within the state
	flags  byte
	final  bool // the block is the member's last
	fixed  bool // it has the fixed codes
	done   bool // a member has ended
	left   int  // bytes of a stored block; of a field of the header
	copies int  // bytes still to be copied, from so far back:
	back   int

	literals, distances huffman
	lengths             [maxLiterals + maxDistances]uint8
	counts              [3]int // of literals', distances' and lengths' code lengths
	failed              string
}

type inflateState uint8

// Where an Inflater stands: what comes next.
const (
	inMember      inflateState = iota // step bytes of the header's ten have come
	inExtraLength                     // the header's fields that are skipped
	inExtra
	inName
	inComment
	inHeaderCRC
	atBlock         // three bits
	atStoredLength  // four bytes, after the rest of this one
	inStored        // left bytes
	atCounts        // 14 bits
	inLengthLengths // step of them have come
	inLengths       // step of them have come
	inCodes
	atTrailer // the rest of this byte
	inTrailer // eight bytes
)

// Flags of a member's header (RFC 1952 2.3.1).
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsReserved = 0xe0
)

const (
	maxLiterals  = 286 // codes for bytes, the block's end and lengths (RFC 1951 3.2.5)
	maxDistances = 30
)

// What codes for lengths from 257 on, and for distances, begin with, and how many
// bits more they take (RFC 1951 3.2.5).
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthMore = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	backBase   = [maxDistances]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	backMore   = [maxDistances]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	// In which order the lengths of the codes for code lengths come (3.2.7).
	lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// Next returns the next piece of plain bytes and what it has not read of p, to be
// given again: it returns no plain bytes only when all of p is read. They are
// valid until the next call.
//
// The error says what cannot be in a gzip stream, or that the trailer is not that
// of the plain bytes; it stays until Reset. What came before was handed out.
func (z *Inflater) Next(p []byte) (plain, rest []byte, err error) {
	if z.failed == "" {
		if z.at == len(z.window) {
			z.at = 0
		}
		from := z.at
		rest = z.run(p, from)
		if plain = z.window[from:z.at]; len(plain) > 0 {
			z.crc = crc32.Update(z.crc, crc32.IEEETable, plain)
			z.total += uint64(len(plain))
			return plain, rest, nil
		}
	}
	if z.failed != "" {
		return nil, p, errors.New("gzip stream: " + z.failed)
	}
	return nil, nil, nil
}

// Done tells that the stream is whole: the trailer was the last that came, and it
// was right. A stream that ends before is cut.
func (z *Inflater) Done() bool { return z.done && z.state == inMember && z.step == 0 }

// Reset makes z ready for another stream.
func (z *Inflater) Reset() {
	// The window may stay as it is: nothing can point to what was before.
	z.at, z.bits, z.held, z.state, z.step, z.done, z.copies, z.failed = 0, 0, 0, inMember, 0, false, 0, ""
}

// run reads p until there is something to be handed out: at the window's end, at
// a member's end, at p's end. It returns what it has not read.
func (z *Inflater) run(p []byte, from int) []byte {
	for z.failed == "" {
		var v uint32
		ok := true
		switch z.state {
		case inMember:
			if v, p, ok = z.take(p, 8); ok {
				z.member(byte(v))
			}
		case inExtraLength:
			if v, p, ok = z.take(p, 16); ok {
				z.left = int(v)
				z.state = inExtra
			}
		case inExtra:
			if z.left == 0 {
				z.skipFields(flagName)
			} else if _, p, ok = z.take(p, 8); ok {
				z.left--
			}
		case inName, inComment:
			if v, p, ok = z.take(p, 8); ok && v == 0 {
				z.skipFields([...]byte{flagComment, flagHeaderCRC}[z.state-inName])
			}
		case inHeaderCRC:
			if _, p, ok = z.take(p, 16); ok {
				z.state = atBlock
			}
		case atBlock:
			if v, p, ok = z.take(p, 3); ok {
				z.block(v)
			}
		case atStoredLength:
			z.toByte()
			if v, p, ok = z.take(p, 32); ok {
				z.state, z.left = inStored, int(v&0xffff)
				if v>>16 != ^v&0xffff {
					z.failed = fmt.Sprintf("a stored block's length %#04x, and %#04x instead of its complement", v&0xffff, v>>16)
				}
			}
		case inStored:
			if z.left == 0 {
				z.blockEnd()
				break
			}
			if z.at == len(z.window) {
				return p
			}
			if z.held > 0 { // whole bytes
				v, p, _ = z.take(p, 8)
				z.window[z.at] = byte(v)
				z.at++
				z.left--
				break
			}
			n := copy(z.window[z.at:], p[:min(len(p), z.left)])
			z.at += n
			z.left -= n
			p, ok = p[n:], n > 0
		case atCounts:
			if v, p, ok = z.take(p, 14); ok {
				z.counts = [3]int{int(v&31) + 257, int(v>>5&31) + 1, int(v>>10) + 4}
				if z.counts[0] > maxLiterals || z.counts[1] > maxDistances {
					z.failed = fmt.Sprintf("codes for %d literals and %d distances; at most %d and %d", z.counts[0], z.counts[1], maxLiterals, maxDistances)
				}
				clear(z.lengths[:19])
				z.state, z.step = inLengthLengths, 0
			}
		case inLengthLengths:
			if z.step == z.counts[2] {
				z.set(&z.literals, z.lengths[:19], "code lengths")
				z.state, z.step = inLengths, 0
			} else if v, p, ok = z.take(p, 3); ok {
				z.lengths[lengthOrder[z.step]] = uint8(v)
				z.step++
			}
		case inLengths:
			if z.step == z.counts[0]+z.counts[1] {
				z.set(&z.distances, z.lengths[z.counts[0]:z.step], "distances")
				z.set(&z.literals, z.lengths[:z.counts[0]], "literals")
				z.state = inCodes
			} else {
				p, ok = z.length(p)
			}
		case inCodes:
			if p, ok = z.codes(p, from); ok && z.at == len(z.window) {
				return p
			}
		case atTrailer:
			if z.at != from {
				return p // their checksum is taken first
			}
			z.toByte()
			z.state, z.step = inTrailer, 0
		case inTrailer:
			if v, p, ok = z.take(p, 32); ok {
				z.trailer(v)
			}
		}
		if !ok {
			return nil
		}
	}
	return p
}

// fill reads bytes of p while there is room for their bits.
func (z *Inflater) fill(p []byte) []byte {
	for z.held <= 56 && len(p) > 0 {
		z.bits |= uint64(p[0]) << z.held
		z.held += 8
		p = p[1:]
	}
	return p
}

// take takes n bits, at most 32, if so many have come.
func (z *Inflater) take(p []byte, n uint) (v uint32, rest []byte, ok bool) {
	if z.held < n {
		if p = z.fill(p); z.held < n {
			return 0, p, false
		}
	}
	v = uint32(z.bits & (1<<n - 1))
	z.bits >>= n
	z.held -= n
	return v, p, true
}

// toByte drops what is left of a byte.
func (z *Inflater) toByte() {
	z.bits >>= z.held & 7
	z.held &^= 7
}

// member is a byte of the ten that a member begins with (RFC 1952 2.3.1).
func (z *Inflater) member(c byte) {
	switch z.step {
	case 0, 1, 2:
		if want := "\x1f\x8b\x08"[z.step]; c != want {
			z.failed = fmt.Sprintf("byte %d of its header is %#02x, want %#02x", z.step, c, want)
		}
	case 3:
		if z.flags = c; c&flagsReserved != 0 {
			z.failed = fmt.Sprintf("flags %#02x in its header", c)
		}
	}
	if z.step++; z.step == 10 {
		z.step, z.total, z.crc = 0, 0, 0
		z.skipFields(flagExtra)
	}
}

// skipFields goes on with the header's first field that is there, from one on.
func (z *Inflater) skipFields(from byte) {
	z.state = atBlock
	for _, f := range [...]struct {
		flag  byte
		state inflateState
	}{{flagHeaderCRC, inHeaderCRC}, {flagComment, inComment}, {flagName, inName}, {flagExtra, inExtraLength}} {
		if z.flags&f.flag != 0 {
			z.state = f.state
		}
		if f.flag == from {
			return
		}
	}
}

// block begins a block (RFC 1951 3.2.3).
func (z *Inflater) block(v uint32) {
	z.final = v&1 != 0
	switch v >> 1 {
	case 0:
		z.state = atStoredLength
	case 1:
		z.state, z.fixed = inCodes, true
	case 2:
		z.state, z.fixed = atCounts, false
	default:
		z.failed = "a block of the type 3"
	}
}

func (z *Inflater) blockEnd() {
	z.state = atBlock
	if z.final {
		z.state = atTrailer
	}
}

// trailer is one of the two words that a member ends with (RFC 1952 2.3.1).
func (z *Inflater) trailer(v uint32) {
	what, want := "CRC-32", z.crc
	if z.step == 1 {
		what, want = "length", uint32(z.total)
	}
	if v != want {
		z.failed = fmt.Sprintf("%s %#08x in its trailer, and %#08x of the plain bytes", what, v, want)
	}
	if z.step++; z.step == 2 {
		z.state, z.step, z.done = inMember, 0, true
	}
}

// length reads code lengths: one, or a run of them (RFC 1951 3.2.7).
func (z *Inflater) length(p []byte) (rest []byte, ok bool) {
	p = z.fill(p)
	symbol, n := z.literals.symbol(z.bits)
	if n == 0 && z.held >= maxCode {
		z.failed = "a code for a code length that is not there"
		return p, true
	}
	more := uint(0)
	if symbol >= 16 {
		more = [...]uint{2, 3, 7}[symbol-16]
	}
	if n == 0 || n+more > z.held {
		return p, false
	}
	run := 1 + int(z.bits>>n&(1<<more-1))
	z.bits >>= n + more
	z.held -= n + more
	value := uint8(symbol)
	switch symbol {
	case 16:
		if z.step == 0 {
			z.failed = "a repeated code length with none before it"
			return p, true
		}
		value = z.lengths[z.step-1]
		run += 2
	case 17:
		value = 0
		run += 2
	case 18:
		value = 0
		run += 10
	}
	if z.step+run > z.counts[0]+z.counts[1] {
		z.failed = "more code lengths than codes"
		return p, true
	}
	for range run {
		z.lengths[z.step] = value
		z.step++
	}
	return p, true
}

// codes reads the block's codes: bytes, and what is copied from before. ok is
// false when it needs more than p.
func (z *Inflater) codes(p []byte, from int) (rest []byte, ok bool) {
	literals, distances := &z.literals, &z.distances
	if z.fixed {
		literals, distances = &fixedLiterals, &fixedDistances
	}
	z.copy()
	bits, held, at := z.bits, z.held, z.at
	ok = true
loop:
	for at < len(z.window) {
		if held < 48 { // the most that a length and a distance take
			if len(p) >= 8 {
				bits |= binary.LittleEndian.Uint64(p) << held
				n := (63 - held) >> 3
				held += n * 8
				bits &= 1<<held - 1
				p = p[n:]
			}
			for held <= 56 && len(p) > 0 {
				bits |= uint64(p[0]) << held
				held += 8
				p = p[1:]
			}
		}
		symbol, n := literals.symbol(bits)
		switch {
		case n == 0 && held >= maxCode:
			z.failed = "a code for a literal that is not there"
			break loop
		case n == 0 || n > held:
			ok = false
			break loop
		case symbol < 256:
			z.window[at] = byte(symbol)
			at++
			bits >>= n
			held -= n
			continue
		case symbol == 256:
			bits >>= n
			held -= n
			z.blockEnd()
			break loop
		case int(symbol)-257 >= len(lengthBase):
			z.failed = fmt.Sprintf("length code %d", symbol)
			break loop
		}
		more := uint(lengthMore[symbol-257])
		length := int(lengthBase[symbol-257]) + int(bits>>n&(1<<more-1))
		n += more
		if n > held {
			ok = false
			break
		}
		far, m := distances.symbol(bits >> n)
		if m == 0 && held-n < maxCode || m > held-n {
			ok = false
			break
		}
		if m == 0 || int(far) >= len(backBase) {
			z.failed = "a code for a distance that is not there"
			break
		}
		more = uint(backMore[far])
		back := int(backBase[far]) + int(bits>>(n+m)&(1<<more-1))
		if n += m + more; n > held {
			ok = false
			break
		}
		if had := z.total + uint64(at-from); uint64(back) > had {
			z.failed = fmt.Sprintf("a distance of %d after %d bytes", back, had)
			break
		}
		bits >>= n
		held -= n
		z.copies, z.back, z.at = length, back, at
		z.copy()
		at = z.at
	}
	z.bits, z.held, z.at = bits, held, at
	return p, ok
}

// copy copies what is due, up to the window's end.
func (z *Inflater) copy() {
	for z.copies > 0 && z.at < len(z.window) {
		source := z.at - z.back
		if source < 0 {
			source += len(z.window)
		}
		n := min(z.copies, len(z.window)-z.at, len(z.window)-source, z.back)
		copy(z.window[z.at:z.at+n], z.window[source:])
		z.at += n
		z.copies -= n
	}
}

// set makes a code of the lengths of its codes.
func (z *Inflater) set(h *huffman, lengths []uint8, of string) {
	if z.failed == "" && !h.set(lengths) {
		z.failed = "the codes for " + of + " are too many or too few"
	}
}
