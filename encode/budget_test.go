package encode

import (
	"strings"
	"testing"
	"unsafe"
)

// A load generator holds a Decoder and a Dechunker for each of 15,000 streams.
const (
	_ = uint(64 - unsafe.Sizeof(Decoder{}))
	_ = uint(40 - unsafe.Sizeof(Dechunker{}))
)

// The encoders allocate nothing where dst has room, the checks nothing at all.
func TestEncodingAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 64<<10)
	plain := trade(150)
	lines := Event{Type: "a", Data: []byte(strings.Repeat("line\r\nline\rline\n", 100)), Retry: MaxRetry}
	gap := Gap{Topics: []string{"a", `"`, "ü"}, After: strings.Repeat("\xff\n", 100), Before: 7, Reason: GapLag}
	payload := make([]byte, 32<<10)
	for name, f := range map[string]func(){
		"AppendFrame":          func() { dst, _ = AppendFrame(dst[:0], &plain) },
		"AppendFrame of lines": func() { dst, _ = AppendFrame(dst[:0], &lines) },
		"FrameSize":            func() { _ = FrameSize(&lines) },
		"Check":                func() { _ = plain.Check() },
		"AppendID":             func() { dst = AppendID(dst[:0], firstID) },
		"AppendStart":          func() { dst = AppendStart(dst[:0], 2500, firstID, true) },
		"AppendGap":            func() { dst = AppendGap(dst[:0], &gap, firstID) },
		"AppendHeartbeat":      func() { dst = AppendHeartbeat(dst[:0]) },
		"AppendHeartbeatEvent": func() { dst = AppendHeartbeatEvent(dst[:0], firstID, true) },
		"AppendChunk":          func() { dst = AppendChunk(dst[:0], payload) },
		"PutChunkHead":         func() { PutChunkHead(payload, len(payload)-ChunkHead) },
		"ParseID":              func() { _, _ = ParseID("1763670000000042") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Reading allocates nothing: in whole blocks, with data of several lines or not,
// and in pieces once the pool has a block.
func TestDecodingAllocatesNothing(t *testing.T) {
	if poolForgets {
		t.Skip("sync.Pool forgets on purpose under the race detector")
	}
	stream, _ := batch(4 << 10)
	stream = append(stream, ":\n\nid: 1763670000000042\n\nretry: 1\n\ndata: a\ndata: b\ndata: c\n\n"...)
	body := AppendChunk(nil, stream)
	var d Decoder
	var chunks Dechunker
	each := func(*Decoded) {}
	pieces := func(n int) func() {
		return func() {
			for p := stream; len(p) > 0; {
				end := min(n, len(p))
				if err := d.Decode(p[:end], each); err != nil {
					t.Fatal(err)
				}
				p = p[end:]
			}
		}
	}
	for name, f := range map[string]func(){
		"whole":             pieces(len(stream)),
		"in pieces of 1448": pieces(1448),
		"byte by byte":      pieces(1),
		"dechunk": func() {
			for rest := body; len(rest) > 0; {
				var err error
				if _, rest, err = chunks.Next(rest); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if d.open != nil {
			t.Errorf("%s: no block is open, but a buffer is held", name)
		}
	}
}

// The buffers that decoders share stay small: one huge block leaves nothing
// behind.
func TestHugeBlockLeavesNoHugeBuffer(t *testing.T) {
	b := &block{raw: make([]byte, maxIdle+1), joined: make([]byte, maxIdle+1), Decoded: Decoded{Data: []byte("x")}}
	b.free()
	if b.raw != nil || b.joined != nil || b.Data != nil {
		t.Errorf("a freed block keeps %d and %d bytes, data %q", cap(b.raw), cap(b.joined), b.Data)
	}
}
