package encode

// What compressing costs and gives. docs/compression.md has a table of these; the
// unit is the flush, its time that of the thread, so that a busy machine shows
// less, and ratio is plain bytes to compressed ones. PENSTOCK_TRADES names a
// recording of real trades.

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A load is what a stream carries, flush by flush. What the first ones begin with is not measured.
type load struct {
	name    string
	flushes [][]byte
}

func loads(b *testing.B) []load {
	some := trades(b, 6000)
	return []load{
		{"trades=1", some[:1200]},
		{"trades=10", batches(some, 10)},
		{"symbols=1", tickers(1200)},
		{"html=1", fragments(400)},
		{"ticks=1", ticks(2000)},
	}
}

// warm is how many plain bytes go before those that count: the longest window.
const warm = maxWindow

// each runs f for one flush after the other, over and over, and reports what came of
// it. f returns how many bytes it made; before is everything before plain in the
// stream. reset begins the stream anew.
func each(b *testing.B, flushes [][]byte, reset func(), f func(before, plain []byte) int) {
	all := bytes.Join(flushes, nil)
	ends := make([]int, len(flushes))
	at, first := 0, 0
	for i, p := range flushes {
		if at < warm {
			first = i + 1
		}
		at += len(p)
		ends[i] = at
	}
	reset()
	for i := range first { // what keeps its own window fills it
		f(all[:ends[i]-len(flushes[i])], flushes[i])
	}
	in, out, n := 0, 0, 0
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent, from := time.Duration(0), threadTime(b)
	i := first
	for b.Loop() {
		out += f(all[:ends[i]-len(flushes[i])], flushes[i])
		in += len(flushes[i])
		n++
		if i++; i == len(flushes) {
			b.StopTimer()
			spent += threadTime(b) - from
			i = first
			reset()
			for j := range first {
				f(all[:ends[j]-len(flushes[j])], flushes[j])
			}
			from = threadTime(b)
			b.StartTimer()
		}
	}
	spent += threadTime(b) - from
	b.ReportMetric(float64(in)/float64(out), "ratio")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(spent.Nanoseconds())/1e3/float64(n), "us/flush")
}

// threadTime is the CPU time of this thread.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func BenchmarkDeflate(b *testing.B) {
	dst := make([]byte, 0, 1<<20)
	for _, l := range loads(b) {
		for _, c := range []struct {
			level  Level
			window int
		}{
			{Best, 0}, {Fast, nearWindow}, {Good, 4 << 10},
			{Best, nearWindow}, {Best, 4 << 10}, {Best, 8 << 10}, {Best, 16 << 10}, {Best, 32 << 10},
		} {
			b.Run(fmt.Sprintf("%s/level=%d/window=%dK", l.name, c.level, c.window>>10), func(b *testing.B) {
				each(b, l.flushes, func() {}, func(before, plain []byte) int {
					dst = AppendDeflate(dst[:0], plain, last(before, c.window), c.level)
					return len(dst)
				})
			})
		}
	}
}

// A flusher is a compressor that belongs to one connection.
type flusher interface {
	io.Writer
	Flush() error
	Reset(io.Writer)
}

// BenchmarkOneEach is what others do: a compressor for each connection, which has
// the whole history of its stream. The CPU is for each subscriber, and so is the memory.
func BenchmarkOneEach(b *testing.B) {
	for _, c := range []struct {
		name string
		open func(w io.Writer) flusher
	}{
		{"compress-gzip", func(w io.Writer) flusher { return stdgzip.NewWriter(w) }},
		{"klauspost-gzip", func(w io.Writer) flusher { return gzip.NewWriter(w) }},
		{"klauspost-zstd-8K", func(w io.Writer) flusher { return newZstd(w, zstd.WithWindowSize(8<<10)) }},
		{"klauspost-zstd-8K-best", func(w io.Writer) flusher {
			return newZstd(w, zstd.WithWindowSize(8<<10), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		}},
	} {
		for _, l := range loads(b) {
			b.Run(fmt.Sprintf("%s/%s", c.name, l.name), func(b *testing.B) {
				var out bytes.Buffer
				w := c.open(&out)
				each(b, l.flushes, func() { w.Reset(&out) }, func(_, plain []byte) int {
					out.Reset()
					w.Write(plain)
					w.Flush()
					return out.Len()
				})
				b.ReportMetric(memoryOf(func() any {
					w := c.open(io.Discard)
					w.Write(l.flushes[0])
					w.Flush()
					return w
				}), "KB/subscriber")
			})
		}
	}
}

// BenchmarkZstdBlocks is the idea of AppendDeflate with Zstandard: a compressor
// that begins each block with the audience's last bytes for a raw dictionary, and
// the block without its frame's header. It is here to be measured only: the first
// matches of such a block may lean on recent offsets (RFC 8878 3.1.1.5) that
// are not those of the member's decoder, and the library has no way to say no.
func BenchmarkZstdBlocks(b *testing.B) {
	for _, l := range loads(b) {
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
			for _, window := range []int{nearWindow, WindowSize} {
				b.Run(fmt.Sprintf("%s/%s/window=%dK", l.name, level, window>>10), func(b *testing.B) {
					var out bytes.Buffer
					w := newZstd(&out, zstd.WithEncoderLevel(level), zstd.WithWindowSize(8<<10), zstd.WithEncoderDictRaw(1, []byte("12345678")))
					each(b, l.flushes, func() {}, func(before, plain []byte) int {
						out.Reset()
						if err := w.ResetWithOptions(&out, zstd.WithEncoderDictRaw(1, last(before, window))); err != nil {
							b.Fatal(err)
						}
						w.Write(plain)
						w.Flush()
						var head zstd.Header
						if err := head.Decode(out.Bytes()); err != nil {
							b.Fatal(err)
						}
						return out.Len() - head.HeaderSize
					})
				})
			}
		}
	}
}

// BenchmarkZstdFrames is a frame for each flush, without and with a dictionary that
// was made of earlier events and served to the client (RFC 9842).
func BenchmarkZstdFrames(b *testing.B) {
	for _, l := range loads(b) {
		var dictionary []byte
		if n := min(200, len(l.flushes)/2); n > 0 {
			history := last(bytes.Join(l.flushes[:n], nil), 8<<10)
			var err error
			dictionary, err = zstd.BuildDict(zstd.BuildDictOptions{ID: 7, Contents: l.flushes[:n], History: history, Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedBestCompression})
			if err != nil {
				b.Fatal(err)
			}
		}
		for _, served := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/dictionary=%t", l.name, served), func(b *testing.B) {
				var options []zstd.EOption
				if served {
					options = append(options, zstd.WithEncoderDict(dictionary))
				}
				w := newZstd(nil, options...)
				var out []byte
				each(b, l.flushes, func() {}, func(_, plain []byte) int {
					out = w.EncodeAll(plain, out[:0])
					return len(out)
				})
			})
		}
	}
}

func newZstd(w io.Writer, options ...zstd.EOption) *zstd.Encoder {
	e, err := zstd.NewWriter(w, append([]zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true)}, options...)...)
	if err != nil {
		panic(err)
	}
	return e
}

// memoryOf measures what one takes on the heap, in KB.
func memoryOf(open func() any) float64 {
	const n = 10
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all [n]any
	for i := range all {
		all[i] = open()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(all)
	return float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / n / 1024
}

func BenchmarkPlace(b *testing.B) {
	s := Shared{Level: Best, total: 1 << 40}
	var p Place
	b.Run("enter-leave", func(b *testing.B) {
		for b.Loop() {
			p.Enter(s.Mark())
			p.Leave(s.Mark())
		}
	})
	b.Run("reach", func(b *testing.B) {
		p.Enter(s.Mark())
		n := Reach(0)
		for b.Loop() {
			n += s.Mark().Reach(&p)
		}
	})
	s.KeepWindow(true)
	for _, size := range []int{145, 1450} {
		b.Run(fmt.Sprintf("advance=%dB", size), func(b *testing.B) {
			plain := make([]byte, size)
			for b.Loop() {
				s.Advance(plain)
			}
		})
	}
}

func BenchmarkChooseCoding(b *testing.B) {
	offered := []Coding{Gzip}
	for b.Loop() {
		if ChooseCoding("gzip, deflate, br, zstd", offered) != Gzip {
			b.Fatal("not gzip")
		}
	}
}
