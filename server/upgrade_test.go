package server_test

// Upgrades: another process takes over and nobody notices; or it can't, and nobody notices either.

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
	"penstock/server/tuning"
)

// successor is the program that takes over, or fails at a stage; env are variables to add.
func successor(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), server.NextStage+"="+stage)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// everywhere are subscribers of all kinds.
func everywhere(t *testing.T, srv *servertest.Server) (all []*servertest.Subscriber) {
	gzip := servertest.WithHeader("Accept-Encoding", "gzip")
	for range 4 {
		all = append(all,
			srv.Subscribe(t, "a"),
			srv.Subscribe(t, "a", gzip),
			srv.Subscribe(t, "*"),
			srv.Subscribe(t, "*", gzip, servertest.With("interval", "100ms")),
			srv.Subscribe(t, "a", servertest.With("interval", "100ms")),
		)
	}
	return all
}

// A publisher publishes to a until it is stopped, and keeps what was acknowledged.
type publisher struct {
	srv  *servertest.Server
	stop chan struct{}
	done sync.WaitGroup
	ids  []uint64
	errs []error
}

func publishOn(srv *servertest.Server) *publisher {
	p := &publisher{srv: srv, stop: make(chan struct{})}
	p.done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-p.stop:
				return
			default:
			}
			id, err := srv.TryPublish("a", strconv.Itoa(i))
			if err != nil {
				p.errs = append(p.errs, err)
				continue
			}
			p.ids = append(p.ids, id)
		}
	})
	return p
}

// end stops it and returns the ids of what was acknowledged.
func (p *publisher) end() []uint64 {
	close(p.stop)
	p.done.Wait()
	return p.ids
}

// haveAll judges that each subscriber has every acknowledged event, in order, and that its stream has
// not ended.
func haveAll(t *testing.T, all []*servertest.Subscriber, ids []uint64) {
	t.Helper()
	for _, who := range all {
		who.WaitID(t, ids[len(ids)-1])
		got := who.Events()
		at := 0
		for i, e := range got {
			if i > 0 && e.ID <= got[i-1].ID {
				t.Fatalf("%s: id %d after %d", who, e.ID, got[i-1].ID)
			}
			if at < len(ids) && e.ID == ids[at] {
				at++
			}
			if e.Type == "gap" {
				t.Errorf("%s: a gap: %s", who, e.Data)
			}
		}
		if at != len(ids) {
			t.Errorf("%s has %d events, and lacks %d of %d that were acknowledged", who, len(got), len(ids)-at, len(ids))
		}
	}
}

// apart has shards with descriptor tables of their own, be the limit of open files as it is; it tells
// --max-connections for whoever takes over from it.
func apart(t *testing.T) (connections int, option servertest.Option) {
	t.Helper()
	files, err := tuning.RaiseFiles()
	if err != nil || files.Soft > 1<<20 {
		t.Skipf("no limit of open files to go beyond: %+v, %v", files, err)
	}
	connections = int(files.Soft) + 100
	return connections, func(c *server.Config) { c.MaxConnections = connections }
}

// A process that can't take over is no harm: the old one goes on with every stream, its publishers
// see no error, and it says why. That is so with a descriptor table for all, and with one for each
// shard, on either side.
func TestFailedUpgradeIsNotNoticed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	connections, tables := apart(t)
	type trial struct{ stage, want string }
	often := []trial{
		{"goes with the sockets", "exit status 6"},
		{"goes amid the sockets", "exit status 6"},
		{"goes with everything", "exit status 7"},
		{"refuses everything", os.ErrInvalid.Error()},
		{"cannot listen", taken.Addr().String()},
	}
	full := trial{"a table is full", "in one table"}
	once := slices.Concat([]trial{
		{"goes at once", "exit status 3"},
		{"hangs at once", "--upgrade-timeout"},
		{"speaks another version", "version"},
		{"goes with the ring", "exit status 5"},
		{"hangs with the ring", "--upgrade-timeout"},
		{"hangs with everything", "--upgrade-timeout"},
		{"has wrong settings", "ring-size"},
		{"needs greater segments", "too small for frames"},
		{"has few descriptors", "room for 15 in one descriptor table"},
		{"has other nodes", "--nats"},
	}, often)
	for _, kind := range []struct {
		name     string
		old, new bool // with tables
		trials   []trial
	}{
		{"one-table", false, false, slices.Concat(once, []trial{full})},
		{"tables", true, true, slices.Concat(often, []trial{full, {"hangs amid the sockets", "--upgrade-timeout"}, {"tells no doors", "doors"}})},
		{"to-one-table", true, false, slices.Concat(often, []trial{full})},
		{"to-tables", false, true, slices.Concat(often, []trial{full})},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel() // most of the time is that of processes that hang
			none := func(*server.Config) {}
			option, env := servertest.Option(none), ""
			if kind.old {
				option = tables
			}
			if kind.new {
				env = server.NextConnections + "=" + strconv.Itoa(connections)
			}
			srv := servertest.Start(t, servertest.Shards(2), option, func(c *server.Config) { c.UpgradeTimeout = 20 * time.Second })
			all := append(everywhere(t, srv), everywhere(t, srv)...)
			impatient := servertest.Start(t, servertest.Shards(2), option, func(c *server.Config) { c.UpgradeTimeout = time.Second })
			others := everywhere(t, impatient)
			for _, tt := range kind.trials {
				t.Run(strings.ReplaceAll(tt.stage, " ", "-"), func(t *testing.T) {
					srv, all := srv, all
					if tt.want == "--upgrade-timeout" {
						srv, all = impatient, others
					}
					p := publishOn(srv)
					err := srv.Upgrade(t.Context(), successor(tt.stage, env, server.NextAddress+"="+taken.Addr().String()), func() { t.Error("it is told as done") })
					if err == nil || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("%v; want something with %q", err, tt.want)
					}
					ids := p.end()
					if len(p.errs) > 0 {
						t.Errorf("publishers see %d errors, the first: %v", len(p.errs), p.errs[0])
					}
					haveAll(t, all, append(ids, srv.Publish(t, "a", "after it")))
				})
			}
			// Who comes is served, and who goes is noticed.
			late := srv.Subscribe(t, "a")
			haveAll(t, append(all, late), []uint64{srv.Publish(t, "a", "last")})
			late.Cut()
			servertest.WaitUntil(t, "one has left", func() bool { return streams(srv) == len(all) })
		})
	}
}

// streams is how many the shards have.
func streams(srv *servertest.Server) (n int) {
	for _, st := range srv.ShardStats() {
		n += st.Streams
	}
	return n
}

// What is no program, and what is not waited for, is no harm either.
func TestUpgradeToNothing(t *testing.T) {
	srv := servertest.Start(t, servertest.Shards(2))
	all := everywhere(t, srv)
	if err := srv.Upgrade(t.Context(), exec.Command("/dev/null"), func() {}); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("%v; want the program's name", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if err := srv.Upgrade(ctx, successor("hangs at once"), func() {}); err == nil {
		t.Error("it has come about")
	}
	haveAll(t, all, []uint64{srv.Publish(t, "a", "last")})
}

// Streams for which there is no room are not sent: it is told before anything is frozen.
func TestUpgradeToTooFewDescriptorsIsRefused(t *testing.T) {
	srv := servertest.Start(t)
	var all []*servertest.Subscriber
	for range 20 {
		all = append(all, srv.Subscribe(t, "a"))
	}
	err := srv.Upgrade(t.Context(), successor("has few descriptors"), func() { t.Error("it is told as done") })
	if err == nil || !strings.Contains(err.Error(), "there are 20 streams, and it has room for 15 in one descriptor table: raise its limit of open files") {
		t.Error(err)
	}
	haveAll(t, all, []uint64{srv.Publish(t, "a", "last")})
}

// Another process takes over, with as many shards or others, with descriptor tables of theirs or
// without: every stream goes on, and so does whoever publishes.
func TestAnotherProcessTakesOver(t *testing.T) {
	connections, tables := apart(t)
	none := func(*server.Config) {}
	for _, tt := range []struct {
		name   string
		old    servertest.Option
		shards int
		tables bool
	}{
		{"the same", none, 2, false},
		{"more shards", none, 3, false},
		{"tables", tables, 2, true},
		{"tables to fewer", tables, 1, true},
		{"tables to more", tables, 5, true},
		{"tables to one for all", tables, 2, false},
		{"one for all to tables", none, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := servertest.Start(t, servertest.Shards(2), tt.old)
			first := srv.Publish(t, "a", "first")
			all := everywhere(t, srv)
			slow := srv.Subscribe(t, "a")
			slow.StopReading()
			p := publishOn(srv)
			env := []string{server.NextShards + "=" + strconv.Itoa(tt.shards)}
			if tt.tables {
				env = append(env, server.NextConnections+"="+strconv.Itoa(connections))
			}
			cmd := successor("succeeds", env...)
			told := false
			if err := srv.Upgrade(t.Context(), cmd, func() { told = true }); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill() // nobody waits for it but the server, which has ended
			}()
			if !told {
				t.Error("nobody is told")
			}
			ids := p.end()
			id := srv.Publish(t, "a", "by the new one")
			ids = append(ids, id)
			for _, err := range p.errs {
				// What was in hand at that moment is told to come back.
				if !strings.Contains(err.Error(), "503") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
					t.Errorf("a publisher sees: %v", err)
				}
			}
			if len(p.errs) > 5 {
				t.Errorf("a publisher sees %d errors, the last: %v", len(p.errs), p.errs[len(p.errs)-1])
			}
			haveAll(t, all, ids)
			resumed := srv.Subscribe(t, "a", servertest.After(first))
			resumed.WaitID(t, id)
			for _, e := range resumed.Events() {
				if e.Type == "gap" {
					t.Errorf("who resumes with an id from before gets a gap: %s", e.Data)
				}
			}
			if err := srv.Upgrade(t.Context(), successor("succeeds"), func() {}); err == nil {
				t.Error("it hands over twice")
			}
		})
	}
}

// While it drains there is nothing to hand over.
func TestUpgradeIsRefusedWhileDraining(t *testing.T) {
	srv := servertest.Start(t)
	srv.Drain()
	if err := srv.Upgrade(t.Context(), successor("succeeds"), func() {}); err == nil || !strings.Contains(err.Error(), "drains") {
		t.Errorf("%v, want that it drains", err)
	}
}

// Whoever does not wait for an upgrade any more, because the server is to end, is told that, and not
// that the other process was slow.
func TestUpgradeThatIsGivenUpSaysSo(t *testing.T) {
	connections, tables := apart(t)
	srv := servertest.Start(t, tables)
	all := everywhere(t, srv)
	for _, stage := range []string{"hangs at once", "hangs with the ring", "hangs amid the sockets", "hangs with everything"} {
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := srv.Upgrade(ctx, successor(stage, server.NextConnections+"="+strconv.Itoa(connections)), func() { t.Error("it is told as done") })
		stop()
		if err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("%s: %v", stage, err)
		}
		haveAll(t, all, []uint64{srv.Publish(t, "a", "after it")})
	}
}
