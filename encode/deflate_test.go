package encode

import (
	"bytes"
	stdflate "compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// inflate reads one flush with the window that its receivers have, by both of
// Go's decoders. The flush does not end a stream, so that they end with an error.
func inflate(t testing.TB, blocks, window []byte) []byte {
	t.Helper()
	var plain [2][]byte
	for i, r := range []io.Reader{
		stdflate.NewReaderDict(bytes.NewReader(blocks), window),
		flate.NewReaderDict(bytes.NewReader(blocks), window),
	} {
		var err error
		if plain[i], err = io.ReadAll(r); err != io.ErrUnexpectedEOF {
			t.Fatalf("decoder %d: error %v, want that the stream is not over", i, err)
		}
	}
	if !bytes.Equal(plain[0], plain[1]) {
		t.Fatalf("two decoders disagree: %.60q and %.60q", plain[0], plain[1])
	}
	return plain[0]
}

var levels = []Level{Stored, Fast, Good, Best}

// plains are pieces of all sizes that matter to the compressors, one that matches
// the window, one that does not match itself.
func plains(t testing.TB) (window []byte, pieces map[string][]byte) {
	all := bytes.Join(trades(t, 3000), nil)
	window, all = all[:maxWindow], all[maxWindow:]
	noise := make([]byte, 200_000)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(noise)
	pieces = map[string][]byte{
		"heartbeat": AppendHeartbeat(nil),
		"id":        AppendID(nil, firstID),
		"fragment":  fragments(1)[0],
		"of one":    bytes.Repeat([]byte("a"), 100_000),
	}
	for _, n := range []int{1, 2, 12, 13, 31, 33, tooSmall - 1, tooSmall, 1000, 10_000, maxStored, maxStored + 1, 140_000} {
		pieces[fmt.Sprintf("%d of trades", n)] = all[:n]
		pieces[fmt.Sprintf("%d of noise", n)] = noise[:n]
	}
	return window, pieces
}

// Each flush decodes with the window that it was made with, ends at the sync marker
// and is no longer than stored blocks.
func TestFlushDecodesWithItsWindowAndNeverGrows(t *testing.T) {
	all, pieces := plains(t)
	for _, level := range levels {
		for _, n := range []int{0, 5, nearWindow, WindowSize, maxWindow} {
			window := last(all, n)
			for name, plain := range pieces {
				blocks := AppendDeflate([]byte("before"), plain, window, level)
				blocks, found := bytes.CutPrefix(blocks, []byte("before"))
				if !found {
					t.Fatalf("level %d, window %d, %s: what dst held is gone", level, n, name)
				}
				if !bytes.HasSuffix(blocks, []byte("\x00\x00\xff\xff")) {
					t.Errorf("level %d, window %d, %s: ends with % x, want the sync marker", level, n, name, last(blocks, 5))
				}
				if most := storedSize(len(plain)); len(blocks) > most {
					t.Errorf("level %d, window %d, %s: %d bytes, stored %d", level, n, name, len(blocks), most)
				}
				if got := inflate(t, blocks, window); !bytes.Equal(got, plain) {
					t.Fatalf("level %d, window %d, %s: decodes to %.60q, want %.60q", level, n, name, got, plain)
				}
			}
		}
	}
}

// What bytes come out depends on nothing but the arguments: a shard that has to make a
// batch again, for somebody who has half of it, gets the same one.
func TestSameArgumentsGiveSameBytes(t *testing.T) {
	window, pieces := plains(t)
	type key struct {
		level Level
		size  int
		name  string
	}
	first := make(map[key][]byte)
	for range 2 { // maps are walked in another order each time
		for name, plain := range pieces {
			for _, level := range levels {
				for _, n := range []int{0, nearWindow, WindowSize} {
					k := key{level, n, name}
					blocks := AppendDeflate(nil, plain, last(window, n), level)
					if first[k] == nil {
						first[k] = blocks
					} else if !bytes.Equal(first[k], blocks) {
						t.Errorf("level %d, window %d, %s: %d bytes at first, then %d others", level, n, name, len(first[k]), len(blocks))
					}
				}
			}
		}
	}
}

// A piece without any match in its window takes nothing from it; one that is in it
// shrinks to almost nothing.
func TestWindowIsUsed(t *testing.T) {
	window, _ := plains(t)
	plain := last(window, 500)
	for _, level := range []Level{Fast, Good, Best} {
		with, without := AppendDeflate(nil, plain, window, level), AppendDeflate(nil, plain, nil, level)
		if len(with) > 40 || len(without) < 150 {
			t.Errorf("level %d: a piece of the window takes %d bytes with it and %d without, want at most 40 and at least 150", level, len(with), len(without))
		}
	}
}

func TestFlushOfNothingIsTheEmptyBlock(t *testing.T) {
	for _, level := range levels {
		if got := AppendDeflate(nil, nil, []byte("window"), level); string(got) != syncMarker {
			t.Errorf("level %d: % x, want % x", level, got, syncMarker)
		}
	}
}

func TestLevelForKeepsToATenthOfTheSends(t *testing.T) {
	for _, c := range []struct {
		sends, size int
		want        Level
	}{
		{1, 150, Fast}, {8, 150, Fast}, {27, 150, Fast}, {28, 150, Good}, {49, 150, Good}, {50, 150, Best},
		{100, 2000, Good}, {120, 2000, Best},
		{10_000, 64 << 10, Best}, {1000, 64 << 10, Good}, {100, 64 << 10, Fast}, {0, 0, Fast}, {10_000, 1 << 20, Fast},
	} {
		if got := LevelFor(c.sends, c.size); got != c.want {
			t.Errorf("%d sends of %d bytes: level %d, want %d", c.sends, c.size, got, c.want)
		}
	}
}

// What the levels are good for, event by event, with an audience's window: the
// floors are some tenths below what docs/compression.md says.
func TestRatios(t *testing.T) {
	if poolForgets {
		t.Skip("compressors are made anew all the time under the race detector")
	}
	for _, c := range []struct {
		name   string
		frames [][]byte
		floors [Best + 1]float64
	}{
		{"ticks", ticks(1000), [...]float64{Fast: 1.6, Good: 1.6, Best: 1.9}},
		{"trades", trades(t, 1000), [...]float64{Fast: 3.1, Good: 3.1, Best: 3.3}},
		{"trades of many symbols", tickers(1000), [...]float64{Fast: 3, Good: 3.2, Best: 3.5}},
		{"fragments", fragments(100), [...]float64{Fast: 5.5, Good: 8, Best: 9}},
	} {
		var size [Best + 1]int
		var all []byte
		for _, plain := range c.frames {
			for _, level := range levels {
				size[level] += len(AppendDeflate(nil, plain, last(all, WindowSize), level))
			}
			all = append(all, plain...)
		}
		for _, level := range levels {
			ratio := float64(len(all)) / float64(size[level])
			t.Logf("%s, level %d: %.2f", c.name, level, ratio)
			if ratio < c.floors[level] {
				t.Errorf("%s, level %d: ratio %.2f, want at least %.2f", c.name, level, ratio, c.floors[level])
			}
		}
	}
}

func FuzzFlushDecodes(f *testing.F) {
	window, pieces := plains(f)
	for _, plain := range pieces {
		if len(plain) < 2000 {
			f.Add(plain, window[:1500], uint8(Best))
		}
	}
	f.Add([]byte(strings.Repeat("ab", 300)), []byte(strings.Repeat("ba", 300)), uint8(Fast))
	f.Fuzz(func(t *testing.T, plain, window []byte, level uint8) {
		l := Level(level) % (Best + 1)
		blocks := AppendDeflate(nil, plain, window, l)
		if len(blocks) > storedSize(len(plain)) {
			t.Fatalf("%d bytes, stored %d", len(blocks), storedSize(len(plain)))
		}
		if got := inflate(t, blocks, window); !bytes.Equal(got, plain) {
			t.Fatalf("decodes to %q, want %q", got, plain)
		}
	})
}
