package peers

// Penstock itself: the built binary, with its defaults.

import (
	"errors"
	"os/exec"
	"strconv"
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
