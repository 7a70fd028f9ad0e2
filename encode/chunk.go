package encode

// The chunked transfer coding (RFC 9112 7.1), both ways. What appends may be
// called from any goroutine; a Dechunker belongs to one at a time.

import (
	"fmt"
	"math"
)

const (
	// ChunkHead is the room to leave before a payload for its chunk's header: up
	// to eight hexadecimal digits and CRLF.
	ChunkHead = 8 + 2

	// ChunkTail ends a chunk, behind its payload.
	ChunkTail = "\r\n"

	// LastChunk ends a body: the chunk of size zero and an empty trailer section.
	LastChunk = "0\r\n\r\n"
)

// PutChunkHead writes the header of a chunk of n bytes into buf so that it ends
// at buf[ChunkHead], where the payload begins: buf[start:ChunkHead+n] and
// ChunkTail behind it are the whole chunk. buf has at least ChunkHead bytes; n is
// 1 to 4 GiB less one (a chunk of size 0 would end the body).
func PutChunkHead(buf []byte, n int) (start int) {
	if n <= 0 || uint64(n) > math.MaxUint32 {
		panic(fmt.Sprintf("encode: PutChunkHead: a chunk of %d bytes", n))
	}
	const hex = "0123456789abcdef"
	head := buf[:ChunkHead:ChunkHead]
	head[ChunkHead-2], head[ChunkHead-1] = '\r', '\n'
	start = ChunkHead - 2
	for ; n > 0; n >>= 4 {
		start--
		head[start] = hex[n&15]
	}
	return start
}

// AppendChunk appends payload as one chunk, and nothing at all for an empty
// payload, for a chunk of size 0 would end the body. To make a batch without
// copying it, leave ChunkHead bytes of room and use PutChunkHead.
func AppendChunk(dst, payload []byte) []byte {
	if len(payload) == 0 {
		return dst
	}
	var head [ChunkHead]byte
	start := PutChunkHead(head[:], len(payload))
	dst = append(dst, head[start:]...)
	dst = append(dst, payload...)
	return append(dst, ChunkTail...)
}

// What a Dechunker waits for.
const (
	wantSize       = iota // a size's digits; CR, blank or ";" behind the first
	wantExtension         // blanks behind a size, then ";"
	inExtension           // anything up to CR
	wantSizeLF            // LF behind a size line's CR
	inPayload             // left bytes more
	wantPayloadCR         // CR behind a payload
	wantPayloadLF         // LF behind that
	wantTrailer           // a trailer field's first byte, or the CR of the empty line
	inTrailerName         // the rest of its name, up to ":"
	inTrailerValue        // the rest of its line, up to CR
	wantTrailerLF         // LF behind that
	wantEndLF             // LF behind the empty line's CR
	chunksDone            // the body has ended
)

// maxChunkNoise bounds a chunk's extensions and a body's trailer section, in
// bytes. They are skipped, but somebody who sends them for ever is cut off.
const maxChunkNoise = 4096

// A Dechunker takes the chunked transfer coding off a body that comes in pieces
// of any size (RFC 9112 7.1). The zero value is ready. It allocates nothing but
// its error, and belongs to one goroutine at a time.
//
// It is strict where leniency lets two readers of the same bytes disagree about
// where a body ends: a size is one to sixteen hexadecimal digits below 2^63 with
// nothing around them, every line ends with CRLF, and no other CR, LF or control
// character stands in any. Extensions and trailer fields are skipped.
type Dechunker struct {
	left   uint64 // of the payload, or the size as read so far
	offset uint64 // of the next byte in the body, for errors
	err    error  // what ended it
	noise  uint16 // bytes of this chunk's extensions or of the trailer
	digits uint8  // of the size
	state  uint8
}

// Next takes bytes from p up to the end of the next stretch of payload. payload
// is part of p; it is empty only when p holds no more of any. rest is what has
// not been looked at: call again with it while payload is not empty. Behind the
// body's end (see Done), rest is what follows it.
//
// An error stays: it names the byte, its place in the body and what may stand
// there.
func (d *Dechunker) Next(p []byte) (payload, rest []byte, err error) {
	if d.err != nil {
		return nil, p, d.err
	}
	for i, c := range p {
		switch d.state {
		case inPayload:
			n := int(min(d.left, uint64(len(p)-i)))
			d.left -= uint64(n)
			d.offset += uint64(n)
			if d.left == 0 {
				d.state = wantPayloadCR
			}
			return p[i : i+n], p[i+n:], nil
		case chunksDone:
			return nil, p[i:], nil
		}
		if want := d.framing(c); want != "" {
			d.err = fmt.Errorf("chunked body: byte %#02x at %d; want %s", c, d.offset, want)
			return nil, p[i:], d.err
		}
		d.offset++
	}
	return nil, nil, nil
}

// Done tells that the last chunk and the trailer section behind it have been
// read. A body that ends before is incomplete (RFC 9112 8).
func (d *Dechunker) Done() bool { return d.state == chunksDone }

// framing takes one byte that is not payload. It returns what should have stood
// in its place when it can't be.
func (d *Dechunker) framing(c byte) (want string) {
	switch d.state {
	case wantSize:
		digit, ok := hexDigit(c)
		switch {
		case ok && (d.digits == 16 || d.left > math.MaxInt64>>4):
			return "a size of at most sixteen digits and below 2^63"
		case ok:
			d.left = d.left<<4 | digit
			d.digits++
		case d.digits == 0:
			return "a hexadecimal digit"
		case c == '\r':
			d.state = wantSizeLF
		case c == ';':
			d.state = inExtension
		case c == ' ' || c == '\t':
			d.state = wantExtension
		default:
			return `a hexadecimal digit, CRLF or ";"`
		}
	case wantExtension:
		if c == ';' {
			d.state = inExtension
		} else if c != ' ' && c != '\t' {
			return `";" behind the blank`
		}
		return d.noisy()
	case inExtension:
		if c == '\r' {
			d.state = wantSizeLF
		} else if !fieldByte(c) {
			return "CRLF at the end of the extension, no control characters in it"
		}
		return d.noisy()
	case wantSizeLF:
		if c != '\n' {
			return "LF behind the CR of a size line"
		}
		d.state = inPayload
		if d.left == 0 {
			d.state = wantTrailer
		}
		d.digits, d.noise = 0, 0
	case wantPayloadCR:
		if c != '\r' {
			return "CRLF behind the payload, which ends here"
		}
		d.state = wantPayloadLF
	case wantPayloadLF:
		if c != '\n' {
			return "LF behind the CR of a payload"
		}
		d.state = wantSize
	case wantTrailer:
		switch {
		case c == '\r':
			d.state = wantEndLF
		case tokenByte(c):
			d.state = inTrailerName
		default:
			return "CRLF, or a trailer field"
		}
		return d.noisy()
	case inTrailerName:
		if c == ':' {
			d.state = inTrailerValue
		} else if !tokenByte(c) {
			return `a trailer field's name and ":"`
		}
		return d.noisy()
	case inTrailerValue:
		if c == '\r' {
			d.state = wantTrailerLF
		} else if !fieldByte(c) {
			return "CRLF at the end of the trailer field, no control characters in it"
		}
		return d.noisy()
	case wantTrailerLF:
		if c != '\n' {
			return "LF behind the CR of a trailer field"
		}
		d.state = wantTrailer
	case wantEndLF:
		if c != '\n' {
			return "LF behind the CR that ends the body"
		}
		d.state = chunksDone
	}
	return ""
}

// noisy counts a byte that is skipped.
func (d *Dechunker) noisy() (want string) {
	d.noise++
	if d.noise > maxChunkNoise {
		return "an end: a chunk's extensions have at most 4096 bytes, and so has the trailer"
	}
	return ""
}

func hexDigit(c byte) (uint64, bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}

// fieldByte tells whether c may stand in a field's value or an extension: HTAB,
// SP, VCHAR and obs-text (RFC 9110 5.5).
func fieldByte(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }

// tokenByte tells whether c may stand in a token (RFC 9110 5.6.2).
func tokenByte(c byte) bool {
	if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' {
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}
