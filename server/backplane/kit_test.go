package backplane_test

// NATS servers and nodes of a test. The test's goroutine.

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("PENSTOCK_TEST_EMBEDDED"); dir != "" {
		serveUntilKilled(dir)
	}
	takeOver()
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// NATS's own, one for all servers of a process, which has no end.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

// serveUntilKilled is a node in a process of its own, with an embedded NATS server: it writes its address
// and lives until it is killed.
func serveUntilKilled(dir string) {
	c := servertest.Config()
	c.NatsEmbedded = dir
	s, err := server.New(c, nil)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.Addr())
	select {}
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A natsd is a NATS server that can be stopped and started again at its address.
type natsd struct {
	options *natsserver.Options
	server  *natsserver.Server
}

// startNATS starts a single NATS server with JetStream on the disk.
func startNATS(t testing.TB) *natsd {
	t.Helper()
	n := &natsd{options: natsOptions(t, "nats")}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

func natsOptions(t testing.TB, name string) *natsserver.Options {
	return &natsserver.Options{
		ServerName: name, Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), DisableJetStreamBanner: true,
	}
}

func (n *natsd) start(t testing.TB) {
	t.Helper()
	s, err := natsserver.NewServer(n.options)
	if err != nil {
		t.Fatal(err)
	}
	n.server = s
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS is not ready")
	}
	_, port, _ := net.SplitHostPort(s.Addr().String())
	n.options.Port, _ = strconv.Atoi(port) // the same when it comes back
}

func (n *natsd) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

func (n *natsd) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.options.Port) }

// startCluster starts three NATS servers that are one cluster.
func startCluster(t testing.TB) []*natsd {
	t.Helper()
	var all []*natsd
	var routes []string
	ports := freePorts(t, 3)
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		n := &natsd{options: natsOptions(t, fmt.Sprintf("nats-%d", i+1))}
		n.options.Cluster = natsserver.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
		n.options.Routes = natsserver.RoutesFromStr(routes[0] + "," + routes[1] + "," + routes[2])
		all = append(all, n)
		n.start(t)
		t.Cleanup(n.stop)
	}
	servertest.WaitUntil(t, "a leader of the cluster", func() bool {
		for _, n := range all {
			if n.server.JetStreamIsLeader() && len(n.server.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return all
}

// freePorts are ports that were free a moment ago: a cluster's servers must know each other's.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// On makes a node that stands on NATS servers.
func On(servers ...*natsd) servertest.Option {
	return func(c *server.Config) {
		for _, n := range servers {
			c.Nats = append(c.Nats, n.url())
		}
	}
}

// client is a plain NATS client.
func client(t testing.TB, n *natsd) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := nats.Connect(n.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// makeStream makes a stream as somebody else would.
func makeStream(t testing.TB, js jetstream.JetStream, change func(*jetstream.StreamConfig)) jetstream.Stream {
	t.Helper()
	config := jetstream.StreamConfig{Name: "PENSTOCK", Subjects: []string{"penstock.>"}, Storage: jetstream.FileStorage}
	if change != nil {
		change(&config)
	}
	s, err := js.CreateStream(bounded(t), config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// data are the data of the events but for gaps, in order.
func data(events []servertest.Event) (all []string) {
	for _, e := range events {
		if e.Type != "gap" {
			all = append(all, e.Data)
		}
	}
	return all
}

// numbers are the texts from one number to another.
func numbers(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}
