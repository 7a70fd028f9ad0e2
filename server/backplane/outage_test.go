package backplane_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
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

	"github.com/nats-io/nats.go/jetstream"
)

// soon makes a node give up on NATS fast.
func soon(c *server.Config) { c.PublishTimeout = 200 * time.Millisecond }

// get asks a path and returns status, Retry-After and body.
func get(t testing.TB, url string) (status int, retry, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
}

// publishUntilTaken publishes until it is taken: what a publisher does on a 503.
func publishUntilTaken(t testing.TB, node *servertest.Server, topic, data string) (id uint64) {
	t.Helper()
	servertest.WaitUntil(t, "a publish that is taken", func() bool {
		var err error
		id, err = node.TryPublish(topic, data)
		return err == nil
	})
	return id
}

// While NATS is gone streams stay up and publishers hear it; when it is back all goes on at the
// right sequence: nothing twice, nothing missed.
func TestNATSRestart(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n), soon), servertest.Start(t, On(n), soon)
	alice, bob := a.Subscribe(t, "news"), b.Subscribe(t, "news")
	for i := range 10 {
		a.Publish(t, "news", strconv.Itoa(i))
	}
	n.stop()
	servertest.WaitUntil(t, "readyz to say so", func() bool { status, _, _ := get(t, a.URL+"/readyz"); return status == 503 })
	if _, _, body := get(t, a.URL+"/readyz"); !strings.Contains(body, "backplane lost") {
		t.Errorf("/readyz: %q", body)
	}
	resp, err := http.Post(a.URL+"/publish/news", "text/plain", strings.NewReader("lost"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "nothing was published") {
		t.Errorf("publish without NATS: %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), text)
	}
	n.start(t)
	servertest.WaitUntil(t, "readyz to be well", func() bool { status, _, _ := get(t, a.URL+"/readyz"); return status == 200 })
	publishUntilTaken(t, b, "news", "10")
	last := publishUntilTaken(t, a, "news", "11")
	for _, who := range []*servertest.Subscriber{alice, bob} {
		who.WaitID(t, last)
		if got := data(who.Events()); !slices.Equal(got, numbers(0, 11)) || len(who.Events()) != 12 {
			t.Errorf("%s got %v; want 0 to 11, once each", who, who.Events())
		}
	}
}

// A burst of far more than a node's ring holds, at the speed of NATS: the node reads it as fast as its
// shards do, and no subscriber that keeps up misses any of it. She has little of it, which her socket
// takes even while a busy machine lets her read nothing: what she lacks then, the node has lost.
func TestBurstLargerThanTheRing(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small)
	alice := node.Subscribe(t, "news")
	_, js := client(t, n)
	const events, hers = 5_000, 25
	filler := strings.Repeat("x", 500)
	for i := range events {
		subject := "penstock.noise"
		if i%hers == 0 {
			subject = "penstock.news"
		}
		if _, err := js.PublishAsync(subject, []byte(strconv.Itoa(i)+" "+filler)); err != nil {
			t.Fatal(err)
		}
		if i%1_000 != 999 {
			continue
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-time.After(patience):
			t.Fatal("the stream did not take the burst")
		}
	}
	for i := 0; i < events; i += hers {
		if e := alice.Next(t); !strings.HasPrefix(e.Data, strconv.Itoa(i)+" ") {
			t.Fatalf("event %d is %s %q", i, e.Type, e.Data)
		}
	}
}

// A publish that finds no NATS waits for it, as long as it may.
func TestPublishWaitsForNATS(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), func(c *server.Config) { c.PublishTimeout = patience })
	node.Publish(t, "news", "one")
	n.stop()
	servertest.WaitUntil(t, "readyz to say so", func() bool { status, _, _ := get(t, node.URL+"/readyz"); return status == 503 })
	done := make(chan error, 1)
	go func() {
		_, err := node.TryPublish("news", "two")
		done <- err
	}()
	n.start(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A leader that goes takes nothing with it that was acknowledged.
func TestLeaderChange(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	a, b := servertest.Start(t, On(cluster...)), servertest.Start(t, On(cluster...))
	alice, bob := a.Subscribe(t, "news"), b.Subscribe(t, "news")
	_, js := client(t, cluster[0])
	stream, err := js.Stream(bounded(t), "PENSTOCK")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config.Replicas; got != 3 {
		t.Fatalf("%d replicas; want 3", got)
	}
	leader := stream.CachedInfo().Cluster.Leader
	var taken []string
	for i := range 60 {
		if i == 20 {
			for _, n := range cluster {
				if n.options.ServerName == leader {
					n.stop()
				}
			}
		}
		text := strconv.Itoa(i)
		servertest.WaitUntil(t, "a publish that is taken", func() bool {
			_, err := a.TryPublish("news?key=k"+text, text)
			return err == nil
		})
		taken = append(taken, text)
	}
	for _, who := range []*servertest.Subscriber{alice, bob} {
		servertest.WaitUntil(t, "all events", func() bool { return len(who.Events()) >= len(taken) })
		if got := data(who.Events()); !slices.Equal(got, taken) {
			t.Errorf("%s got %v; want 0 to 59, once each", who, got)
		}
	}
}

// What the stream dropped before a node could read it is told by a gap, and the stream goes on.
func TestRetentionBeforeItWasReadIsAGap(t *testing.T) {
	n := startNATS(t)
	conn, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 })
	node := servertest.Start(t, On(n))
	alice := node.Subscribe(t, "news")
	node.Publish(t, "news", "seen")
	alice.WaitID(t, 1)
	// A node that is cut off: its connection ends, and before it is back the stream has moved on.
	n.stop()
	servertest.WaitUntil(t, "readyz to say so", func() bool { status, _, _ := get(t, node.URL+"/readyz"); return status == 503 })
	port := n.options.Port
	n.options.Port = -1 // elsewhere: the node does not find it
	n.start(t)
	moved, js2 := client(t, n)
	for i := range 20 {
		if _, err := js2.Publish(bounded(t), "penstock.news", []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	moved.Close()
	conn.Close()
	n.stop()
	n.options.Port = port
	n.start(t)
	gap := alice.NextGap(t)
	if gap.After != 1 || gap.Reason != "lag" || !slices.Contains(gap.Topics, "news") {
		t.Errorf("gap %+v; want one after 1 of news, for lag", gap)
	}
	alice.WaitID(t, 21)
	if got := data(alice.Events()); !slices.Equal(got, append([]string{"seen"}, numbers(15, 19)...)) {
		t.Errorf("got %v; want what the stream still had: 15 to 19", got)
	}
	// Who comes back with an older id is told as well.
	again := node.Subscribe(t, "news", servertest.After(3))
	if gap := again.NextGap(t); gap.After != 3 {
		t.Errorf("gap %+v; want one after 3", gap)
	}
}

// A stream deleted and made anew by Penstock goes on with greater ids, behind a gap.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	alice, bob := a.Subscribe(t, "news"), b.Subscribe(t, ">")
	first := a.Publish(t, "news", "before")
	alice.WaitID(t, first)
	bob.WaitID(t, first)
	_, js := client(t, n)
	if err := js.DeleteStream(bounded(t), "PENSTOCK"); err != nil {
		t.Fatal(err)
	}
	after := publishUntilTaken(t, a, "news", "after")
	if after <= first {
		t.Fatalf("the new stream's first id is %d, after %d", after, first)
	}
	for _, who := range []*servertest.Subscriber{alice, bob} {
		if gap := who.NextGap(t); gap.After < first {
			t.Errorf("%s: gap %+v; want one after %d", who, gap, first)
		}
		who.WaitID(t, after)
		if got := data(who.Events()); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("%s got %v", who, got)
		}
	}
	late := a.Subscribe(t, "news", servertest.After(first))
	late.NextGap(t)
	late.WaitID(t, after)
}

// Where the new stream's ids run backwards everybody is told by a gap, and goes on in the new ids.
func TestStreamThatRunsBackwards(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, nil)
	node := servertest.Start(t, On(n))
	alice := node.Subscribe(t, "news")
	packed := node.Subscribe(t, "news", servertest.WithHeader("Accept-Encoding", "gzip"))
	latest := node.Subscribe(t, "news", servertest.With("mode", "latest"), servertest.With("interval", "20ms"))
	all := []*servertest.Subscriber{alice, packed, latest, node.Subscribe(t, ">")}
	var last uint64
	for range 100 {
		last = node.Publish(t, "news", "old")
	}
	for _, who := range all {
		who.WaitID(t, last)
	}
	if err := js.DeleteStream(bounded(t), "PENSTOCK"); err != nil {
		t.Fatal(err)
	}
	makeStream(t, js, nil)
	publishUntilTaken(t, node, "news", "new 1")
	for _, who := range all {
		gap := who.NextGap(t)
		if gap.After != last || gap.Reason != "restart" {
			t.Errorf("%s: gap %+v; want one after %d, for a restart", who, gap, last)
		}
	}
	id := node.Publish(t, "news", "new 2")
	if id >= last {
		t.Fatalf("id %d in the new stream, after %d", id, last)
	}
	for _, who := range all {
		servertest.WaitUntil(t, "the new events", func() bool { return slices.Contains(data(who.Events()), "new 2") })
		if who.LastID() != strconv.FormatUint(id, 10) {
			t.Errorf("%s: last id %s; want %d", who, who.LastID(), id)
		}
	}
	stale := node.Subscribe(t, "news", servertest.After(last))
	if gap := stale.NextGap(t); gap.Reason != "unknown-id" {
		t.Errorf("gap %+v for an id of the old stream; want unknown-id", gap)
	}
	again := node.Subscribe(t, "news", servertest.After(id-1))
	if e := again.Next(t); e.Data != "new 2" {
		t.Errorf("%v; want the newest event of the new stream", e)
	}
}

// A batch that NATS stops in the middle says how many of its events are stored.
func TestBatchSaysHowManyAreStored(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 7, jetstream.DiscardNew })
	node := servertest.Start(t, On(n), soon)
	resp, err := http.Post(node.URL+"/publish/news", "application/x-ndjson", strings.NewReader(strings.Repeat(`{"data":"x"}`+"\n", 10)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || !strings.Contains(string(text), "7 events were published") {
		t.Errorf("%s: %s; want a 503 that says 7", resp.Status, text)
	}
}

// A server in the process keeps events, ids and keys over a restart.
func TestEmbeddedSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	embedded := func(c *server.Config) { c.NatsEmbedded = dir }
	first := servertest.Start(t, embedded)
	alice := first.Subscribe(t, "news")
	id := first.PublishLines(t, `{"topic":"news","data":"one","key":"k"}`, `{"topic":"news","data":"two"}`)
	alice.WaitID(t, id)
	alice.Cut()
	first.Server.Close()
	second := servertest.Start(t, embedded)
	again := second.Subscribe(t, "news", servertest.After(id-1))
	if e := again.Next(t); e.Data != "two" || e.ID != id {
		t.Errorf("%v; want the event two with its id %d", e, id)
	}
	if repeat := second.PublishLines(t, `{"topic":"news","data":"one","key":"k"}`); repeat != id-1 {
		t.Errorf("the same key after the restart: id %d; want %d", repeat, id-1)
	}
	if next := second.Publish(t, "news", "three"); next != id+1 {
		t.Errorf("id %d after the restart; want %d", next, id+1)
	}
	again.WaitID(t, id+1)
}

// What was acknowledged is there after the process was killed in the middle of publishing.
func TestEmbeddedSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), "PENSTOCK_TEST_EMBEDDED="+dir)
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	t.Cleanup(kill)
	address, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + strings.TrimSpace(address)
	var ids []string
	for i := 0; ; i++ {
		if i == 50 {
			go kill()
		}
		resp, err := http.Post(base+"/publish/news", "text/plain", strings.NewReader(strconv.Itoa(i)))
		if err != nil {
			break
		}
		var answer struct{ ID string }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil || answer.ID == "" {
			break
		}
		ids = append(ids, answer.ID)
	}
	if len(ids) < 50 {
		t.Fatalf("only %d events were taken", len(ids))
	}
	second := servertest.Start(t, func(c *server.Config) { c.NatsEmbedded = dir })
	again := second.Subscribe(t, "news", servertest.With("rewind", "all"))
	for i, id := range ids {
		if e := again.Next(t); e.Data != strconv.Itoa(i) || strconv.FormatUint(e.ID, 10) != id {
			t.Fatalf("event %d is %v; %s was acknowledged", i, e, id)
		}
	}
}

// A node without NATS says at its start what is missing.
func TestNoNATSAtStart(t *testing.T) {
	n := startNATS(t)
	c := servertest.Config()
	On(n)(&c)
	soon(&c)
	n.stop()
	_, err := server.New(c, nil)
	if err == nil || !strings.Contains(err.Error(), "--nats nats://127.0.0.1") {
		t.Errorf("error %v; want one that names --nats", err)
	}
	n.start(t)
}

// A stream that neither is there nor can be made: the error says what to run.
func TestNoStreamAndNoPrefix(t *testing.T) {
	n := startNATS(t)
	c := servertest.Config()
	On(n)(&c)
	c.NatsSubjectPrefix = "none"
	_, err := server.New(c, nil)
	if err == nil || !strings.Contains(err.Error(), "nats stream add PENSTOCK") {
		t.Errorf("error %v; want the command that makes the stream", err)
	}
}
