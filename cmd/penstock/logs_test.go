package main

// A server whose log can't be written goes on.

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The disk is full, or who read the log is gone: streams are served, publishing works, and SIGTERM
// still drains, with exit code 0.
func TestServerGoesOnWithoutItsLog(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *os.File{
		"disk full": func(t *testing.T) *os.File {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip(err)
			}
			return f
		},
		"broken pipe": func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := open(t)
			defer out.Close()
			path := filepath.Join(t.TempDir(), "s")
			cmd := exec.Command(os.Args[0], "serve", "--listen", "unix:"+path, "--insecure-publish", "--log-level", "debug", "--drain-time", "0s")
			cmd.Env = append(os.Environ(), beCommand+"=1")
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer func() { _ = cmd.Process.Kill() }()
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}}}
			defer client.CloseIdleConnections()
			poll(t, "the server to be ready", func() bool {
				select {
				case err := <-ended:
					t.Fatalf("serve ended: %v", err)
				default:
				}
				a, err := client.Get("http://localhost/healthz")
				if err == nil {
					a.Body.Close()
				}
				return err == nil && a.StatusCode == 200
			})
			stream, err := client.Get("http://localhost/events/a")
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			a, err := client.Post("http://localhost/publish/a", "text/plain", strings.NewReader("still here"))
			if err != nil {
				t.Fatal(err)
			}
			a.Body.Close()
			text := ""
			for buf := make([]byte, 4096); !strings.Contains(text, "data: still here\n"); {
				n, err := stream.Body.Read(buf)
				if text += string(buf[:n]); err != nil && err != io.EOF || n == 0 {
					t.Fatalf("read %q, %v", text, err)
				}
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			stream.Body.Close()
			if err := <-ended; err != nil {
				t.Errorf("serve: %v, want exit code 0", err)
			}
		})
	}
}
