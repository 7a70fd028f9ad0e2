package topic

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var nameSeeds = []string{
	"", "a", "a.b", ".", "a.", ".a", "a..b", "*", ">", "**", "a.*", "a.>", "a.**", "*.>", "a*", ">.a", "**.a", "***", "a b",
	"\x7f", "\u0080", "\u009f", "\u00a0", "é", "\xc3", "\xff", "\xed\xa0\x80", "日本.株", "$a", "a/b", strings.Repeat("x", 255), strings.Repeat("x", 256),
}

// The grammar as http-api.md has it, token by token and character by character.
func slowName(s string, pattern bool) bool {
	if len(s) < 1 || len(s) > 255 || !utf8.ValidString(s) {
		return false
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		last := i == len(tokens)-1
		if pattern && (token == "*" || last && (token == ">" || token == "**")) {
			continue
		}
		if token == "" {
			return false
		}
		for _, r := range token {
			control := r < 0x20 || r >= 0x7f && r < 0xa0
			if control || r == ' ' || strings.ContainsRune("/,?#%*>", r) {
				return false
			}
		}
	}
	return true
}

// What is a topic.
func FuzzParseName(f *testing.F) {
	for _, s := range nameSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseName(s)
		if slowName(s, false) != (err == nil) {
			t.Fatalf("ParseName(%q): %v", s, err)
		}
		if err == nil && name != s || err != nil && name != "" {
			t.Fatalf("ParseName(%q) = %q", s, name)
		}
	})
}

// What is a pattern, and that its text is one too, and the same.
func FuzzParsePattern(f *testing.F) {
	for _, s := range nameSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if slowName(s, true) != (err == nil) {
			t.Fatalf("ParsePattern(%q): %v", s, err)
		}
		if err != nil {
			return
		}
		if again, err := ParsePattern(p.String()); err != nil || again != p {
			t.Fatalf("ParsePattern(%q) is %q, and that is %q, %v", s, p, again, err)
		}
		if tokens := strings.Split(s, "."); p.Plain() != !slices.ContainsFunc(tokens, func(t string) bool { return t == "*" || t == "**" || t == ">" }) {
			t.Fatalf("ParsePattern(%q) is plain: %v", s, p.Plain())
		}
		if p.Plain() != slowName(s, false) {
			t.Fatalf("ParsePattern(%q) is plain: %v", s, p.Plain())
		}
	})
}
