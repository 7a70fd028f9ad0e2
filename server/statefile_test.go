package server_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// kept reads the id in a state file.
func kept(t *testing.T, path string) uint64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Ids go on over restarts though the clock has jumped back: after one in order right behind the
// newest, after a crash behind what was reserved, which is never less than what was published.
func TestIDsNeverRunBackwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	with := func(c *server.Config) { c.StateFile = path }
	// An earlier life whose clock was an hour ahead of ours.
	ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
	if err := os.WriteFile(path, []byte(strconv.FormatUint(ahead, 10)), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := servertest.Start(t, with)
	last := ahead
	for range 100 {
		id := srv.Publish(t, "a", "x")
		if id <= last || id > last+10 {
			t.Fatalf("id %d after %d", id, last)
		}
		last = id
	}
	if reserved := kept(t, path); reserved <= last {
		t.Errorf("the file says %d, published was %d: a crash would give it again", reserved, last)
	}
	alice := srv.Subscribe(t, "a", servertest.After(last))
	id := srv.Publish(t, "a", "live")
	alice.WaitID(t, id)
	srv.Close()
	if newest := kept(t, path); newest != id {
		t.Errorf("after an end in order the file says %d, the newest was %d", newest, id)
	}

	srv = servertest.Start(t, with)
	next := srv.Publish(t, "a", "x")
	if next <= id || next > id+10 {
		t.Errorf("after a restart id %d, before it %d", next, id)
	}
	crash := kept(t, path) // what the disk would say if it stopped now
	srv.Close()
	if err := os.WriteFile(path, []byte(strconv.FormatUint(crash, 10)), 0o644); err != nil {
		t.Fatal(err)
	}
	srv = servertest.Start(t, with)
	if id := srv.Publish(t, "a", "x"); id <= next {
		t.Errorf("after a crash id %d, before it %d", id, next)
	}
	// Another process has the file now, and leaves its own.
	if err := os.WriteFile(path, []byte("99999999999999999"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	if newest := kept(t, path); newest != 99999999999999999 {
		t.Errorf("another process's file was overwritten: %d", newest)
	}
}

// A state file that can't be is told at the start.
func TestBadStateFileIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, c := range []struct{ path, text, want string }{
		{path, "soon", "no id"},
		{path, "-1", "no id"},
		{path, "", "no id"},
		{filepath.Join(path, "below"), "", "--state-file"},
	} {
		_ = os.WriteFile(c.path, []byte(c.text), 0o644)
		config := servertest.Config()
		config.StateFile = c.path
		srv, err := server.New(config, nil)
		if err == nil {
			srv.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %q: %v, want %q", c.path, c.text, err, c.want)
		}
	}
}
