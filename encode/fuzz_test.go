package encode

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httputil"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// cut cuts s into pieces as long as cuts says, the last of which takes the rest.
func cut(s string, cuts []byte) (pieces []string) {
	for _, n := range cuts {
		if len(s) == 0 {
			break
		}
		piece := s[:min(int(n), len(s))]
		s = s[len(piece):]
		pieces = append(pieces, piece)
	}
	return append(pieces, s)
}

// decode(encode(e)) = e for any event, split at any byte, and what stands before
// and behind it is not touched.
func FuzzEventRoundTrip(f *testing.F) {
	f.Add("trade", []byte("a\nb\r\nc\rd"), 1500, uint64(1763670000000042), uint16(9))
	f.Add("", []byte{}, 0, uint64(0), uint16(0))
	f.Add("a: b", []byte("\r"), MaxRetry, ^uint64(0), uint16(30))
	f.Add("\ufeff", []byte(" \ufeff\x00:\n: x\nid: 7\n\n"), 0, uint64(1), uint16(7))
	f.Fuzz(func(t *testing.T, typ string, data []byte, retry int, id uint64, at uint16) {
		e := Event{Type: typ, Data: data, Retry: retry}
		if e.Check() != nil {
			t.Skip()
		}
		frame, typeEnd := AppendFrame(nil, &e)
		if len(frame) != FrameSize(&e) {
			t.Errorf("%d bytes, FrameSize says %d", len(frame), FrameSize(&e))
		}
		if !strings.HasPrefix(string(frame[typeEnd:]), "data: ") || strings.HasPrefix(string(frame), "event: ") != (typeEnd > 0) {
			t.Errorf("%q: the event line can't end at %d", frame, typeEnd)
		}
		frame = AppendID(frame, id)
		if slow := slowFrame(&e, id); string(frame) != slow {
			t.Fatalf("%q, the slow twin makes %q", frame, slow)
		}

		want := seen{Type: typ, Data: normal(string(data)), HasData: true, HasID: true, Retry: -1}
		if typ == "" {
			want.Type = "message"
		}
		if retry > 0 {
			want.Retry = retry
		}
		want.ID = strings.TrimSpace(strings.TrimPrefix(string(AppendID(nil, id)), "id: "))
		if n, err := ParseID(want.ID); err != nil || n != id {
			t.Errorf("ParseID(%q) = %d, %v", want.ID, n, err)
		}
		start := string(AppendStart(nil, 2500, 0, true))
		stream := start + string(frame) + string(AppendHeartbeat(nil))
		middle := len(start) + int(at)%(len(frame)+1)
		var d Decoder
		got, err := decodePieces(&d, stream[:middle], stream[middle:])
		if err != nil || len(got) != 3 || !reflect.DeepEqual(got[1], want) || d.Open() {
			t.Errorf("%q cut at %d is read as %+v, %v; want %+v in the middle", stream, middle, got, err, want)
		}
	})
}

// The Decoder agrees with its slow twin on any bytes, split anywhere, and holds
// no buffer while no block is open.
func FuzzDecoderAgreesWithSlowTwin(f *testing.F) {
	for _, s := range streams {
		f.Add(s.stream, []byte{1, 2, 3, 5, 8, 13})
		f.Add(s.stream, bytes.Repeat([]byte{1}, len(s.stream)))
	}
	f.Fuzz(func(t *testing.T, stream string, cuts []byte) {
		want, id, open := slowDecode(stream)
		for _, pieces := range [][]string{{stream}, cut(stream, cuts), strings.SplitAfter(stream, "\r"), strings.SplitAfter(stream, "\n")} {
			var d Decoder
			got, err := decodePieces(&d, pieces...)
			if err != nil {
				t.Fatalf("%q: %v", pieces, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%q is read as %+v, the slow twin reads %+v", pieces, got, want)
			}
			if string(d.LastID()) != id || d.Open() != open {
				t.Errorf("%q: last id %q, open %v; the slow twin says %q, %v", pieces, d.LastID(), d.Open(), id, open)
			}
			if !open && d.open != nil {
				t.Errorf("%q: no block is open, but a buffer is held", pieces)
			}
			d.Reset()
		}
	})
}

// What a Decoder keeps never exceeds its bound, whatever comes in small pieces,
// and a stream that it refuses has such a block.
func FuzzDecoderIsBounded(f *testing.F) {
	for _, s := range streams {
		f.Add(s.stream, uint8(10), uint8(3))
	}
	f.Fuzz(func(t *testing.T, stream string, most, piece uint8) {
		d := Decoder{MaxBlock: int(most) + 1}
		var err error
		for s := stream; len(s) > 0 && err == nil; {
			n := min(int(piece)+1, len(s))
			_, err = decodePieces(&d, s[:n])
			s = s[n:]
			if d.open != nil && len(d.open.raw) > d.MaxBlock {
				t.Fatalf("%d bytes are kept, at most %d may be", len(d.open.raw), d.MaxBlock)
			}
		}
		if err != nil && len(stream) <= d.MaxBlock {
			t.Errorf("%q of %d bytes is refused: %v", stream, len(stream), err)
		}
		d.Reset()
	})
}

// A gap is one event of one line, and JSON, whatever is in it.
func FuzzGapRoundTrip(f *testing.F) {
	f.Add("a.b", "1763670000000042", uint64(1), uint64(2))
	f.Add(`"\`, "\r\n\x00\xff\u2028", uint64(0), ^uint64(0))
	f.Add("", strings.Repeat("😀", 20), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, topic, after string, before, id uint64) {
		topic = strings.ToValidUTF8(topic, "") // its grammar says so
		blocks := decodeWhole(t, string(AppendGap(nil, &Gap{Topics: []string{topic, "b"}, After: after, Before: before, Reason: GapLag}, id)))
		if len(blocks) != 1 || blocks[0].Type != "gap" || strings.Contains(blocks[0].Data, "\n") {
			t.Fatalf("%+v", blocks)
		}
		var got Gap
		if err := json.Unmarshal([]byte(blocks[0].Data), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.After) > maxGapAfter {
			t.Errorf("after has %d bytes", len(got.After))
		}
		want := string([]rune(after)) // each byte that is not UTF-8 becomes U+FFFD
		if !strings.HasPrefix(want, got.After) || len(got.After) < min(len(want), maxGapAfter-utf8.UTFMax+1) {
			t.Errorf("after %q becomes %q", after, got.After)
		}
		got.After = ""
		if !reflect.DeepEqual(got, Gap{Topics: []string{topic, "b"}, Before: before, Reason: GapLag}) {
			t.Errorf("%+v", got)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("1763670000000042")
	f.Add("18446744073709551616")
	f.Add("007")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		shortest := strings.TrimSuffix(strings.TrimPrefix(string(AppendID(nil, id)), "id: "), "\n\n")
		if err == nil && shortest != text {
			t.Errorf("ParseID(%q) = %d, whose shortest form is %q", text, id, shortest)
		}
	})
}

// What the chunk encoder writes, cut into any chunks, with extensions and
// trailer, is read alike by the Dechunker, in any pieces, and by the library.
func FuzzChunksRoundTrip(f *testing.F) {
	f.Add("payload", []byte{1, 2, 3}, []byte{1}, "name=value", "X: y")
	f.Add(strings.Repeat("x", 300), []byte{200}, []byte{255}, "", "")
	f.Fuzz(func(t *testing.T, payload string, chunks, pieces []byte, extension, trailer string) {
		if len(extension)+len(trailer) > 1000 || strings.Trim(trailer, " \t") != trailer {
			t.Skip()
		}
		for _, c := range []byte(extension + trailer) {
			if !fieldByte(c) {
				t.Skip()
			}
		}
		var body []byte
		for _, chunk := range cut(payload, chunks) {
			body = AppendChunk(body, []byte(chunk))
		}
		body = append(body, "1;"+extension+"\r\n$\r\n0\r\n"...)
		if trailer != "" {
			body = append(body, "X-Trailer: "+trailer+"\r\n"...)
		}
		body = append(body, "\r\n"...)
		library, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		if err != nil || string(library) != payload+"$" {
			t.Fatalf("%q: the library reads %q, %v", body, library, err)
		}

		var d Dechunker
		var got, rest string
		for _, piece := range cut(string(body)+"next", pieces) {
			for p := []byte(piece); ; {
				stretch, after, err := d.Next(p)
				if err != nil {
					t.Fatalf("%q: %v", body, err)
				}
				got += string(stretch)
				p = after
				if len(stretch) == 0 {
					rest += string(after)
					break
				}
			}
		}
		if !d.Done() || got != payload+"$" || rest != "next" {
			t.Errorf("%q: read %q, rest %q, done %v", body, got, rest, d.Done())
		}
	})
}

// The Dechunker agrees with the grammar's slow twin on any bytes: it takes
// nothing that the grammar does not have, and what it takes the library reads
// alike (but for blanks before an extension, which RFC 9112 7.1.1 has and the
// library has not).
func FuzzDechunkerIsStrict(f *testing.F) {
	for _, body := range []string{
		"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "A;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\nrest",
		"1\nx\n0\n\n", "1 \r\nx\r\n0\r\n\r\n", "00000000000000001\r\nx\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "1\r\nxx\r\n", "1;\n\r\nx\r\n",
	} {
		f.Add([]byte(body), uint8(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, piece uint8) {
		if len(body) > maxChunkNoise {
			t.Skip() // the twin has no bounds
		}
		want, after, ok := slowDechunk(string(body))
		for _, n := range []int{len(body), int(piece) + 1} {
			got, rest, done, err := dechunk(body, max(n, 1))
			if done != ok || got != want || ok && (err != nil || rest != after) {
				t.Fatalf("%q in pieces of %d: read %q, rest %q, done %v, %v; the slow twin reads %q, rest %q, %v", body, n, got, rest, done, err, want, after, ok)
			}
		}
		if ok && !bytes.ContainsAny(body, " \t") {
			library, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
			if err != nil || string(library) != want {
				t.Errorf("%q is taken as %q, the library reads %q, %v", body, want, library, err)
			}
		}
	})
}
