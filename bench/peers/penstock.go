package peers

// Penstock itself: the built binary, with its defaults.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

func penstock(name string, flags []string) *Peer {
	return &Peer{
		Name: name, About: "one ring of frames; shards that send each audience its batch", Tuning: "defaults",
		find: func(o *Options) (string, error) {
			if o.Penstock == "" {
				return "", errors.New("no binary: make build makes bin/penstock")
			}
			return o.Penstock, nil
		},
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			args := append([]string{"serve", "--listen", "127.0.0.1:" + strconv.Itoa(port)}, flags...)
			return exec.Command(program, append(args, o.Extra...)...), nil
		},
	}
}

// With answers Penstock with other settings, under a name of its own.
func With(name string, flags ...string) *Peer { return penstock(name, flags) }

// Variant answers Penstock built with one piece of its source replaced, under a name of its own:
// to measure what a constant does. file is relative to the repository's root.
func Variant(name, file, piece, instead string) *Peer {
	p := penstock(name, nil)
	p.Tuning = fmt.Sprintf("built with %q in place of %q in %s", instead, piece, file)
	p.find = func(o *Options) (string, error) {
		source := filepath.Join(o.Root, filepath.FromSlash(file))
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if strings.Count(string(text), piece) != 1 {
			return "", fmt.Errorf("%s has %q not once", file, piece)
		}
		changed := filepath.Join(o.Scratch, name+".go")
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
		if err != nil {
			return "", err
		}
		if err := errors.Join(
			os.WriteFile(changed, []byte(strings.Replace(string(text), piece, instead, 1)), 0o644),
			os.WriteFile(changed+".json", overlay, 0o644),
		); err != nil {
			return "", err
		}
		return o.build(name, func(out string) *exec.Cmd {
			c := exec.Command("go", "build", "-trimpath", "-overlay", changed+".json", "-o", out, "./cmd/penstock")
			c.Dir = o.Root
			c.Env = append(os.Environ(), "CGO_ENABLED=0")
			return c
		})
	}
	return p
}
