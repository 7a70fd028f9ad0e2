package topic

import (
	"strings"
	"testing"
)

func TestNamesThatAreTopics(t *testing.T) {
	for _, s := range []string{
		"a", "stocks.nasdaq.AAPL", "$stats", "a.$b", "Ünï.çødé", "日本.株", "a-b_c:d;e=f&g", "\u00a0", "\ufffd", "\U0010ffff",
		strings.Repeat("a", 255), strings.Repeat("é", 127), "0", "...a"[3:],
	} {
		if got, err := ParseName(s); err != nil || got != s {
			t.Errorf("ParseName(%q) = %q, %v", s, got, err)
		}
		if p, err := ParsePattern(s); err != nil || p.String() != s || !p.Plain() {
			t.Errorf("ParsePattern(%q) = %q, plain %v, %v", s, p, p.Plain(), err)
		}
	}
}

// Errors say what is wrong and which byte it is.
func TestNamesThatAreNot(t *testing.T) {
	for _, c := range []struct{ name, err string }{
		{"", `topic "": empty;`},
		{".", `topic ".": empty token at byte 0;`},
		{"a.", `topic "a.": empty token at byte 2;`},
		{".a", `empty token at byte 0;`},
		{"a..b", `empty token at byte 2;`},
		{"a b", `' ' at byte 1;`},
		{"a\x00", `'\x00' at byte 1;`},
		{"a\nb", `'\n' at byte 1;`},
		{"a.\x7f", `'\x7f' at byte 2;`},
		{"é\u0085", `control character U+0085 at byte 2;`},
		{"\u009f", `control character U+009F at byte 0;`},
		{"a/b", `'/' at byte 1;`},
		{"a,b", `',' at byte 1;`},
		{"a?b", `'?' at byte 1;`},
		{"a#b", `'#' at byte 1;`},
		{"a%b", `'%' at byte 1;`},
		{"a.\xff", `byte 0xff at byte 2 is not UTF-8;`},
		{"a.\xc3", `byte 0xc3 at byte 2 is not UTF-8;`},
		{"\xed\xa0\x80", `byte 0xed at byte 0 is not UTF-8;`},
		{strings.Repeat("a", 256), `256 bytes;`},
		{strings.Repeat("\xff", 1<<20), `1048576 bytes;`},
	} {
		_, err := ParseName(c.name)
		if err == nil || !strings.Contains(err.Error(), c.err) || len(err.Error()) > 1500 {
			t.Errorf("ParseName(%.40q): %v, want ...%s", c.name, err, c.err)
		}
		_, err = ParsePattern(c.name)
		if want := strings.Replace(c.err, "topic ", "pattern ", 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePattern(%.40q): %v, want ...%s", c.name, err, want)
		}
	}
}

// Wildcards are no part of a name, and in a pattern whole tokens, > and ** the last one only.
func TestPatterns(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"*", "*"}, {">", ">"}, {"**", ">"}, {"a.*", "a.*"}, {"*.*", "*.*"}, {"*.a.*.b", "*.a.*.b"},
		{"a.>", "a.>"}, {"a.**", "a.>"}, {"*.>", "*.>"}, {"*.**", "*.>"}, {"$sys.>", "$sys.>"},
	} {
		p, err := ParsePattern(c.in)
		if err != nil || p.String() != c.out || p.Plain() {
			t.Errorf("ParsePattern(%q) = %q, plain %v, %v; want %q", c.in, p, p.Plain(), err, c.out)
		}
		if again, err := ParsePattern(c.out); err != nil || again != p {
			t.Errorf("ParsePattern(%q) is another pattern than that of %q: %v", c.out, c.in, err)
		}
		if _, err := ParseName(c.in); err == nil || !strings.Contains(err.Error(), "wildcard") {
			t.Errorf("ParseName(%q): %v, want an error about the wildcard", c.in, err)
		}
	}
	for _, c := range []struct{ in, err string }{
		{"a*", "* at byte 1 is not a whole token"},
		{"*a", "* at byte 0 is not a whole token"},
		{"a.b*.c", "* at byte 3 is not a whole token"},
		{"***", "** at byte 0 is not a whole token"},
		{"a>", "> at byte 1 is not a whole token"},
		{">a", "> at byte 0 is not a whole token"},
		{">>", "> at byte 0 is not a whole token"},
		{"*>", "* at byte 0 is not a whole token"},
		{">.a", "> at byte 0 is not the last token"},
		{"a.**.b", "** at byte 2 is not the last token"},
		{"*.", "empty token at byte 2"},
		{">.", "> at byte 0 is not the last token"},
	} {
		if p, err := ParsePattern(c.in); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("ParsePattern(%q) = %q, %v; want ...%s", c.in, p, err, c.err)
		}
	}
}

func TestOwnNames(t *testing.T) {
	for name, own := range map[string]bool{"$": true, "$a.b": true, "a.$b": false, "a": false, "": false} {
		if IsOwn(name) != own {
			t.Errorf("IsOwn(%q) is %v", name, !own)
		}
	}
}
