package main

// The house: which package may import which, and which library has its door where. The tables
// are the rule; a change to them is a change of the architecture (server/doc.go).

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// rooms says what each package may import of Penstock's own: one street down, cmd/penstock >
// server > api > accept > fanout > topic > ring and encode, and the side rooms.
var rooms = map[string][]string{
	"ring":              nil,
	"encode":            nil,
	"server/thread":     nil,
	"server/handover":   nil,
	"server/topic":      {"server/handover", "ring", "encode"},
	"server/fanout":     {"server/topic", "server/thread", "server/handover", "ring", "encode"},
	"server/accept":     {"server/fanout", "server/handover", "server/topic", "server/thread", "encode"},
	"server/auth":       {"server/topic"},
	"server/backplane":  {"server/topic", "encode"},
	"server/api":        {"server/accept", "server/auth", "server/fanout", "server/topic", "ring", "encode"},
	"server/demo":       {"server/topic", "encode"},
	"server/tuning":     nil,
	"server":            {"server/api", "server/accept", "server/auth", "server/backplane", "server/demo", "server/fanout", "server/handover", "server/topic", "server/tuning", "ring", "encode"},
	"server/servertest": {"server", "encode"},
	"loadtest":          {"encode"},
	"bench":             {"loadtest", "bench/peers", "bench/samples", "encode"},
	"bench/peers":       {"loadtest"},
	"bench/samples":     nil,
	"bench/link":        nil,
	"cmd/penstock":      {"server", "server/tuning", "loadtest", "encode", "cmd/penstock/internal/answer", "cmd/penstock/internal/feed", "cmd/penstock/internal/follow"},

	// The substance of publish and subscribe.
	"cmd/penstock/internal/answer": nil,
	"cmd/penstock/internal/feed":   {"encode", "cmd/penstock/internal/answer"},
	"cmd/penstock/internal/follow": {"encode", "cmd/penstock/internal/answer"},
}

// testRooms says what a package's tests may import beyond that.
var testRooms = map[string][]string{
	"encode":           {"bench/samples"},
	"server":           {"server/servertest"},
	"server/backplane": {"server", "server/servertest"},
	"cmd/penstock":     {"server/servertest"},
}

// doors says where each library may be imported: by whom it is known. A library that is not here
// has no door.
var doors = map[string][]string{
	"github.com/cloudwego/netpoll":       {"server/accept"},
	"github.com/valyala/fasthttp":        {"server/accept", "server/api"},
	"github.com/valyala/fastjson":        {"server/api"},
	"github.com/VictoriaMetrics/metrics": {"server/api"},
	"github.com/klauspost/compress":      {"encode"},
	"golang.org/x/sys":                   {"server/fanout", "server/accept", "loadtest", "bench/link"},
	"github.com/alecthomas/kong":         {"cmd/penstock"},
	"github.com/goccy/go-yaml":           {"cmd/penstock"},
	"github.com/coreos/go-systemd":       {"cmd/penstock"},
	"github.com/nats-io":                 {"server/backplane"},
	"github.com/HdrHistogram":            {"loadtest"},
	"github.com/prometheus/procfs":       {"loadtest", "server/tuning"},
}

// testLibraries may be used by any test, and by no code that is shipped.
var testLibraries = []string{
	"go.uber.org/goleak", "pgregory.net/rapid", "github.com/rogpeppe/go-internal", "golang.org/x/sys", "github.com/valyala/fasthttp",
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

// list asks the go command for every package of the module.
func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles", "penstock/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestHouseImportsRunDownOneStreet(t *testing.T) {
	for _, p := range list(t) {
		room := strings.TrimPrefix(p.ImportPath, "penstock/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is no room of the house; give it its line in the table of rooms", room)
			continue
		}
		for _, imported := range p.Imports {
			if own, ok := strings.CutPrefix(imported, "penstock/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s; allowed are %q", room, own, allowed)
			}
		}
		allowed = append(slices.Clone(allowed), testRooms[room]...)
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if own, ok := strings.CutPrefix(imported, "penstock/"); ok && own != room && !slices.Contains(allowed, own) {
				t.Errorf("the tests of %s import %s; allowed are %q", room, own, allowed)
			}
		}
	}
}

func TestHouseEachLibraryHasOneDoor(t *testing.T) {
	for _, p := range list(t) {
		room := strings.TrimPrefix(p.ImportPath, "penstock/")
		for _, imported := range p.Imports {
			if library, at := door(imported); library != "" && !slices.Contains(at, room) {
				t.Errorf("%s imports %s; its doors are %q", room, imported, at)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			library, at := door(imported)
			if library != "" && !slices.Contains(at, room) && !slices.ContainsFunc(testLibraries, func(l string) bool { return within(imported, l) }) {
				t.Errorf("the tests of %s import %s; its doors are %q", room, imported, at)
			}
		}
	}
}

// door finds the library that an import belongs to and where it may be imported; "" for the
// standard library and our own.
func door(imported string) (library string, at []string) {
	first, _, _ := strings.Cut(imported, "/")
	if first == "penstock" || !strings.Contains(first, ".") {
		return "", nil
	}
	for library, at := range doors {
		if within(imported, library) {
			return library, at
		}
	}
	return imported, nil
}

func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

// Every room has its place in the table that newcomers read.
func TestHouseRoomsAreDescribed(t *testing.T) {
	text, err := os.ReadFile("../../docs/development.md")
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms {
		if !strings.Contains(string(text), "`"+strings.TrimPrefix(room, "cmd/penstock/")+"`") {
			t.Errorf("%s has no line in the table of rooms of docs/development.md", room)
		}
	}
}

// A file is named after what it holds.
func TestHouseHasNoDrawers(t *testing.T) {
	drawers := []string{"util", "utils", "helper", "helpers", "common", "misc", "types", "stuff"}
	for _, p := range list(t) {
		for _, file := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			name := strings.TrimSuffix(strings.TrimSuffix(file, ".go"), "_test")
			if slices.Contains(drawers, name) {
				t.Errorf("%s is a drawer: name it after what it holds", path.Join(p.ImportPath, file))
			}
		}
	}
}

// Nothing is left lying in front of the door: what is kept at the top level is named here.
func TestHouseTopLevel(t *testing.T) {
	git := exec.Command("git", "ls-files")
	git.Dir = "../.."
	out, err := git.Output()
	if err != nil {
		t.Skipf("no checkout to look at: %v", err)
	}
	top := strings.Fields("go.mod go.sum cmd server ring encode bench loadtest README.md Makefile tuning.md" +
		" docs deploy examples LICENSE CHANGELOG.md .ci Dockerfile .gitignore .dockerignore")
	for _, file := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if first, _, _ := strings.Cut(file, "/"); !slices.Contains(top, first) {
			t.Errorf("%s: nothing called %s belongs at the top level", file, first)
		}
	}
}
