package main

// NATS and nodes as processes of a trial, that can be ended and started again. The trial's goroutine.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A daemon is a process that a trial has started.
type daemon struct {
	name string
	args []string // the program first
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// up starts it (again, at the same port) and waits until ready says so.
func (d *daemon) up(ctx context.Context, ready func() error) error {
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	d.log.Reset()
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	d.done = make(chan error, 1)
	go func(c *exec.Cmd, done chan error) { done <- c.Wait() }(d.cmd, d.done)
	deadline := time.Now().Add(time.Minute)
	for ready() != nil {
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("%s ended: %v\n%s", d.name, err, d.log.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready within a minute", d.name)
		}
	}
	return nil
}

// down ends it in good order, and after a minute in any.
func (d *daemon) down() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	d.cmd = nil
}

// cpu is the processor time that it has used, in seconds.
func (d *daemon) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // USER_HZ
}

func (d *daemon) url() string { return fmt.Sprintf("http://127.0.0.1:%d", d.port) }

// freePorts are ports that are free now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// fleet is a trial's processes: NATS first where there is one, then the nodes.
type fleet struct {
	nats  *daemon // nil: each node is alone
	nodes []*daemon
}

// launch starts NATS and nodes. Whoever has a fleet sinks it.
func (s *session) launch(ctx context.Context, nodes int, withNATS bool) (f *fleet, err error) {
	f = &fleet{}
	defer func() {
		if err != nil {
			f.sink()
		}
	}()
	ports, err := freePorts(nodes + 1)
	if err != nil {
		return f, err
	}
	if withNATS {
		dir, err := os.MkdirTemp(s.peers.Scratch, "stream-")
		if err != nil {
			return f, err
		}
		f.nats = &daemon{name: "nats-server", port: ports[nodes],
			args: []string{filepath.Join(s.peers.Scratch, "nats-server"), "-a", "127.0.0.1", "-p", strconv.Itoa(ports[nodes]), "-js", "-sd", dir}}
		if err := f.nats.up(ctx, func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.nats.port))
			if err == nil {
				c.Close()
			}
			return err
		}); err != nil {
			return f, err
		}
	}
	for i := range nodes {
		d := &daemon{name: fmt.Sprintf("node %d", i+1), port: ports[i], args: []string{s.peers.Penstock, "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[i])}}
		if withNATS {
			d.args = append(d.args, "--nats", fmt.Sprintf("nats://127.0.0.1:%d", f.nats.port))
		}
		d.args = append(d.args, s.peers.Extra...)
		f.nodes = append(f.nodes, d)
		if err := d.up(ctx, d.ready); err != nil {
			return f, err
		}
	}
	return f, nil
}

// ready asks the node.
func (d *daemon) ready() error {
	resp, err := http.Get(d.url() + "/readyz")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// streams is how many streams the node has, 0 where it does not answer.
func (d *daemon) streams() int {
	var stats struct {
		Connections struct {
			Streams int `json:"streams"`
		} `json:"connections"`
	}
	resp, err := http.Get(d.url() + "/stats")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&stats) != nil {
		return 0
	}
	return stats.Connections.Streams
}

// sink ends all of it, nodes first.
func (f *fleet) sink() {
	var all sync.WaitGroup
	for _, d := range f.nodes {
		all.Go(d.down)
	}
	all.Wait()
	if f.nats != nil {
		f.nats.down()
	}
}
