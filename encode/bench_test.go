package encode

// What a frame costs to make and to read. The unit is the event.

import (
	"fmt"
	"strings"
	"testing"
)

// trade is an event as the demo's stock ticker sends it, padded to size bytes of
// frame with its id.
func trade(size int) Event {
	e := Event{Type: "trade", Data: []byte(`{"symbol":"ACME","price":187.25,"size":100,"time":1763670000000}`)}
	n := FrameSize(&e) + len(AppendID(nil, firstID))
	e.Data = append(e.Data, strings.Repeat(" ", size-n)...)
	return e
}

const firstID = 1763670000000000

func BenchmarkAppendFrame(b *testing.B) {
	for _, size := range []int{150, 2048} {
		e := trade(size)
		b.Run(fmt.Sprintf("frame=%dB", size), func(b *testing.B) {
			dst := make([]byte, 0, 2*size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = AppendFrame(dst[:0], &e)
				dst = AppendID(dst, firstID)
			}
		})
	}
	e := Event{Data: []byte(strings.Repeat("a line of forty bytes, more or less, so\n", 50))}
	b.Run("lines=51", func(b *testing.B) {
		dst := make([]byte, 0, 2*FrameSize(&e))
		b.SetBytes(int64(FrameSize(&e)))
		b.ReportAllocs()
		for b.Loop() {
			dst, _ = AppendFrame(dst[:0], &e)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{150, 2048} {
		e := trade(size)
		b.Run(fmt.Sprintf("frame=%dB", size), func(b *testing.B) {
			for b.Loop() {
				if err := e.Check(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseID(b *testing.B) {
	for b.Loop() {
		if _, err := ParseID("1763670000000042"); err != nil {
			b.Fatal(err)
		}
	}
}

// batch is frames of 150 bytes, as many as fit into size bytes.
func batch(size int) (stream []byte, events int) {
	e := trade(150)
	for len(stream)+150 <= size {
		stream, _ = AppendFrame(stream, &e)
		stream = AppendID(stream, firstID+uint64(events))
		events++
	}
	return stream, events
}

func BenchmarkDecode(b *testing.B) {
	stream, events := batch(64 << 10)
	for _, piece := range []int{64 << 10, 1448, 64, 1} {
		b.Run(fmt.Sprintf("piece=%d", piece), func(b *testing.B) {
			var d Decoder
			n := 0
			each := func(*Decoded) { n++ }
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			runs := 0
			for b.Loop() {
				for p := stream; len(p) > 0; {
					cut := min(piece, len(p))
					if err := d.Decode(p[:cut], each); err != nil {
						b.Fatal(err)
					}
					p = p[cut:]
				}
				runs++
			}
			if n != runs*events {
				b.Fatalf("%d events, want %d", n, runs*events)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkDechunk(b *testing.B) {
	plain, _ := batch(64 << 10)
	for _, chunk := range []int{64 << 10, 150} {
		var body []byte
		for p := plain; len(p) > 0; {
			cut := min(chunk, len(p))
			body = AppendChunk(body, p[:cut])
			p = p[cut:]
		}
		b.Run(fmt.Sprintf("chunk=%d", chunk), func(b *testing.B) {
			var d Dechunker
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := body; len(rest) > 0; {
					var err error
					if _, rest, err = d.Next(rest); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
