package peers

// The floor: a bare loop in C (bench/floor), compiled when it is asked for.

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Beating answers the floor that sends each stream a heartbeat once in so long, at least a
// millisecond; with 0 it sends none.
func Beating(every time.Duration) *Peer { return floor("floor", 0, int(every.Milliseconds()), 0) }

func floor(name string, batchMS, heartbeatMS, history int) *Peer {
	about := "a bare loop in C: accept4, recv, send, epoll_ctl a stream, send() a subscriber and event"
	if batchMS > 0 {
		about = "a bare loop in C that sends all events of " + strconv.Itoa(batchMS) + " ms at once"
	}
	if heartbeatMS > 0 {
		about = "a bare loop in C that sends each stream a comment every " + strconv.Itoa(heartbeatMS) + " ms"
	}
	if history > 0 {
		about += ", keeps every frame and sends those who come back what they missed"
	}
	return &Peer{
		Name: name, About: about, Tuning: "-O2",
		find: func(o *Options) (string, error) {
			for _, cc := range []string{"gcc", "cc", "clang"} {
				if compiler, err := exec.LookPath(cc); err == nil {
					return o.build("floor", func(out string) *exec.Cmd {
						return exec.Command(compiler, "-O2", "-o", out, filepath.Join(o.Root, "bench", "floor", "floor.c"))
					})
				}
			}
			return "", errors.New("no C compiler: the floor is a loop in C; install gcc")
		},
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			return exec.Command(program, strconv.Itoa(port), strconv.Itoa(batchMS), strconv.Itoa(heartbeatMS), strconv.Itoa(history)), nil
		},
	}
}
