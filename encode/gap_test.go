package encode

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGapIsReadBackAsItWas(t *testing.T) {
	for _, g := range []Gap{
		{Topics: []string{"stocks.nasdaq.AAPL"}, After: "1763670000000042", Before: 1763670000031337, Reason: GapLag},
		{Topics: []string{"a", `quote".back\slash`, "größe.東京.😀"}, After: "", Before: 1<<64 - 1, Reason: GapResume},
		{Topics: []string{"a"}, After: "line\nbreak\r\x00\x1f\x7f<>&\u2028", Before: 1, Reason: GapUnknownID},
		{Topics: []string{strings.Repeat("x", 255)}, After: "0", Before: 1, Reason: GapRestart},
	} {
		blocks := decodeWhole(t, string(AppendGap(nil, &g, 77)))
		if len(blocks) != 1 || blocks[0].Type != "gap" || blocks[0].ID != "77" || !blocks[0].HasData {
			t.Fatalf("%+v is read as %+v, want one gap with id 77", g, blocks)
		}
		var got Gap
		if err := json.Unmarshal([]byte(blocks[0].Data), &got); err != nil || !reflect.DeepEqual(got, g) {
			t.Errorf("%s is read as %+v (%v), want %+v", blocks[0].Data, got, err, g)
		}
	}
}

// The fields' order is part of the contract: people read gaps with sed, too.
func TestGapFieldsKeepTheirOrder(t *testing.T) {
	g := Gap{Topics: []string{"a", "b"}, After: "3", Before: 9, Reason: GapLag}
	want := "event: gap\ndata: " + `{"topics":["a","b"],"after":"3","before":"9","reason":"lag"}` + "\nid: 8\n\n"
	if got := string(AppendGap(nil, &g, 8)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(AppendGap(nil, &Gap{}, 8)), `{"topics":[],"after":"","before":"0","reason":""}`; !strings.Contains(got, want) {
		t.Errorf("%q, want %s in it", got, want)
	}
}

func TestGapAfterIsCutBetweenCharacters(t *testing.T) {
	for _, c := range []struct{ after, want string }{
		{strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), strings.Repeat("x", 64)},
		{strings.Repeat("x", 1<<20), strings.Repeat("x", 64)},
		{strings.Repeat("ü", 33), strings.Repeat("ü", 32)},
		{"x" + strings.Repeat("ü", 33), "x" + strings.Repeat("ü", 31)},
		{strings.Repeat("東", 30), strings.Repeat("東", 21)},
		{strings.Repeat("😀", 17), strings.Repeat("😀", 16)},
		{"xy" + strings.Repeat("😀", 17), "xy" + strings.Repeat("😀", 15)},
		{strings.Repeat("\"", 65), strings.Repeat("\"", 64)}, // escapes do not count
		{"a\xffb", "a\ufffdb"},
		{strings.Repeat("\xff", 64), strings.Repeat("\ufffd", 21)},
	} {
		var got Gap
		data, ok := strings.CutPrefix(string(AppendGap(nil, &Gap{After: c.after}, 1)), "event: gap\ndata: ")
		data, _, _ = strings.Cut(data, "\n")
		if err := json.Unmarshal([]byte(data), &got); !ok || err != nil || got.After != c.want || !utf8.ValidString(data) {
			t.Errorf("after %.80q becomes %q (%v), want %q", c.after, got.After, err, c.want)
		}
	}
}
