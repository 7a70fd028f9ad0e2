package peers

// Small servers with Go's libraries: bench/peers/go, a module of its own.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"penstock/loadtest"
)

func goPeer(name, kind, about string) *Peer {
	return &Peer{
		Name: name, About: about, Tuning: "defaults",
		Limit: "a goroutine's stack, a reader's and a writer's buffer for each stream; a write and a wake-up for each event and stream",
		find: func(o *Options) (string, error) {
			return o.build("go-peers", func(out string) *exec.Cmd {
				c := exec.Command("go", "build", "-o", out, ".")
				c.Dir = filepath.Join(o.Root, "bench", "peers", "go")
				return c
			})
		},
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			return exec.Command(program, kind, strconv.Itoa(port)), nil
		},
		aim: aimGo,
	}
}

// Own answers a small server that is a command of this program, with the paths of the others: it
// is started with the command and a port.
func Own(command, about string) *Peer {
	return &Peer{
		Name: command, About: about, Tuning: "defaults",
		find: func(*Options) (string, error) { return os.Executable() },
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			return exec.Command(program, command, strconv.Itoa(port)), nil
		},
		aim: aimGo,
	}
}

func aimGo(c *loadtest.Config, base string) {
	c.URL = base + "/events?topic={topic}"
	c.PublishURL = base + "/publish/{topic}"
}
