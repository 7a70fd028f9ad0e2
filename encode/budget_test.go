package encode

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"
)

// A load generator holds a Decoder and a Dechunker for each of 15,000 streams.
const (
	_ = uint(64 - unsafe.Sizeof(Decoder{}))
	_ = uint(40 - unsafe.Sizeof(Dechunker{}))
)

// A compressed audience has a Shared, each of its members a Place; a Mark is kept
// for each heartbeat that is on its way.
const (
	_ = uint(48 - unsafe.Sizeof(Shared{}))
	_ = uint(16 - unsafe.Sizeof(Place{}))
	_ = uint(16 - unsafe.Sizeof(Mark{}))
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

// A flush to a compressed audience allocates nothing, and neither does what its members
// do. Fast and Good take a copy of window and plain where there is a window and
// less than 128 bytes: klauspost's one way that compresses so little.
func TestCompressingAllocatesNothing(t *testing.T) {
	if poolForgets {
		t.Skip("sync.Pool forgets on purpose under the race detector")
	}
	frames := trades(t, 1000)
	window, ten := bytes.Join(frames[:100], nil), bytes.Join(frames[100:110], nil)
	dst := make([]byte, 0, 64<<10)
	s := Shared{Level: Best}
	s.KeepWindow(true)
	var p Place
	for _, level := range []Level{Stored, Fast, Good, Best} {
		for name, plain := range map[string][]byte{"heartbeat": []byte(":\n\n"), "trade": frames[100], "ten trades": ten} {
			for _, size := range []int{0, nearWindow, WindowSize} {
				f := func() { dst = AppendDeflate(dst[:0], plain, last(window, size), level) }
				f()
				most := 0.0
				if size > 0 && len(plain) < tooSmall && (level == Fast || level == Good) {
					most = 1
				}
				if n := testing.AllocsPerRun(100, f); n > most {
					t.Errorf("level %d, window %d, %s: %v allocations", level, size, name, n)
				}
			}
		}
	}
	for name, f := range map[string]func(){
		"flush": func() {
			dst = s.AppendDeflate(dst[:0], ten, ReachAll)
			s.Advance(ten)
		},
		"member": func() {
			p.Add(ten)
			p.Enter(s.Mark())
			_ = s.Mark().Reach(&p)
			p.Leave(s.Mark())
			dst = p.AppendEnd(AppendGzipHeader(dst[:0]))
		},
		"ChooseCoding": func() { ChooseCoding("gzip, deflate;q=0.5, br, *;q=0.1", []Coding{Gzip}) },
	} {
		f()
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
