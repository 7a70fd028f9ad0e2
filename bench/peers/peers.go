package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"penstock/loadtest"
)

// A Peer is a server that can be compared.
type Peer struct {
	Name   string
	About  string // how it works, in a few words
	Tuning string // what was set, beyond its defaults, and why
	Limit  string // what limits it, as far as is known

	// find answers its program; the error says what is missing and how to get it.
	find func(o *Options) (string, error)
	// start starts it. Its directory is there and empty.
	start func(o *Options, program, dir string, port int) (*exec.Cmd, error)
	// aim turns a Config for Penstock into one for this server.
	aim func(c *loadtest.Config, base string)
	// after, where it is not nil, is called when it listens, and ends what it began.
	after func(port int) (end func(), err error)
}

// Options is what all peers are told.
type Options struct {
	Penstock string // the built binary
	Extra    []string
	Scratch  string // a directory for their files
	Root     string // of the repository
	Workers  int
	built    map[string]string
}

// All lists the peers, Penstock first.
func All() []*Peer {
	return []*Peer{
		penstock("penstock", nil), floor("floor", 0, 0, 0), floor("floor-10ms", 10, 0, 0), floor("floor-heartbeat", 0, 1000, 0), floor("floor-resume", 10, 0, 1),
		nchan("nchan", 1), nchan("nchan-2", 2),
		goPeer("net/http", "nethttp", "a goroutine and a channel of 256 for each stream: what everybody writes"),
		goPeer("fasthttp", "fasthttp", "its stream writer: a goroutine and a channel of 256 for each stream"),
		goPeer("r3labs", "r3labs", "r3labs/sse over net/http: a goroutine a stream, one for each topic that feeds their channels"),
		goPeer("tmaxmax", "tmaxmax", "tmaxmax/go-sse over net/http: one goroutine writes to all streams in turn"),
		goPeer("bare-fasthttp-netpoll", "bare-netpoll", "fasthttp on netpoll whose handler does nothing: the floor for publishing"),
		goPeer("bare-fasthttp", "bare-net", "fasthttp on the net package whose handler does nothing"),
		mercure(), centrifugo(), pushpin(),
	}
}

// Find answers the peer of a name.
func Find(name string) (*Peer, error) {
	var names []string
	for _, p := range All() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("peer %q: not known; %s are", name, strings.Join(names, ", "))
}

// Available says why a peer cannot be started here; nil: it can.
func (p *Peer) Available(o *Options) error {
	_, err := p.find(o)
	return err
}

// A Running peer. Stop it.
type Running struct {
	Peer *Peer
	Base string // http://127.0.0.1:port
	cmd  *exec.Cmd
	log  *words
	dir  string
	end  func()
	done chan error
}

// Start starts a peer and waits until it listens.
func (p *Peer) Start(ctx context.Context, o *Options) (*Running, error) {
	program, err := p.find(o)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Scratch, "peer-")
	if err != nil {
		return nil, err
	}
	r := &Running{Peer: p, Base: "http://127.0.0.1:" + strconv.Itoa(port), log: new(words), dir: dir}
	if r.cmd, err = p.start(o, program, dir, port); err == nil {
		r.cmd.Dir = dir
		r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
		r.cmd.WaitDelay = time.Second
		r.done, err = tied(r.cmd)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := r.await(ctx, port); err != nil {
		r.Stop()
		return nil, fmt.Errorf("start %s: %w; it said: %s", p.Name, err, r.Log())
	}
	if p.after != nil {
		if r.end, err = p.after(port); err != nil {
			r.Stop()
			return nil, fmt.Errorf("start %s: %w", p.Name, err)
		}
	}
	return r, nil
}

// tied starts a program that does not outlive us, whatever happens. The kernel ties it to the
// thread that started it and not to the process, so that thread stays until the program has ended.
func tied(cmd *exec.Cmd) (done chan error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	done = make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	return done, <-started
}

// await waits until the port takes connections.
func (r *Running) await(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	step := time.NewTicker(20 * time.Millisecond)
	defer step.Stop()
	for {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-r.done:
			r.done <- err
			return fmt.Errorf("it ended: %v", err)
		case <-ctx.Done():
			return errors.New("it does not listen")
		case <-step.C:
		}
	}
}

// PID answers its first process.
func (r *Running) PID() int { return r.cmd.Process.Pid }

// Aim turns a Config for Penstock into one for this peer.
func (r *Running) Aim(c *loadtest.Config) {
	c.URL, c.PID = r.Base, r.PID()
	if r.Peer.aim != nil {
		r.Peer.aim(c, r.Base)
	}
}

// Stop ends it and removes its files.
func (r *Running) Stop() {
	if r.end != nil {
		r.end()
	}
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(3 * time.Second):
		// All of them: one that it had started may live on and hold its output open, which
		// Wait waits for.
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		<-r.done
	}
	// What it had started and left behind.
	syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	os.RemoveAll(r.dir)
}

// Log answers what it has said so far.
func (r *Running) Log() string {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return strings.TrimSpace(r.log.text.String())
}

// words are what a program says while somebody may ask for them.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is the program's.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// onPath finds a program of the user's.
func onPath(name, how string) func(*Options) (string, error) {
	return func(*Options) (string, error) {
		p, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%s is not on PATH: %s", name, how)
		}
		return p, nil
	}
}

// build builds a program once.
func (o *Options) build(name string, command func(out string) *exec.Cmd) (string, error) {
	if o.built == nil {
		o.built = map[string]string{}
	}
	if p, ok := o.built[name]; ok {
		return p, nil
	}
	out := filepath.Join(o.Scratch, name)
	if b, err := command(out).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, strings.TrimSpace(string(b)))
	}
	o.built[name] = out
	return out, nil
}
