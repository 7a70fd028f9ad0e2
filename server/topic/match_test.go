package topic

import (
	"slices"
	"strings"
	"testing"
)

// slowMatch is the grammar, token by token.
func slowMatch(pattern, name string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(name, ".")
	if strings.HasPrefix(name, "$") && (want[0] == "*" || want[0] == ">") {
		return false
	}
	for i, w := range want {
		switch {
		case w == ">":
			return len(have) > i
		case i >= len(have) || w != "*" && w != have[i]:
			return false
		}
	}
	return len(want) == len(have)
}

// A pattern matches what the slow way says, and a trie finds the same, whatever
// was added and removed before.
func FuzzMatch(f *testing.F) {
	f.Add("a.*.c a.> > *.b a.b.c", "a.b.c", byte(1))
	f.Add("$x.* *.y $x.>", "$x.y", byte(0))
	f.Add("a.** a.b *", "a", byte(7))
	f.Fuzz(func(t *testing.T, patterns, name string, removed byte) {
		if _, err := ParseName(name); err != nil {
			t.Skip()
		}
		var trie Trie[int]
		var parsed []Pattern
		for _, s := range strings.Fields(patterns) {
			if p, err := ParsePattern(s); err == nil && len(parsed) < 8 {
				trie.Add(p, len(parsed))
				parsed = append(parsed, p)
			}
		}
		var want, got []int
		for i, p := range parsed {
			if removed>>i&1 == 1 {
				trie.Remove(p, i)
			} else if slowMatch(p.String(), name) {
				want = append(want, i)
			}
			if p.Match(name) != slowMatch(p.String(), name) {
				t.Errorf("pattern %q and %q: %v", p, name, p.Match(name))
			}
		}
		trie.Match(name, func(i int) { got = append(got, i) })
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("trie of %q finds %v for %q, want %v", patterns, got, name, want)
		}
		for i, p := range parsed {
			if removed>>i&1 == 0 {
				trie.Remove(p, i)
			}
		}
		if !trie.root.empty() {
			t.Errorf("a trie without patterns is not empty")
		}
	})
}
