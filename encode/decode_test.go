package encode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// decodePieces feeds the pieces to d. Each is overwritten after its call: nothing
// may point into it any more.
func decodePieces(d *Decoder, pieces ...string) (blocks []seen, err error) {
	for _, piece := range pieces {
		p := []byte(piece)
		err = d.Decode(p, func(e *Decoded) {
			blocks = append(blocks, seen{
				Type: string(e.Type), Data: string(e.Data), ID: string(e.ID),
				HasData: e.HasData, HasID: e.HasID, Retry: e.Retry, Comments: e.Comments,
			})
		})
		if string(p) != piece {
			return blocks, fmt.Errorf("Decode has changed %q to %q", piece, p)
		}
		for i := range p {
			p[i] = '#'
		}
		if err != nil {
			return blocks, err
		}
	}
	return blocks, nil
}

func decodeWhole(t *testing.T, stream string) []seen {
	t.Helper()
	var d Decoder
	blocks, err := decodePieces(&d, stream)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// event is what most blocks are.
func event(typ, data, id string) seen {
	return seen{Type: typ, Data: data, HasData: true, ID: id, HasID: id != "", Retry: -1}
}

var streams = []struct {
	name, stream string
	want         []seen
	open         bool
}{
	{"nothing", "", nil, false},
	{"empty lines", "\n\r\r\n\n", nil, false},
	{"an event", "event: trade\ndata: x\nid: 7\n\n", []seen{event("trade", "x", "7")}, false},
	{"no type", "data: x\n\n", []seen{event("message", "x", "")}, false},
	{"an empty type", "event: a\nevent:\ndata: x\n\n", []seen{event("message", "x", "")}, false},
	{"the last type counts", "event: a\nevent: b\ndata: x\n\n", []seen{event("b", "x", "")}, false},
	{"a type without data", "event: a\n\ndata: x\n\n", []seen{event("message", "x", "")}, false},
	{"empty data", "data:\n\ndata\n\ndata: \n\n", []seen{event("message", "", ""), event("message", "", ""), event("message", "", "")}, false},
	{"several lines", "data: a\ndata:b\ndata\ndata:  c\n\n", []seen{event("message", "a\nb\n\n c", "")}, false},
	{"one space goes", "data:x\n\ndata: x\n\ndata:  x\n\ndata:\tx\n\n",
		[]seen{event("message", "x", ""), event("message", "x", ""), event("message", " x", ""), event("message", "\tx", "")}, false},
	{"colons in the value", "data: a:b: c\n\n", []seen{event("message", "a:b: c", "")}, false},
	{"CR", "data: a\rdata: b\rid: 1\r\rdata: c\r\r", []seen{event("message", "a\nb", "1"), {Type: "message", Data: "c", HasData: true, ID: "1", Retry: -1}}, false},
	{"CRLF", "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", []seen{event("message", "a\nb", ""), event("message", "c", "")}, false},
	{"every line end", "data: a\ndata: b\r\ndata: c\rdata: d\n\r\ndata: e\r\n\rdata: f\r\r\n", []seen{event("message", "a\nb\nc\nd", ""), event("message", "e", ""), event("message", "f", "")}, false},
	{"no line ends", "data: a\u2028b\vc\fd\u0085e\x00f\n\n", []seen{event("message", "a\u2028b\vc\fd\u0085e\x00f", "")}, false},
	{"a mark", "\xef\xbb\xbfdata: x\n\n", []seen{event("message", "x", "")}, false},
	{"a mark before an empty line", "\xef\xbb\xbf\ndata: x\n\n", []seen{event("message", "x", "")}, false},
	{"two marks", "\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", nil, false},
	{"a mark later", "data: a\n\n\xef\xbb\xbfdata: x\n\n", []seen{event("message", "a", "")}, false},
	{"half a mark", "\xef\xbbdata: x\ndata: y\n\n", []seen{event("message", "y", "")}, false},
	{"half a mark alone", "\xef\xbb\n\ndata: y\n\n", []seen{event("message", "y", "")}, false},
	{"half a mark at the end", "\xef\xbb", nil, true},
	{"a mark at the end", "\xef\xbb\xbf", nil, false},
	{"comments", ":\n\n: a\n:b\ndata: x\n:\n\n", []seen{{Type: "message", Comments: 1, Retry: -1}, {Type: "message", Data: "x", HasData: true, Comments: 3, Retry: -1}}, false},
	{"comments without an empty line", ":\n:\n:", nil, true},
	{"unknown fields", "Data: a\n data: b\ndata : c\ndatum: d\ndat\ndatas\nfoo\nfoo: e\ni: 1\neven: t\nretr: 1\ndata: x\n\nfoo\n\n", []seen{event("message", "x", "")}, false},
	{"an id alone", "id: 7\n\ndata: x\n\n", []seen{{Type: "message", ID: "7", HasID: true, Retry: -1}, {Type: "message", Data: "x", HasData: true, ID: "7", Retry: -1}}, false},
	{"an empty id", "id: 7\n\nid\n\nid:\ndata: x\n\n", []seen{{Type: "message", ID: "7", HasID: true, Retry: -1}, {Type: "message", HasID: true, Retry: -1}, {Type: "message", Data: "x", HasData: true, HasID: true, Retry: -1}}, false},
	{"an id with a NUL", "id: 7\ndata: a\n\nid: 8\x00\ndata: b\n\nid: 9\nid: \x00\ndata: c\n\n", []seen{event("message", "a", "7"), {Type: "message", Data: "b", HasData: true, ID: "7", Retry: -1}, event("message", "c", "9")}, false},
	{"the last id counts", "id: 1\nid: 2\ndata: x\n\n", []seen{event("message", "x", "2")}, false},
	{"retry", "retry: 1500\n\nretry: 0\n\nretry:0007\ndata: x\n\n", []seen{{Type: "message", Retry: 1500}, {Type: "message", Retry: 0}, {Type: "message", Data: "x", HasData: true, Retry: 7}}, false},
	{"a bad retry", "retry: 1.5\n\nretry: -1\n\nretry:  1\n\nretry: 1 \n\nretry\n\nretry:\n\nretry: 1s\n\nretry: +1\n\nretry: ١\n\nretry: 5\nretry: x\n\n", []seen{{Type: "message", Retry: 5}}, false},
	{"a long retry", "retry: 2147483647\n\nretry: 2147483648\n\nretry: 99999999999999999999999999\n\n", []seen{{Type: "message", Retry: MaxRetry}, {Type: "message", Retry: MaxRetry}, {Type: "message", Retry: MaxRetry}}, false},
	{"a dropped line behind CR", "data: a\rfoo\r\rdata: b\r:\n\r", []seen{event("message", "a", ""), {Type: "message", Data: "b", HasData: true, Comments: 1, Retry: -1}}, false},
	{"an unfinished block", "data: a\n\nid: 9\ndata: b\n", []seen{event("message", "a", "")}, true},
	{"an unfinished line", "data: a\n\ndata: b", []seen{event("message", "a", "")}, true},
	{"an unfinished unknown field", "foo: b\n", nil, true},
}

func TestDecoderDoesWhatTheStandardSays(t *testing.T) {
	for _, c := range streams {
		slow, _, open := slowDecode(c.stream)
		if !reflect.DeepEqual(slow, c.want) || open != c.open {
			t.Errorf("%s: the slow twin reads %+v, open %v; want %+v, %v", c.name, slow, open, c.want, c.open)
		}
		var d Decoder
		got, err := decodePieces(&d, c.stream)
		if err != nil || !reflect.DeepEqual(got, c.want) || d.Open() != c.open {
			t.Errorf("%s: %q is read as %+v, open %v, %v; want %+v, %v", c.name, c.stream, got, d.Open(), err, c.want, c.open)
		}
	}
}

// However a stream is cut, in two, in three or byte by byte, it says the same.
func TestDecoderReadsTheSameFromAnyPieces(t *testing.T) {
	for _, c := range streams {
		s := c.stream
		judge := func(pieces ...string) {
			var d Decoder
			got, err := decodePieces(&d, pieces...)
			if err != nil || !reflect.DeepEqual(got, c.want) || d.Open() != c.open {
				t.Fatalf("%s: %q is read as %+v, open %v, %v; want %+v, %v", c.name, pieces, got, d.Open(), err, c.want, c.open)
			}
			if !d.Open() && d.open != nil {
				t.Fatalf("%s: %q: no block is open, but a buffer is held", c.name, pieces)
			}
		}
		judge(strings.Split(s, "")...) // by character
		var single []string
		for i := range len(s) {
			single = append(single, s[i:i+1], "")
			for j := range i {
				judge(s[:j], s[j:i], s[i:])
			}
		}
		judge(single...)
	}
}

func TestUnfinishedBlockDoesNotMoveTheLastID(t *testing.T) {
	var d Decoder
	for _, step := range []struct{ piece, want string }{
		{"data: x\n\n", ""},
		{"id: 7\n", ""},
		{"\n", "7"},
		{"id: 8\ndata: x\n\nid: 9\ndata: y\n", "8"},
		{"", "8"},
		{"id: 10", "8"},
		{"\n\n:\n\n", "10"},
		{"id\n\n", ""},
	} {
		if _, err := decodePieces(&d, step.piece); err != nil || string(d.LastID()) != step.want {
			t.Errorf("behind %q the last id is %q (%v), want %q", step.piece, d.LastID(), err, step.want)
		}
	}
}

func TestBlockOverTheBoundIsAnErrorThatStays(t *testing.T) {
	long := "data: " + strings.Repeat("x", 100)
	for _, pieces := range [][]string{
		{"data: a\n\n" + long, "\n\n"},
		{"data: a\n\ndata: ", long, "\n\n"},
		{"data: a\n\ndata: ", strings.Repeat("x", 95), "x\n\n"},
		append([]string{"data: a\n\n"}, strings.Split(long, "")...),
	} {
		d := Decoder{MaxBlock: 100}
		got, err := decodePieces(&d, pieces...)
		var tooLong *BlockSizeError
		if !errors.As(err, &tooLong) || tooLong.Max != 100 || !reflect.DeepEqual(got, []seen{event("message", "a", "")}) {
			t.Errorf("%q: %+v, %v; want the event before and a BlockSizeError", pieces, got, err)
		}
		if got, again := decodePieces(&d, "\n\ndata: b\n\n"); again == nil || got != nil {
			t.Errorf("%q: after the error %+v, %v", pieces, got, again)
		}
		if d.open != nil {
			t.Errorf("%q: a buffer is held after the error", pieces)
		}
		d.Reset()
		if got, err := decodePieces(&d, "data: b\n", "\n"); err != nil || !reflect.DeepEqual(got, []seen{event("message", "b", "")}) {
			t.Errorf("%q: after Reset %+v, %v", pieces, got, err)
		}
	}
}

// Some servers send comments for ever and never an empty line, and a stranger's
// fields may be of any number: neither is memory.
func TestWhatDoesNotCountTakesNoMemory(t *testing.T) {
	d := Decoder{MaxBlock: 100}
	var pieces []string
	for range 1000 {
		pieces = append(pieces, ":", " hello ", "there\r", "\n", "foo", ": bar\n")
	}
	pieces = append(pieces, "data: x\n", ": "+strings.Repeat("y", 200), strings.Repeat("z", 200)+"\n", "\n")
	got, err := decodePieces(&d, pieces...)
	want := []seen{{Type: "message", Data: "x", HasData: true, Retry: -1, Comments: 1001}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestResetBeginsAnotherStream(t *testing.T) {
	d := Decoder{MaxBlock: 1000}
	for _, cut := range []string{"id: 7\ndata: a\n\ndata: b", "id: 7\n\ndata: b\r", "id: 7\n\n: c", "\xef\xbb"} {
		if _, err := decodePieces(&d, cut); err != nil {
			t.Fatal(err)
		}
		d.Reset()
		if d.Open() || len(d.LastID()) != 0 || d.MaxBlock != 1000 {
			t.Errorf("after %q and Reset: open %v, last id %q, MaxBlock %d", cut, d.Open(), d.LastID(), d.MaxBlock)
		}
		got, err := decodePieces(&d, "\xef\xbb\xbfdata: x\n\n")
		if err != nil || !reflect.DeepEqual(got, []seen{event("message", "x", "")}) {
			t.Errorf("after %q and Reset: %+v, %v", cut, got, err)
		}
		d.Reset()
	}
}

// Streams made of what the grammar is made of go where random bytes seldom do.
func TestDecoderAgreesWithSlowTwinOnShuffledGrammar(t *testing.T) {
	parts := []string{"data", "event", "id", "retry", "foo", ":", ": ", " ", "\n", "\n", "\r", "\r\n", "\n\n", "\x00", "7", "x", "\xef\xbb\xbf", "\xef", "data: x\n", "id: 7\n", ":\n"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 30000 {
		stream := ""
		for range random.IntN(24) {
			stream += parts[random.IntN(len(parts))]
		}
		cuts := make([]byte, random.IntN(12))
		for i := range cuts {
			cuts[i] = byte(random.IntN(8))
		}
		pieces := cut(stream, cuts)
		want, id, open := slowDecode(stream)
		var d Decoder
		got, err := decodePieces(&d, pieces...)
		if err != nil || !reflect.DeepEqual(got, want) || string(d.LastID()) != id || d.Open() != open {
			t.Fatalf("%q is read as %+v, last id %q, open %v, %v; the slow twin reads %+v, %q, %v", pieces, got, d.LastID(), d.Open(), err, want, id, open)
		}
		d.Reset()
	}
}
