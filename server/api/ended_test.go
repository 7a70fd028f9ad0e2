package api

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"penstock/server/accept"
	"penstock/server/auth"
)

// What is published with close ends its topics, in each way to publish.
func TestPublishWithCloseEndsItsTopics(t *testing.T) {
	end := func(name string) string { return fmt.Sprintf("%s event: end\ndata: {\"topic\":%q}\n", name, name) }
	for _, c := range []struct {
		request string
		want    []string
	}{
		{withBody("POST /publish/a?close=true", "bye"), []string{"a data: bye\n", end("a")}},
		{withBody("POST /publish/a?close=false", "x"), []string{"a data: x\n"}},
		{withBody("POST /publish/a,b?close=true&event=done", ""), []string{"a event: done\ndata: \n", end("a"), "b event: done\ndata: \n", end("b")}},
		{withBody("POST /publish/a?close=true", ""), []string{end("a")}},
		{withBody("POST /publish", "topic=a&data=bye&close=true", form), []string{"a data: bye\n", end("a")}},
		{withBody("POST /publish", "topic=a&close=true", form), []string{end("a")}},
		{withBody("POST /publish/a", "{\"data\":1}\n{\"data\":2,\"close\":true}\n{\"topic\":\"b\",\"data\":3,\"close\":false}", ndjson), []string{"a data: 1\n", "a data: 2\n", end("a"), "b data: 3\n"}},
		{withBody("POST /publish", "{\"topic\":\"a\",\"close\":true}\n{\"topic\":\"a\",\"close\":true}", ndjson), []string{end("a")}},
	} {
		a := start(t)
		an := long(t, a, c.request)
		an.want(t, c.request, 200)
		if got := events(t, a); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: the ring has %q, want %q", c.request, got, c.want)
		}
	}
	// The id is the event's; where there is none, the end's.
	a := start(t)
	an := long(t, a, withBody("POST /publish/a?close=true", "bye"))
	an.want(t, "an event and its end", 200, `{"id":"`+idText(a.o.Sequencer.NewestID()-1)+`"}`)
	for range 2 {
		an = long(t, a, withBody("POST /publish/a?close=true", ""))
		an.want(t, "ended before", 200, `{"id":"`+idText(a.o.Sequencer.NewestID())+`"}`)
	}
}

// DELETE ends a topic that is known, for whoever may publish to it.
func TestDeleteEndsATopic(t *testing.T) {
	a := start(t)
	publishOne(t, a, "a", "x")
	for _, c := range []struct {
		path   string
		status int
		words  []string
	}{
		{"/topics/unknown", 404, []string{"topic \\\"unknown\\\" is not known"}},
		{"/topics/a%2Fb", 400, []string{"byte"}},
		{"/topics/", 400, []string{"empty"}},
		{"/topics/a.*", 400, []string{"wildcard"}},
		{"/topics/$x", 403, []string{"$"}},
		{"/topics/a?close=true", 400, []string{"close", "unknown"}},
		{"/topics/a", 204, nil},
		{"/topics/a", 204, nil}, // and nothing more
	} {
		an := long(t, a, raw("DELETE "+c.path))
		an.want(t, c.path, c.status, c.words...)
		if c.status == 204 && an.body != "" {
			t.Errorf("%s: a body: %q", c.path, an.body)
		}
	}
	if got, want := events(t, a), []string{"a data: x\n", "a event: end\ndata: {\"topic\":\"a\"}\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the ring has %q, want %q", got, want)
	}
	a.o.Sequencer.Drain()
	an := long(t, a, raw("DELETE /topics/a"))
	an.want(t, "while the server drains", 503, "drains")
}

// To end a topic takes the right to publish, wherever the path is seen.
func TestDeleteTakesTheRightToPublish(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := auth.New(auth.Options{TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	tokens := func(o *Options) { o.Policy = policy }
	adminAtHome := func(o *Options) { o.Loopback, o.AdminLoopback = []bool{false}, true }
	public := func(o *Options) { o.Loopback = []bool{false} }
	for what, c := range map[string]struct {
		change func(*Options)
		admin  bool
		host   string
		line   string
		status int
	}{
		"loopback":                      {func(*Options) {}, false, "localhost", "X: y", 204},
		"loopback, through a proxy":     {func(*Options) {}, false, "localhost", "Via: 1.1 x", 404},
		"loopback, no token":            {tokens, false, "localhost", "X: y", 401},
		"loopback, token":               {tokens, false, "localhost", "Authorization: Bearer s3cret", 204},
		"admin at home":                 {adminAtHome, true, "127.0.0.1:8081", "X: y", 204},
		"admin at home, by other name":  {adminAtHome, true, "evil.example:8081", "X: y", 403},
		"admin at home, through proxy":  {adminAtHome, true, "localhost:8081", "X-Forwarded-For: 1.2.3.4", 401},
		"admin at home, foreign origin": {adminAtHome, true, "localhost:8081", "Origin: https://evil.example", 403},
		"admin elsewhere":               {public, true, "localhost:8081", "X: y", 401},
		"admin elsewhere, token":        {func(o *Options) { public(o); tokens(o) }, true, "10.0.0.1:8081", "Authorization: Bearer s3cret", 204},
		"public":                        {public, false, "localhost", "X: y", 404},
	} {
		a := start(t, c.change)
		publishOne(t, a, "a", "x")
		door := a
		if c.admin {
			door = a.Admin()
		}
		an := long(t, door, "DELETE /topics/a HTTP/1.1\r\nHost: "+c.host+"\r\n"+c.line+"\r\n\r\n")
		an.want(t, what, c.status)
		if got := len(events(t, a)); got > 1 != (c.status == 204) {
			t.Errorf("%s: %d entries in the ring", what, got)
		}
	}
}

// 204 is the answer where all topics have ended and nothing is left to be sent; elsewhere there is
// a stream.
func TestNothingLeftToSendIsA204(t *testing.T) {
	a := start(t)
	publishOne(t, a, "a", "x")
	long(t, a, withBody("POST /publish/a?close=true", "last"))
	endA := a.o.Sequencer.NewestID()
	long(t, a, withBody("POST /publish/b?close=true", "last"))
	endB := a.o.Sequencer.NewestID()
	publishOne(t, a, "live", "x")
	newest := a.o.Sequencer.NewestID()
	for _, c := range []struct {
		query string
		over  bool
	}{
		{"topic=a", true},
		{"topic=a,b", true},
		{"topic=a&rewind=0", true},
		{"topic=a&rewind=live&snapshot=false&mode=latest", true},
		{"topic=a&rewind=1", false},
		{"topic=a&rewind=all", false},
		{"topic=a&rewind=1s", false},
		{"topic=a&snapshot=true", false},
		{"topic=a&lastEventId=" + idText(endA), true},
		{"topic=a&lastEventId=" + idText(endA-1), false},
		{"topic=a&lastEventId=" + idText(newest), true},
		{"topic=a&lastEventId=" + idText(newest+1), false}, // can't be: a gap
		{"topic=a&lastEventId=x", false},
		{"topic=a&lastEventId=0", false},
		{"topic=a&snapshot=true&rewind=all&lastEventId=" + idText(endA), true},
		{"topic=a,b&lastEventId=" + idText(endA), false},
		{"topic=a,b&lastEventId=" + idText(endB), true},
		{"topic=a,live&lastEventId=" + idText(newest), false},
		{"topic=a,unknown", false},
		{"topic=a,b.*", false},
		{"topic=a,*", false},
	} {
		an := get(t, a, raw("GET /events?"+c.query, "Accept: text/event-stream"))
		if over := an.sub == nil; over != c.over {
			t.Errorf("%s: %d %s, over: %v; want %v", c.query, an.status, an.body, over, c.over)
			continue
		}
		if !c.over {
			continue
		}
		if an.status != 204 || an.body != "" || an.header["Cache-Control"] != "no-store" {
			t.Errorf("%s: %d %q %v", c.query, an.status, an.body, an.header)
		}
		an = get(t, a, raw("HEAD /events?"+c.query))
		an.want(t, "HEAD "+c.query, 204)
		an = ask(t, a, withBody("POST /events", c.query, form))
		an.want(t, "POST "+c.query, 204)
		b := a.Busy(nil, head(t, raw("GET /events?"+c.query)), from, accept.FullConnections)
		an = parse(t, b, false)
		an.want(t, "busy "+c.query, 204)
	}
	if _, b, _ := a.Short(nil, head(t, raw("GET /events/a")), from); strings.Contains(string(b), "Content-") {
		t.Errorf("a 204 speaks of its content: %q", b)
	}
	a.Drain()
	an := get(t, a, raw("GET /events/a", "Accept: text/event-stream"))
	an.want(t, "while the server drains", 204)
	publishOne(t, a, "a", "begun again")
	an = get(t, a, raw("GET /events/a"))
	an.want(t, "begun again while the server drains", 503)
}
