package server_test

// Strangers in numbers: what they may take, and that they give it back.

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"
)

// Clients without a token who announce large bodies and send nothing hold neither places nor memory:
// each is told so at once, and publishers never notice.
func TestStrangersBodiesHoldNothing(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := servertest.Start(t, func(c *server.Config) {
		c.PublishTokenFile, c.MaxRequests, c.BodyMemory = tokens, 8, c.MaxBatchSize
	})
	began := time.Now()
	for i := range 200 {
		length := fmt.Sprintf("Content-Length: %d", 16<<20)
		if i%2 == 1 {
			length = "Transfer-Encoding: chunked"
		}
		stranger := dialTo(t, srv).send(head("POST /publish/news HTTP/1.1", length))
		if resp, body := stranger.answer(); resp.StatusCode != 401 {
			t.Fatalf("stranger %d: %s %s", i, resp.Status, body)
		}
		if i%20 == 0 {
			large := strings.Repeat("x", 500<<10)
			w := dialTo(t, srv).send(post("/publish/news", large, "Authorization: Bearer secret"))
			if resp, body := w.answer(); resp.StatusCode != 200 {
				t.Fatalf("a publisher beside %d strangers: %s %s", i+1, resp.Status, body)
			}
		}
	}
	t.Logf("200 strangers were told within %s", time.Since(began))
}

// Streams of random topic names, as many as they may name, cost bounded memory each, take no place
// from published topics, and leave nothing behind.
func TestRandomTopicNamesLeaveNothing(t *testing.T) {
	const streams, names = 100, 200
	srv := servertest.Start(t, servertest.Shards(1), func(c *server.Config) { c.MaxTopics, c.MaxTopicsPerSubscriber = 10, names })
	srv.Publish(t, "news", "x")
	warm := dialTo(t, srv).send(head("GET /events/warm HTTP/1.1"))
	warm.begin(false)
	before := alive(srv)
	var first int64
	for round := range 4 {
		var all []*wire
		for range streams {
			list := make([]string, names)
			for i := range list {
				list[i] = fmt.Sprintf("%016x.%016x", rand.Uint64(), rand.Uint64())
			}
			w := dialTo(t, srv).send(post("/events", "topic="+strings.Join(list, ","), "Content-Type: application/x-www-form-urlencoded"))
			w.begin(false)
			all = append(all, w)
		}
		servertest.WaitUntil(t, "all streams", func() bool { return stats(t, srv).Connections.Streams == streams+1 })
		each := (alive(srv) - before) / (streams * names)
		for i := range 10 { // published topics have their places all the same
			if _, err := srv.TryPublish(fmt.Sprintf("other%d", i%9), "x"); err != nil {
				t.Error(err)
			}
		}
		for _, w := range all {
			w.reset()
		}
		servertest.WaitUntil(t, "the streams to end", func() bool { return stats(t, srv).Connections.Streams == 1 })
		servertest.WaitUntil(t, "the names to be forgotten", func() bool { return srv.Topics() < 20 })
		left := alive(srv) - before
		t.Logf("%d names cost %d bytes each; %d KiB are left", streams*names, each, left>>10)
		if each > 1024 {
			t.Errorf("a name that nobody publishes costs %d bytes", each)
		}
		if round == 0 {
			first = left // tables keep the room that they had at most
		} else if left > first+first/2+512<<10 {
			t.Errorf("%d bytes are left after round %d, %d after the first", left, round+1, first)
		}
	}
}

// Each test that docs/security.md names is there.
func TestSecurityPageNamesTestsThatAreThere(t *testing.T) {
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]string{}
	named := regexp.MustCompile("`([a-z]+)\\.((?:Test|Fuzz)[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	for _, n := range named {
		room, name := n[1], n[2]
		if rooms[room] == "" {
			pattern := room + "/*_test.go"
			if room == "server" {
				pattern = "*_test.go"
			}
			files, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				rooms[room] += string(text)
			}
		}
		if !strings.Contains(rooms[room], "\nfunc "+name+"(") {
			t.Errorf("docs/security.md names %s.%s, which is not there", room, name)
		}
	}
	if len(named) < 30 {
		t.Errorf("%d tests are named", len(named))
	}
}
