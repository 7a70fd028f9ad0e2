package encode

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http/httputil"
	"strings"
	"testing"
)

func TestChunkHeadEndsWhereThePayloadBegins(t *testing.T) {
	for _, n := range []int{1, 9, 10, 15, 16, 17, 150, 255, 256, 4095, 4096, 65535, 65536, 1 << 20, 1<<28 - 1, 1 << 28, math.MaxUint32} {
		buf := bytes.Repeat([]byte{'#'}, ChunkHead+3)
		start := PutChunkHead(buf, n)
		if got, want := string(buf[start:]), fmt.Sprintf("%x\r\n###", n); got != want {
			t.Errorf("the head of a chunk of %d bytes is %q, want %q", n, got, want)
		}
		if rest := string(buf[:start]); strings.Trim(rest, "#") != "" {
			t.Errorf("the head of a chunk of %d bytes left %q in front of it", n, rest)
		}
	}
}

func TestChunkThatWouldEndTheBodyIsNeverWritten(t *testing.T) {
	if got := AppendChunk([]byte("x"), nil); string(got) != "x" {
		t.Errorf("an empty payload appends %q", got)
	}
	for _, n := range []int{0, -1, math.MaxUint32 + 1} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(r.(string), "encode: ") {
					t.Errorf("a chunk of %d bytes: %v, want a panic that begins with the package's name", n, r)
				}
			}()
			PutChunkHead(make([]byte, ChunkHead), n)
		}()
	}
}

func TestChunksAreWhatTheLibraryReads(t *testing.T) {
	var body, want []byte
	for _, n := range []int{1, 0, 15, 16, 255, 256, 70000} {
		payload := bytes.Repeat([]byte{byte('a' + n%26)}, n)
		want = append(want, payload...)
		body = AppendChunk(body, payload)
	}
	body = append(body, LastChunk...)
	got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes and %v, want %d", len(got), err, len(want))
	}
	payload, rest, done, err := dechunk(body, len(body))
	if err != nil || !done || rest != "" || payload != string(want) {
		t.Errorf("a Dechunker reads %d bytes, done %v, rest %q, %v; want %d", len(payload), done, rest, err, len(want))
	}
}

// dechunk reads body in pieces.
func dechunk(body []byte, piece int) (payload, rest string, done bool, err error) {
	var d Dechunker
	for len(body) > 0 && !d.Done() {
		cut := min(piece, len(body))
		p := body[:cut]
		body = body[cut:]
		for {
			var got []byte
			got, p, err = d.Next(p)
			payload += string(got)
			if err != nil {
				return payload, "", false, err
			}
			if len(got) == 0 {
				rest = string(p)
				break
			}
		}
	}
	return payload, rest + string(body), d.Done(), nil
}

func TestDechunkerTakesWhatTheGrammarHas(t *testing.T) {
	for _, c := range []struct{ body, payload, rest string }{
		{"0\r\n\r\n", "", ""},
		{"0000\r\n\r\n", "", ""},
		{"3\r\nabc\r\n0\r\n\r\n", "abc", ""},
		{"0000000000000003\r\nabc\r\n0\r\n\r\n", "abc", ""},
		{"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""},
		{"2\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n", "\r\n0\r", ""},
		{"1;name\r\nx\r\n1;a=b;c=\"d;\xe9\"\r\ny\r\n0;last\r\n\r\n", "xy", ""},
		{"1 \t; a = b\r\nx\r\n0\r\n\r\n", "x", ""},
		{"1\r\nx\r\n0\r\nDate: now\r\nX-Empty:\r\n\r\n", "x", ""},
		{"1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", "x", "HTTP/1.1 200 OK\r\n"},
	} {
		for piece := 1; piece <= len(c.body); piece++ {
			payload, rest, done, err := dechunk([]byte(c.body), piece)
			if err != nil || !done || payload != c.payload || rest != c.rest {
				t.Errorf("%q in pieces of %d: %q, rest %q, done %v, %v", c.body, piece, payload, rest, done, err)
			}
		}
		end := len(c.body) - len(c.rest)
		for cut := range end {
			if _, _, done, err := dechunk([]byte(c.body[:cut]), max(cut, 1)); done || err != nil {
				t.Errorf("the first %d bytes of %q: done %v, %v; want it to wait for more", cut, c.body, done, err)
			}
		}
	}
}

// Each of these is read in two ways by some pair of servers and proxies: request
// and response smuggling lives here (RFC 9112 11.1, 11.2).
func TestDechunkerRefusesWhatTwoReadersDisagreeAbout(t *testing.T) {
	for _, c := range []struct {
		body string
		at   int // the byte it names
	}{
		{"\r\n", 0},
		{"\n", 0},
		{" 1\r\n", 0},
		{"+1\r\n", 0},
		{"-1\r\n", 0},
		{"g\r\n", 0},
		{";a\r\n", 0},
		{"0x1\r\n", 1},
		{"1_0\r\n", 1},
		{"1\n", 1},
		{"1 \r\n", 2},
		{"1 2\r\n", 2},
		{"1\rx", 2},
		{"1\r\r\n", 2},
		{"1\x00\r\n", 1},
		{"1;a\n", 3},
		{"1;a\rb\r\n", 4},
		{"1;\x00\r\n", 2},
		{"1;\x7f\r\n", 2},
		{"1;\v\r\n", 2},
		{"00000000000000001\r\n", 16},
		{"8000000000000000\r\n", 15},
		{"ffffffffffffffff\r\n", 15},
		{"10000000000000000\r\n", 16},
		{"1\r\nxy\r\n", 4},
		{"1\r\nx\n", 4},
		{"1\r\nx\ry", 5},
		{"1\r\nx0\r\n\r\n", 4},
		{"1\r\nx\r\n\r\n", 6},
		{"0\r\n\n", 3},
		{"0\r\n\rx", 4},
		{"0\r\n folded\r\n", 3},
		{"0\r\n: no name\r\n", 3},
		{"0\r\nname : x\r\n", 7},
		{"0\r\nname\r\n", 7},
		{"0\r\nname: x\n", 10},
		{"0\r\nname: x\ry", 11},
		{"0\r\nname: \x00\r\n", 9},
		{"1;" + strings.Repeat("a", maxChunkNoise+1), maxChunkNoise + 2},
		{"0\r\na:" + strings.Repeat("a", maxChunkNoise), maxChunkNoise + 3},
	} {
		for _, piece := range []int{len(c.body), 1} {
			_, _, done, err := dechunk([]byte(c.body), piece)
			if done || err == nil || !strings.Contains(err.Error(), fmt.Sprintf(" at %d; want ", c.at)) {
				t.Errorf("%.40q in pieces of %d: done %v, %v; want an error that names byte %d", c.body, piece, done, err, c.at)
			}
		}
	}
}

func TestDechunkerErrorStays(t *testing.T) {
	var d Dechunker
	_, _, first := d.Next([]byte("x"))
	_, rest, again := d.Next([]byte("0\r\n\r\n"))
	if first == nil || again != first || string(rest) != "0\r\n\r\n" || d.Done() {
		t.Errorf("%v, then %v, rest %q, done %v", first, again, rest, d.Done())
	}
}
