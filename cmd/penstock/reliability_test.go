package main

// docs/reliability.md promises nothing that no test holds: what it names is there.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test, fuzz target and benchmark that the page names is in the tree, every command and make
// target too, and its links lead somewhere.
func TestReliabilityNamesWhatIsThere(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	makefile, bench := read("Makefile"), read(filepath.Join("bench", "main.go"))
	named := 0
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(page), -1) {
		switch word := m[1]; {
		case regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`).MatchString(word):
			if named++; !there[word] {
				t.Errorf("%s: there is no such test", word)
			}
		case strings.HasPrefix(word, "make "):
			if target := strings.Fields(word)[1]; !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("%s: the Makefile has no such target", word)
			}
		case strings.HasPrefix(word, "go run ./bench "):
			if command := strings.Fields(word)[3]; !strings.Contains(bench, `case "`+command+`"`) {
				t.Errorf("%s: bench has no such command", word)
			}
		}
	}
	if named < 40 {
		t.Errorf("the page names %d tests, fewer than it has promises", named)
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
			t.Errorf("link to %s: %v", m[1], err)
		}
	}
}
