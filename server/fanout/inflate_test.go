package fanout

// A gzip stream read as it comes, whatever it is cut into.

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// An inflater shows a gzip stream's plain bytes as soon as they are there. compress/gzip
// ends for good where its input does; so each flush is read by itself, with what
// came before it for a window.
type inflater struct {
	packed []byte // of a flush that is not whole yet
	shown  int    // how much of it was shown
	window []byte
	crc    uint32
	size   uint32
	begun  bool
	ended  bool // the trailer was there, and right
}

// next takes what came, and returns what it shows. The result is valid until the next call.
func (f *inflater) next(p []byte) ([]byte, error) {
	f.packed = append(f.packed, p...)
	if !f.begun {
		if len(f.packed) < 10 {
			return nil, nil
		}
		if !bytes.HasPrefix(f.packed, []byte("\x1f\x8b\x08\x00")) {
			return nil, fmt.Errorf("no gzip header: %x", f.packed[:10])
		}
		f.begun, f.packed = true, f.packed[10:]
	}
	in := bytes.NewReader(f.packed)
	plain, err := io.ReadAll(flate.NewReaderDict(in, f.window))
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	out := plain[f.shown:]
	f.shown = len(plain)
	if err != nil && !bytes.HasSuffix(f.packed, []byte("\x00\x00\xff\xff")) || err == nil && in.Len() < 8 {
		return out, nil
	}
	if f.ended {
		return nil, fmt.Errorf("%d bytes behind the trailer", len(p))
	}
	trailer := f.packed[len(f.packed)-in.Len():]
	f.crc = crc32.Update(f.crc, crc32.IEEETable, plain)
	f.size += uint32(len(plain))
	f.window = append(f.window, plain...)
	f.window = append([]byte(nil), f.window[max(0, len(f.window)-32<<10):]...)
	f.packed, f.shown = f.packed[:0], 0
	if err == nil {
		f.ended = true
		if len(trailer) != 8 || binary.LittleEndian.Uint32(trailer) != f.crc || binary.LittleEndian.Uint32(trailer[4:]) != f.size {
			return nil, fmt.Errorf("trailer %x, want %08x and %08x, low end first", trailer, f.crc, f.size)
		}
	}
	return out, nil
}
