package main

// --help is documentation: what it says is held as golden files (make golden writes them anew),
// and documents name only flags that exist.

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"penstock/server"
)

var update = flag.Bool("update", false, "write the golden files anew")

// commands are all that penstock --help lists.
func commands(t *testing.T) []string {
	t.Helper()
	var names []string
	_, list, _ := strings.Cut(enter(t, nil, "--help").stdout, "Commands:\n")
	for line := range strings.Lines(list) {
		if len(line) > 2 && strings.HasPrefix(line, "  ") && line[2] != ' ' {
			names = append(names, strings.Fields(line)[0])
		}
	}
	if !slices.Contains(names, "serve") {
		t.Fatalf("penstock --help lists %q", names)
	}
	return names
}

// The version is one line, asked for by the command or as most programs are asked.
func TestVersionIsOneLine(t *testing.T) {
	command, flag := enter(t, nil, "version"), enter(t, nil, "--version")
	if command.code != exitOK || !strings.HasPrefix(command.stdout, "penstock ") || strings.Count(command.stdout, "\n") != 1 {
		t.Error(command)
	}
	if flag != command {
		t.Errorf("--version: %v\nwant %v", flag, command)
	}
}

func TestHelpSaysWhatItAlwaysSaid(t *testing.T) {
	t.Setenv("COLUMNS", "") // the width is 80 then, as output is no terminal
	for _, command := range append([]string{""}, commands(t)...) {
		t.Run("penstock "+command, func(t *testing.T) {
			args, name := []string{"--help"}, "penstock"
			if command != "" {
				args, name = []string{command, "--help"}, command
			}
			r := enter(t, nil, args...)
			if r.code != exitOK || r.stderr != "" {
				t.Fatal(r)
			}
			path := filepath.Join("testdata", "help", name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(r.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; make golden writes it", err)
			}
			if r.stdout != string(want) {
				line, got, was := firstDifference(r.stdout, string(want))
				t.Errorf("%s --help is not %s any more (make golden writes it anew): line %d is\n%s\nand was\n%s", command, path, line, got, was)
			}
		})
	}
}

// firstDifference finds the first line in which two texts differ.
func firstDifference(got, want string) (line int, inGot, inWant string) {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for line < len(g) && line < len(w) && g[line] == w[line] {
		line++
	}
	at := func(lines []string) string {
		if line < len(lines) {
			return lines[line]
		}
		return "(no more)"
	}
	return line + 1, at(g), at(w)
}

// Each setting has its group, its default and its environment variable in serve --help.
func TestHelpShowsEverythingOfASetting(t *testing.T) {
	help := strings.Join(strings.Fields(enter(t, nil, "serve", "--help").stdout), " ")
	for _, s := range server.Settings() {
		for _, want := range []string{"--" + s.Name, "$" + s.Env, s.Group} {
			if !strings.Contains(help, want) {
				t.Errorf("serve --help does not show %q of --%s", want, s.Name)
			}
		}
		if s.Default != "" && s.Default != "false" && !strings.Contains(help, "default "+s.Default+";") {
			t.Errorf("serve --help does not show the default %s of --%s", s.Default, s.Name)
		}
	}
}

// A document that names a flag names one that there is.
func TestDocumentsNameFlagsThatExist(t *testing.T) {
	known := []string{
		// Of other programs.
		"--ulimit", "--memory", // docker run
		"--nofile",             // prlimit
		"--now", "--kill-whom", // systemctl
		"--system",                                   // sysctl
		"--build",                                    // docker compose up
		"--from-literal", "--allowed-unsafe-sysctls", // kubectl, kubelet
		"--compressed",       // curl
		"--version",          // the word version, as other programs have it
		"--dport", "--sport", // iptables
		"--subjects", "--storage", "--replicas", "--retention", "--discard", "--max-bytes", "--dupe-window", "--defaults", // nats stream add
	}
	flags := regexp.MustCompile(`--[a-z][a-z-]+[a-z]`)
	for _, command := range commands(t) {
		help := strings.ReplaceAll(enter(t, nil, command, "--help").stdout, "--[no-]", "--")
		known = append(known, flags.FindAllString(help, -1)...)
	}
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*", "Dockerfile", "Makefile", "server/doc.go"} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "Makefile") || strings.HasSuffix(path, "Dockerfile") {
			text = bytes.Join(slices.DeleteFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool {
				return !bytes.Contains(line, []byte("penstock serve")) && !bytes.HasPrefix(line, []byte("#"))
			}), []byte("\n"))
		}
		for _, name := range flags.FindAllString(string(text), -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names %s, and no command has it", path, name)
			}
		}
	}
}
