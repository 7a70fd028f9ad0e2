package encode

import (
	"math"
	"strings"
	"testing"
)

func TestParseIDTakesShortestDecimalsOnly(t *testing.T) {
	for text, want := range map[string]uint64{
		"0":                    0,
		"7":                    7,
		"1763670000000042":     1763670000000042,
		"9999999999999999999":  9999999999999999999,
		"10000000000000000000": 10000000000000000000,
		"18446744073709551609": math.MaxUint64 - 6,
		"18446744073709551615": math.MaxUint64,
	} {
		if id, err := ParseID(text); err != nil || id != want {
			t.Errorf("ParseID(%q) = %d, %v; want %d", text, id, err, want)
		}
		if id, err := ParseID([]byte(text)); err != nil || id != want {
			t.Errorf("ParseID of the bytes %q = %d, %v; want %d", text, id, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "00", "01", "+1", "-1", " 1", "1 ", "1\n", "0x1", "1e3", "1_000", "1.", "a", "\x00", "1\x00", "١",
		"18446744073709551616", "18446744073709551620", "20000000000000000000", "99999999999999999999",
		"184467440737095516150", "1844674407370955161a", strings.Repeat("1", 1000),
	} {
		id, err := ParseID(text)
		if err == nil {
			t.Errorf("ParseID(%q) = %d, want an error", text, id)
		} else if id != 0 || len(err.Error()) > 200 || !strings.Contains(err.Error(), "18446744073709551615") {
			t.Errorf("ParseID(%q) = %d, %v; want 0 and an error that is short and says what an id is", text, id, err)
		}
	}
}

func TestMaxIDLineIsTheLongest(t *testing.T) {
	if n := len(AppendID(nil, math.MaxUint64)); n != MaxIDLine {
		t.Errorf("the longest id line has %d bytes, MaxIDLine says %d", n, MaxIDLine)
	}
}
