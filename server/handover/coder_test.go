package handover

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A thing has one of everything.
type thing struct {
	a int8
	b uint8
	c int32
	d uint32
	e int64
	f uint64
	g bool
	h string
	i []byte
	j []uint64
}

func (x *thing) code(c *Coder) {
	c.Word("thing")
	Num(c, &x.a)
	Num(c, &x.b)
	Num(c, &x.c)
	Num(c, &x.d)
	Num(c, &x.e)
	Num(c, &x.f)
	c.Bool(&x.g)
	c.String(&x.h)
	c.Bytes(&x.i)
	Numbers(c, &x.j)
}

func encoded(t fataler, all []thing) []byte {
	var wire bytes.Buffer
	c := NewWriter(&wire)
	List(c, &all, func(x *thing) { x.code(c) })
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

type fataler interface{ Fatal(args ...any) }

// What is written is what is read.
func TestCoderReadsWhatItWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []thing
		for range rapid.IntRange(0, 5).Draw(t, "things") {
			all = append(all, thing{
				rapid.Int8().Draw(t, "a"), rapid.Uint8().Draw(t, "b"), rapid.Int32().Draw(t, "c"), rapid.Uint32().Draw(t, "d"),
				rapid.Int64().Draw(t, "e"), rapid.SampledFrom([]uint64{0, 1, 1 << 63, math.MaxUint64, rapid.Uint64().Draw(t, "f")}).Draw(t, "f"),
				rapid.Bool().Draw(t, "g"), rapid.String().Draw(t, "h"), rapid.SliceOf(rapid.Byte()).Draw(t, "i"), rapid.SliceOf(rapid.Uint64()).Draw(t, "j"),
			})
		}
		c := NewReader(bytes.NewReader(encoded(t, all)))
		var got []thing
		List(c, &got, func(x *thing) { x.code(c) })
		if c.Err() != nil || len(got) != len(all) {
			t.Fatalf("%d things, want %d: %v", len(got), len(all), c.Err())
		}
		for i, x := range all {
			y := got[i]
			if x.a != y.a || x.b != y.b || x.c != y.c || x.d != y.d || x.e != y.e || x.f != y.f || x.g != y.g || x.h != y.h ||
				!bytes.Equal(x.i, y.i) || !slices.Equal(x.j, y.j) {
				t.Fatalf("%+v came back as %+v", x, y)
			}
		}
	})
}

// A stream that ends early, or says what can't be, is an error and no panic, and takes no memory
// that was not sent.
func TestCoderRefusesWhatCannotBe(t *testing.T) {
	wire := encoded(t, []thing{{a: -1, f: math.MaxUint64, h: "text", i: []byte("bytes"), j: []uint64{1, 2}}})
	for n := range len(wire) {
		c := NewReader(bytes.NewReader(wire[:n]))
		var got []thing
		List(c, &got, func(x *thing) { x.code(c) })
		if c.Err() == nil {
			t.Errorf("%d of %d bytes are enough", n, len(wire))
		}
	}
	huge := NewReader(strings.NewReader("\xfe\xff\xff\xff\x0fx"))
	var b []byte
	if huge.Bytes(&b); huge.Err() == nil || cap(b) > 4<<20 {
		t.Errorf("a length that nothing follows: %d bytes, %v", cap(b), huge.Err())
	}
	other := NewReader(bytes.NewReader(wire))
	var n int8
	Num(other, &n)
	other.Word("no thing")
	if other.Err() == nil || !strings.Contains(other.Err().Error(), "no thing") {
		t.Errorf("another word: %v", other.Err())
	}
	big := NewReader(bytes.NewReader([]byte{0xff, 0xff, 0x03}))
	var small int8
	if Num(big, &small); big.Err() == nil {
		t.Errorf("a number that does not fit is %d", small)
	}
}
