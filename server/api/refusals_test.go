package api

// What is refused by a request's head alone, and how refusals are told and counted.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"penstock/server/accept"
	"penstock/server/auth"
)

// admitted asks about a head whose body is still to come.
func admitted(t *testing.T, a *API, request string, length int64) (an *answer, most int64) {
	t.Helper()
	b, most := a.Admit(nil, head(t, request), length, from)
	if b == nil {
		return nil, most
	}
	parsed := parse(t, b, false)
	return &parsed, most
}

// Token, origin, path, method, parameters and size are judged on the head: nobody who may not
// publish holds a place or memory for a body that may never come.
func TestHeadsAreJudgedBeforeTheirBodies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := auth.New(auth.Options{TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, func(o *Options) { o.Policy = policy })
	const token = "Authorization: Bearer secret"
	for _, c := range []struct {
		what, request string
		length        int64
		status        int
		text          string
	}{
		{"no token", raw("POST /publish/a"), 10, 401, "token"},
		{"a bad token", raw("POST /publish/a", token+"s"), 10, 401, "none of"},
		{"a foreign origin", raw("POST /publish/a", token, "Origin: https://evil.example"), 10, 403, "rigin"},
		{"no such path", raw("POST /nowhere", token), 10, 404, "no such path"},
		{"a method that it does not have", raw("QUERY /publish/a", token), 10, 405, "POST"},
		{"one of the server's topics", raw("POST /publish/$a", token), 10, 403, "own"},
		{"a topic that can't be", raw("POST /publish/a..b", token), 10, 400, "empty token"},
		{"a parameter that can't be", raw("POST /publish/a?retry=x", token), 10, 400, "retry"},
		{"too large a batch", raw("POST /publish/a", token), 256<<10 + 1, 413, "at most 262144"},
		{"too large a list of topics", raw("POST /events", "Accept: text/event-stream"), 64<<10 + 1, 413, "at most 65536"},
		{"no event streams", raw("POST /events", "Accept: image/png"), 10, 406, "Accept"},
		{"a bad parameter of a stream", raw("QUERY /events?mode=x"), 10, 400, "mode"},
		{"a body where none belongs", raw("GET /topics"), 64<<10 + 1, 413, "at most 65536"},
	} {
		an, _ := admitted(t, a, c.request, c.length)
		if an == nil {
			t.Errorf("%s: let in", c.what)
			continue
		}
		an.want(t, c.what, c.status, c.text)
		if an.header["Connection"] != "close" {
			t.Errorf("%s: the connection is kept: %v", c.what, an.header)
		}
	}
	for _, c := range []struct {
		what, request string
		length, most  int64
	}{
		{"a publish", raw("POST /publish/a", token), 256 << 10, 256 << 10},
		{"a publish in chunks", raw("POST /publish", token), -1, 256 << 10},
		{"a list of topics", raw("POST /events"), 64 << 10, 64 << 10},
		{"a preflight", raw("OPTIONS /publish/a"), 3, uselessBody},
	} {
		if an, most := admitted(t, a, c.request, c.length); an != nil || most != c.most {
			t.Errorf("%s: %+v, at most %d bytes, want %d", c.what, an, most, c.most)
		}
	}

	a.Drain()
	an, _ := admitted(t, a, raw("POST /publish/a", token), 10)
	an.want(t, "a publish while the server drains", 503, "drains")
	b, _ := a.Admit(nil, head(t, raw("POST /events", "Accept: text/event-stream")), 10, from)
	if !strings.HasPrefix(string(b), "HTTP/1.1 200") || !strings.Contains(string(b), "\r\n\r\nretry: ") {
		t.Errorf("an EventSource got %q", b)
	}
	if n := a.refused[isDraining].Load(); n != 2 {
		t.Errorf("%d refusals counted, want 2", n)
	}
}

// Each thing that accept finds full has its status, its words and its count.
func TestEveryFullRoomSaysWhichItIs(t *testing.T) {
	a := start(t)
	names := make(map[string]bool)
	for why := range accept.Full(accept.Fulls) {
		full := &fulls[why]
		an := parse(t, a.Busy(nil, head(t, raw("POST /publish/a")), accept.From{}, why), false)
		status := 503
		if full.client {
			status = 429
		}
		an.want(t, full.text, status, full.text)
		if an.header["Retry-After"] == "" || a.refused[full.reason].Load() != 1 || names[reasonNames[full.reason]] {
			t.Errorf("%s: %v, counted %d", full.text, an.header, a.refused[full.reason].Load())
		}
		names[reasonNames[full.reason]] = true
	}
	for why := notRefused + 1; why < reasonCount; why++ {
		if reasonNames[why] == "" {
			t.Errorf("reason %d has no name", why)
		}
	}
}
