package servertest

// Programs that a server is put behind. The test's goroutine.

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program finds a program by its name, in /usr/sbin as well. Where it is not installed the test is
// skipped.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// RunProxy runs a program that is to listen on the unix socket dir/socket, waits until it does, and
// ends it with the test. Where the test fails, its output and the file dir/log are shown.
func RunProxy(t testing.TB, path, dir string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s said: %s%s", path, said.Bytes(), log)
		}
	})
	WaitUntil(t, path+" to listen", func() bool {
		select {
		case <-gone:
			t.Fatalf("%s has ended", path)
		default:
		}
		c, err := net.Dial("unix", filepath.Join(dir, "socket"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
