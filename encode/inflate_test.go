package encode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// inflatePieces gives the pieces to z and returns all that it shows.
func inflatePieces(z *Inflater, pieces ...[]byte) (plain []byte, err error) {
	for _, p := range pieces {
		for {
			var piece []byte
			if piece, p, err = z.Next(p); err != nil {
				return plain, err
			}
			if len(piece) == 0 {
				break
			}
			plain = append(plain, piece...)
		}
	}
	return plain, nil
}

// gzipped is a gzip stream by the standard library.
func gzipped(t testing.TB, plain []byte, level int, flushEach int) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), flushEach)
		w.Write(rest[:n])
		w.Flush()
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What the standard library writes is read, at each of its levels, however long
// blocks are and whatever pieces it comes in.
func TestInflaterReadsAnyStream(t *testing.T) {
	noise := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{2}).Read(noise)
	rng := rand.New(rand.NewPCG(11, 12))
	skewed := make([]byte, 200_000) // codes of all lengths, up to the longest
	for i := range skewed {
		skewed[i] = byte(rng.ExpFloat64() * 12)
	}
	for name, plain := range map[string][]byte{
		"nothing": nil, "a byte": {'x'}, "noise": noise, "skewed": skewed,
		"trades": bytes.Join(trades(t, 3000), nil), "HTML": bytes.Join(fragments(100), nil),
		"of one": bytes.Repeat([]byte("a"), 100_000), "of two": bytes.Repeat([]byte("ab"), 70_000),
	} {
		levels := []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 6, 9}
		if poolForgets { // the race detector makes it long
			levels = levels[:3]
			plain = plain[:min(len(plain), 70_000)]
		}
		for _, level := range levels {
			for _, flush := range []int{1 << 30, 5000} {
				wire := gzipped(t, plain, level, flush)
				for _, size := range []int{1, 7, 1000, 1 << 30} {
					if size == 1 && poolForgets {
						continue
					}
					var pieces [][]byte
					for rest := wire; len(rest) > 0; rest = rest[min(size, len(rest)):] {
						pieces = append(pieces, rest[:min(size, len(rest))])
					}
					var z Inflater
					got, err := inflatePieces(&z, pieces...)
					if err != nil || !z.Done() || !bytes.Equal(got, plain) {
						t.Fatalf("%s, level %d, flushed each %d, in pieces of %d: %d bytes of %d, done %t, error %v", name, level, flush, size, len(got), len(plain), z.Done(), err)
					}
				}
			}
		}
	}
}

// A member's stream shows each send whole, and ends with a trailer that is right.
func TestInflaterShowsEachSendAtOnce(t *testing.T) {
	for _, inside := range []bool{true, false} {
		m := eventful(t, inside)
		var z Inflater
		var got []byte
		for i, send := range m.sends {
			plain, err := inflatePieces(&z, send)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, plain...); i > 0 && i+1 < len(m.sends) && len(got) != m.shown[i] {
				t.Errorf("after %d sends %d bytes are shown, want %d", i+1, len(got), m.shown[i])
			}
		}
		if !bytes.Equal(got, m.plain) || !z.Done() {
			t.Errorf("%d bytes, want %d; done: %t", len(got), len(m.plain), z.Done())
		}
	}
}

// However TCP cuts a stream in two it reads the same, and what is cut off is not done.
func TestInflaterReadsStreamsSplitAtEveryByte(t *testing.T) {
	m := eventful(t, true)
	wire := m.wire()
	var z Inflater
	for cut := 0; cut < len(wire); cut += cutStep() {
		z.Reset()
		begin, err := inflatePieces(&z, wire[:cut])
		if err != nil || z.Done() {
			t.Fatalf("cut at %d of %d: done %t, error %v", cut, len(wire), z.Done(), err)
		}
		end, err := inflatePieces(&z, wire[cut:])
		if err != nil || !z.Done() || !bytes.Equal(append(begin, end...), m.plain) {
			t.Fatalf("cut at %d of %d: done %t, error %v", cut, len(wire), z.Done(), err)
		}
	}
}

// All of a header's fields are passed over, and a member may follow another.
func TestInflaterReadsHeadersAndMembers(t *testing.T) {
	var b bytes.Buffer
	for i := range 8 {
		w := gzip.NewWriter(&b)
		if i&1 != 0 {
			w.Name = "a name"
		}
		if i&2 != 0 {
			w.Comment = "a comment"
		}
		if i&4 != 0 {
			w.Extra = []byte("extra \x00 bytes")
		}
		fmt.Fprintf(w, "member %d, ", i)
		w.Close()
	}
	wire := append(b.Bytes(), 0x1f, 0x8b, 8, flagHeaderCRC, 0, 0, 0, 0, 0, 255, 0xaa, 0xbb, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	want := "member 0, member 1, member 2, member 3, member 4, member 5, member 6, member 7, "
	for size := 1; size < 30; size++ {
		var z Inflater
		var got []byte
		for rest := wire; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			plain, err := inflatePieces(&z, rest[:min(size, len(rest))])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, plain...)
		}
		if string(got) != want || !z.Done() {
			t.Errorf("in pieces of %d: %q, done %t", size, got, z.Done())
		}
	}
}

// What cannot be is named, and stays an error until Reset.
func TestInflaterNamesWhatIsWrong(t *testing.T) {
	head := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
	good := string(gzipped(t, []byte("something that is said"), 6, 1<<30))
	for _, c := range []struct{ wire, want string }{
		{"data: x\n\n", "byte 0 of its header is 0x64, want 0x1f"},
		{"\x1f\x8b\x07", "byte 2 of its header is 0x07, want 0x08"},
		{"\x1f\x8b\x08\xe0", "flags 0xe0"},
		{head + "\x07", "a block of the type 3"},
		{head + "\x00\x05\x00\x05\x00", "length 0x0005, and 0x0005 instead"},
		{head + "\xfc\xff\xff", "codes for"},
		{head + "\x63\x00\x42\x00\x00\x00", "a distance of"},
		{good[:len(good)-8] + "abcdefgh", "CRC-32 0x64636261 in its trailer"},
		{good[:len(good)-4] + "efgh", "length 0x68676665 in its trailer, and 0x00000016"},
		{good + "\x00", "byte 0 of its header"},
	} {
		var z Inflater
		_, err := inflatePieces(&z, []byte(c.wire))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%x: error %v, want %q", c.wire, err, c.want)
		}
		if _, _, again := z.Next([]byte("x")); again == nil || again.Error() != err.Error() {
			t.Errorf("%x: then %v", c.wire, again)
		}
		z.Reset()
		if plain, err := inflatePieces(&z, []byte(good)); err != nil || string(plain) != "something that is said" {
			t.Errorf("%x: after Reset %q, error %v", c.wire, plain, err)
		}
	}
}

// Any bytes read as compress/flate reads them, whatever pieces they come in.
func FuzzInflaterAgreesWithGo(f *testing.F) {
	for _, plain := range []string{"", "a", "something that is said again and again and again", strings.Repeat("xy", 300)} {
		for _, level := range []int{-2, 0, 1, 9} {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, level)
			io.WriteString(w, plain)
			w.Flush()
			io.WriteString(w, plain)
			w.Close()
			f.Add(b.Bytes(), []byte{3, 1, 40})
		}
	}
	var z Inflater
	f.Fuzz(func(t *testing.T, blocks, cuts []byte) {
		in := bytes.NewReader(blocks)
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(in), 4<<20))
		if len(want) == 4<<20 {
			t.Skip("too long")
		}
		wire := append(AppendGzipHeader(nil), blocks...)
		if err == nil {
			wire = wire[:len(wire)-in.Len()]
			wire = binary.LittleEndian.AppendUint32(wire, crc32.ChecksumIEEE(want))
			wire = binary.LittleEndian.AppendUint32(wire, uint32(len(want)))
		}
		z.Reset()
		var got []byte
		var wrong error
		for _, piece := range cut(string(wire), cuts) {
			var plain []byte
			plain, wrong = inflatePieces(&z, []byte(piece))
			got = append(got, plain...)
			if wrong != nil {
				break
			}
		}
		switch {
		case err == nil && (wrong != nil || !z.Done() || !bytes.Equal(got, want)):
			t.Fatalf("%q, done %t, error %v; want %q", got, z.Done(), wrong, want)
		case errors.Is(err, io.ErrUnexpectedEOF) && wrong != nil:
			t.Fatalf("error %v for a stream that is cut off", wrong)
		case err != nil && wrong == nil && z.Done():
			t.Fatalf("done with %q, want %v", got, err)
		case !bytes.HasPrefix(got, want):
			t.Fatalf("%q, want %q at its beginning", got, want)
		}
	})
}

// What a reader pays for a flush, beside compress/flate that reads on.
func BenchmarkInflate(b *testing.B) {
	for _, n := range []int{1, 10} {
		frames := batches(trades(b, 2000), n)
		var s Shared
		s.Level = Best
		s.KeepWindow(true)
		var flushes [][]byte
		var place Place
		place.Enter(s.Mark())
		plain := 0
		for _, f := range frames {
			flushes = append(flushes, s.AppendDeflate(nil, f, s.Mark().Reach(&place)))
			s.Advance(f)
			plain += len(f)
		}
		b.Run(fmt.Sprintf("events=%d/Inflater", n), func(b *testing.B) {
			var z Inflater
			for i := range b.N {
				if i%len(flushes) == 0 {
					z.Reset()
					inflatePieces(&z, AppendGzipHeader(nil))
				}
				p := flushes[i%len(flushes)]
				for {
					piece, rest, err := z.Next(p)
					if err != nil {
						b.Fatal(err)
					}
					if p = rest; len(piece) == 0 {
						break
					}
				}
			}
		})
		b.Run(fmt.Sprintf("events=%d/flate", n), func(b *testing.B) {
			all := bytes.Join(flushes, nil)
			r := flate.NewReader(nil)
			buf := make([]byte, plain/len(flushes))
			for i := range b.N {
				if i%len(flushes) == 0 {
					r.(flate.Resetter).Reset(bytes.NewReader(all), nil)
				}
				if _, err := io.ReadFull(r, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
