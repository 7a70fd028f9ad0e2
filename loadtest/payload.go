package loadtest

// What an event carries, and how it is read back.
//
// The data of an event is one word of unreserved characters (RFC 3986 2.3), so that no template,
// JSON string, form or URL has to escape it:
//
//	~L<run>.<lane>.<seq>.<due>.<size>.<filler>~
//
// all decimal; due is in microseconds on the run's clock, size that of the whole word in bytes.
// The filler is a piece of a known text that begins where seq says: bytes of another event in
// its midst show. Any goroutine.

import (
	"bytes"
	"strconv"
)

// Sizes of an event's data, in bytes.
const (
	MinSize = 80      // the numbers at their longest, and a little filler
	MaxSize = 1 << 20 // Penstock's default for a whole frame
)

// payloadMark begins every payload.
const payloadMark = "~L"

// A stamp is what a payload says.
type stamp struct {
	run  uint32
	lane uint32
	seq  uint32
	due  int64 // microseconds on the run's clock
}

// verdict says what a piece of data was.
type verdict uint8

const (
	foreign verdict = iota // somebody else's event: no mark of ours in it
	torn                   // ours, but its bytes are not what was published
	whole
)

// fillerPeriod is how many different places a filler may begin at. It is prime: a piece moved by a
// power of two or by a frame's size does not match by chance.
const fillerPeriod = 61

// fillerBlock is the length of filler, a whole number of periods: a longer piece goes on where it began.
const fillerBlock = 64 * fillerPeriod

// filler is the text that fillers are cut from, and one period more.
var filler = bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"), fillerBlock/fillerPeriod+1)

// fillerAt answers the first n bytes, at most fillerBlock, of the filler of number seq.
func fillerAt(seq uint32, n int) []byte {
	from := int(seq % fillerPeriod)
	return filler[from : from+min(n, fillerBlock)]
}

// appendPayload appends a payload of size bytes (MinSize to MaxSize) to dst.
func appendPayload(dst []byte, s stamp, size int) []byte {
	begin := len(dst)
	dst = append(dst, payloadMark...)
	dst = strconv.AppendUint(dst, uint64(s.run), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(s.lane), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(s.seq), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, s.due, 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, '.')
	for n := size - (len(dst) - begin) - 1; n > 0; n -= fillerBlock {
		dst = append(dst, fillerAt(s.seq, n)...)
	}
	return append(dst, '~')
}

// readPayload finds a payload in an event's data, which may be an envelope around it (Centrifugo
// sends JSON), and judges it. The stamp of a torn one is what could be read: run is 0 where
// nothing could. After a torn head, lane and seq may be anybody's.
func readPayload(data []byte) (stamp, verdict) {
	if len(data) < len(payloadMark) || data[0] != payloadMark[0] || data[1] != payloadMark[1] {
		i := bytes.Index(data, []byte(payloadMark))
		if i < 0 {
			return stamp{}, foreign
		}
		data = data[i:]
		if end := bytes.IndexByte(data[1:], '~'); end >= 0 {
			data = data[:end+2]
		}
	}
	var v [5]uint64
	at := len(payloadMark)
	for field := range v {
		n, from := uint64(0), at
		for at < len(data) {
			c := data[at] - '0'
			if c > 9 {
				break
			}
			n = n*10 + uint64(c)
			at++
		}
		if at == from || at >= len(data) || data[at] != '.' || at-from > 19 {
			return stamp{}, torn
		}
		at++
		v[field] = n
	}
	s := stamp{run: uint32(v[0]), lane: uint32(v[1]), seq: uint32(v[2]), due: int64(v[3])}
	if v[4] != uint64(len(data)) || data[len(data)-1] != '~' || at == len(data) {
		return s, torn
	}
	for rest := data[at : len(data)-1]; len(rest) > 0; {
		want := fillerAt(s.seq, len(rest))
		if !bytes.Equal(rest[:len(want)], want) {
			return s, torn
		}
		rest = rest[len(want):]
	}
	return s, whole
}
