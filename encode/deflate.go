package encode

// Deflate: plain bytes to blocks that end where they are seen (RFC 1951), and
// what stands around them in a gzip stream (RFC 1952). Any goroutine; usually
// the shard's thread.
//
// A block may point back into the plain bytes before it, and into nothing else:
// its Huffman codes are its own. So blocks made once can be given to everybody
// whose last plain bytes are the same, whatever came before those and however it
// was compressed. Which bytes somebody has is known in shared.go.

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A Level says what making blocks small may cost. The figures are microseconds
// for a trade of 147 bytes and for 2 KB of HTML, docs/compression.md has them all.
type Level uint8

const (
	Stored Level = iota // nothing: blocks of plain bytes
	Fast                // with the last 1 KiB of the window: 6 and 15
	Good                // with the last 4 KiB of the window: 14 and 23
	Best                // with the whole window: 25 and 34
)

// dictionary returns the part of a window that the level looks at.
func (l Level) dictionary(window []byte) []byte {
	return last(window, [...]int{Stored: 0, Fast: nearWindow, Good: 4 << 10, Best: maxWindow}[l])
}

// LevelFor returns the best level that costs at most a tenth of sending the
// blocks to that many sockets (5 us each, as measured), so that an audience of
// eight is compressed at less cost than one of a thousand; Fast at least. size is
// that of the plain bytes.
func LevelFor(sends, size int) Level {
	budget := sends * 500 // nanoseconds
	switch {
	case budget >= 22e3+18*size:
		return Best
	case budget >= 13e3+5*size:
		return Good
	}
	return Fast
}

const (
	// What deflate can point back to, in bytes (RFC 1951 2).
	maxWindow = 32 << 10
	// The most that one stored block holds (RFC 1951 3.2.4).
	maxStored = 1<<16 - 1
	// The last empty block, after which a client is shown all that it has.
	syncMarker = "\x00\x00\x00\xff\xff"
	// Fast and Good look for no match at all in less than this.
	tooSmall = 128
)

// AppendDeflate appends one flush: plain as complete blocks, none of them the
// last of the stream, and the empty stored block at which every client shows
// what it has: browsers and zlib would at the end of any block, Go's inflate
// does only there.
//
// window is the plain bytes before plain that every receiver has, and has
// nothing behind; nil for receivers of whom nothing is known. At most its last
// 32 KiB are looked at, see Level. Without a plain byte the empty block is all.
//
// The blocks are never longer than stored ones would be, which is 5 bytes more
// than plain for each begun 65,535, and 5 for the empty block. The same
// arguments always give the same bytes. Compressors are kept for reuse, about 1
// MB each, as many as there are goroutines in here; with them nothing is
// allocated, but 1 KiB or 4 at the levels Fast and Good for less than 128
// bytes with a window.
func AppendDeflate(dst, plain, window []byte, level Level) []byte {
	if len(plain) == 0 {
		return append(dst, syncMarker...)
	}
	if level == Stored {
		return appendStored(dst, plain)
	}
	begin := len(dst)
	window = level.dictionary(window)
	kept := &compressors[level]
	if len(window) == 0 && level == Best {
		kept = &compressors[Good] // equally small, in half the time
	}
	c := kept.Get().(*compressor)
	c.dst = dst
	if level != Best && len(plain) < tooSmall && len(window) > 0 {
		c.must(flate.StatelessDeflate(c, plain, false, window))
	} else {
		c.flate.ResetDict(c, window)
		_, err := c.flate.Write(plain)
		c.must(err)
		c.must(c.flate.Flush())
	}
	dst, c.dst = c.dst, nil
	kept.Put(c)
	if len(dst)-begin > storedSize(len(plain)) {
		dst = appendStored(dst[:begin], plain)
	}
	return dst
}

// A compressor is klauspost's, at one of its levels, that writes behind dst.
type compressor struct {
	flate *flate.Writer
	dst   []byte
}

func (c *compressor) Write(p []byte) (int, error) {
	c.dst = append(c.dst, p...)
	return len(p), nil
}

func (c *compressor) must(err error) {
	if err != nil {
		panic("encode: AppendDeflate: " + err.Error()) // only a writer can fail, and ours does not
	}
}

// compressors are those not in use, by level. Of klauspost's levels, 7 to 9
// compress less than 128 bytes, and 8 is half as expensive as 9; below them 5 and
// 6 give the most for their time with short windows.
var compressors = [...]sync.Pool{
	Fast: {New: func() any { return newCompressor(5) }},
	Good: {New: func() any { return newCompressor(6) }},
	Best: {New: func() any { return newCompressor(8) }},
}

func newCompressor(level int) *compressor {
	c := new(compressor)
	w, err := flate.NewWriter(c, level)
	c.must(err)
	c.flate = w
	return c
}

// appendStored appends one flush of blocks that are plain themselves.
func appendStored(dst, plain []byte) []byte {
	for len(plain) > 0 {
		n := min(len(plain), maxStored)
		dst = append(dst, 0)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, plain[:n]...)
		plain = plain[n:]
	}
	return append(dst, syncMarker...)
}

// storedSize is how many bytes appendStored appends for n.
func storedSize(n int) int {
	return n + (n+maxStored-1)/maxStored*len(syncMarker) + len(syncMarker)
}

// last returns the last n bytes of p, or all.
func last(p []byte, n int) []byte {
	return p[len(p)-min(n, len(p)):]
}

// AppendGzipHeader appends what a gzip stream begins with (RFC 1952 2.3.1): no
// time, no name, an unknown system. What follows are blocks, then Place.AppendEnd.
func AppendGzipHeader(dst []byte) []byte {
	return append(dst, "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"...)
}

// appendGzipEnd appends what a gzip stream ends with: the last block, which is
// empty, and the CRC-32 and the length of all plain bytes (RFC 1952 2.3.1). A
// client that does not get it calls the stream cut off.
func appendGzipEnd(dst []byte, crc, size uint32) []byte {
	dst = append(dst, 0x03, 0x00) // last, with the fixed codes, end of block
	dst = binary.LittleEndian.AppendUint32(dst, crc)
	return binary.LittleEndian.AppendUint32(dst, size)
}
