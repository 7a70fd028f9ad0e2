package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/topic"
)

var inside = []string{"/topics", "/topics/a", "/streams", "/stats", "/metrics"}

// What is inside is seen on the admin address, and on a loopback main address by this machine
// alone; elsewhere the paths are not there.
func TestInsideIsHiddenWhereItMayNotBeSeen(t *testing.T) {
	local := start(t)
	public := start(t, func(o *Options) { o.Loopback = []bool{false} })
	home := start(t, func(o *Options) { o.Loopback, o.AdminLoopback = []bool{false}, true })
	for _, a := range []*API{local, public, home} {
		publishOne(t, a, "a", "x")
	}
	for _, path := range inside {
		for what, c := range map[string]struct {
			a      *API
			host   string
			line   string
			status int
		}{
			"loopback":             {local, "localhost:8080", "X-A: b", 200},
			"loopback, other name": {local, "evil.example", "X-A: b", 404},
			"loopback, proxy":      {local, "localhost:8080", "Via: 1.1 x", 404},
			"public":               {public, "localhost:8080", "X-A: b", 404},
			"admin":                {public.Admin(), "10.0.0.1:8081", "Via: 1.1 x", 200},
			"admin of loopback":    {local.Admin(), "localhost:8081", "X-A: b", 200},
			"admin at home":        {home.Admin(), "[::1]:9999", "Via: 1.1 x", 200},
			"rebound to it":        {home.Admin(), "evil.example:8081", "X-A: b", 403},
			"rebound, same origin": {home.Admin(), "evil.example:8081", "Origin: http://evil.example:8081", 403},
		} {
			an := long(t, c.a, "GET "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\n"+c.line+"\r\n\r\n")
			an.want(t, path+" "+what, c.status)
			if c.status == 404 {
				long(t, c.a, "OPTIONS "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\n"+c.line+"\r\n\r\n")
			}
		}
	}
	for _, path := range []string{"/events/a", "/publish/a"} {
		an := long(t, local.Admin(), raw("GET "+path))
		an.want(t, path+" on the admin address", 404)
	}
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		for _, a := range []*API{local, public, public.Admin(), home.Admin()} {
			an := long(t, a, "GET "+path+" HTTP/1.1\r\nHost: evil.example\r\n\r\n")
			an.want(t, path, 200)
		}
	}
}

// The server's own topics are seen where what is inside may be seen, and nowhere else.
func TestOwnTopicsAreSeenOnlyByThisMachine(t *testing.T) {
	local := start(t)
	if an, _ := short(t, local, raw("GET /events/a,$penstock.stats")); an.sub == nil {
		t.Errorf("on loopback: %d %s", an.status, an.body)
	}
	an := get(t, local, raw("GET /events/a,$penstock.stats", "X-Forwarded-For: 1.2.3.4"))
	an.want(t, "through a proxy", 403, "$penstock.stats", "loopback")
	an = get(t, start(t, func(o *Options) { o.Loopback = []bool{false} }), raw("GET /events/$x"))
	an.want(t, "on a public address", 403, "$x")
}

// The list of topics has every topic once, by name, in pages.
func TestTopicsAreListedInPages(t *testing.T) {
	a := start(t)
	for i := range 25 {
		publishOne(t, a, fmt.Sprintf("t.%02d", i), "x")
	}
	id := publishOne(t, a, "a", "hello")
	publishOne(t, a, "zz", "x")
	tp := a.o.Sequencer.Table().Acquire("empty", 0)
	defer a.o.Sequencer.Table().Release(tp, 0)

	type page struct{ Topics []topicJSON }
	list := func(query string) (names []string, p page) {
		an := long(t, a, raw("GET /topics"+query))
		an.want(t, query, 200)
		if err := json.Unmarshal([]byte(an.body), &p); err != nil {
			t.Fatal(err)
		}
		for _, one := range p.Topics {
			names = append(names, one.Topic)
		}
		return names, p
	}
	all, p := list("")
	if len(all) != 28 || !slices.IsSorted(all) {
		t.Errorf("%q", all)
	}
	if one := p.Topics[0]; one.Topic != "a" || one.Events != 1 || *one.LastID != idText(id) || one.Subscribers != 0 || one.Bytes == 0 {
		t.Errorf("%+v", one)
	}
	if when, err := time.Parse(time.RFC3339, *p.Topics[0].LastTime); err != nil || time.Since(when) > time.Minute {
		t.Errorf("lastTime %s: %v", *p.Topics[0].LastTime, err)
	}
	if one := p.Topics[1]; one.Topic != "empty" || one.LastID != nil || one.LastTime != nil || one.Subscribers != 1 {
		t.Errorf("%+v", one)
	}
	var walked []string
	after := ""
	for {
		names, _ := list("?prefix=t.&limit=7&after=" + after)
		if len(names) == 0 {
			break
		}
		walked = append(walked, names...)
		after = names[len(names)-1]
	}
	if len(walked) != 25 || walked[0] != "t.00" || walked[24] != "t.24" {
		t.Errorf("in pages: %q", walked)
	}
	an := long(t, a, raw("GET /topics?prefix=none"))
	if an.body != "{\"topics\":[]}\n" {
		t.Errorf("none: %q", an.body)
	}
	an = long(t, a, raw("GET /topics/t.03"))
	an.want(t, "one", 200, `"topic":"t.03"`, `"events":1`)
	for request, c := range map[string]struct {
		status int
		word   string
	}{
		"/topics?limit=0": {400, "limit"}, "/topics?limit=1001": {400, "limit"}, "/topics?limit=x": {400, "limit"},
		"/topics?limit=1&limit=1": {400, "twice"}, "/topics?x=1": {400, "unknown"}, "/topics?prefix=%": {400, "escape"},
		"/topics/unknown": {404, "unknown"}, "/topics/a?x=1": {400, "unknown"}, "/topics/": {400, "empty"}, "/topics/a%": {400, "escape"},
		"/streams?x=1": {400, "unknown"}, "/stats?x=1": {400, "unknown"}, "/metrics?x=%": {400, "escape"},
	} {
		an := long(t, a, raw("GET "+request))
		an.want(t, request, c.status, c.word)
	}
}

// The figures say what was published, and rates are taken between two looks.
func TestStatsCountWhatHappens(t *testing.T) {
	a := start(t, func(o *Options) { o.Accepted = func() accept.Stats { return accept.Stats{Open: 3} } })
	a.rates.before.at = a.rates.before.at.Add(-10 * time.Second)
	a.rates.last.at = a.rates.before.at
	for range 20 {
		publishOne(t, a, "a", "x")
	}
	an := long(t, a, raw("GET /stats"))
	var s statsJSON
	if err := json.Unmarshal([]byte(an.body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Publish.Events != 20 || s.Publish.PerSecond < 1.5 || s.Publish.PerSecond > 2 || s.Connections.Requests != 3 || s.Topics.Count != 1 ||
		s.Ring.Head == 0 || s.Ring.Bytes == 0 || s.Version != "v1.2.3" || len(s.Shards) != 1 || s.Topics.Busiest[0].Topic != "a" || s.Topics.Busiest[0].Events != 20 {
		t.Errorf("%s", an.body)
	}
	an = long(t, a, raw("GET /streams"))
	if an.body != "{\"streams\":[]}\n" {
		t.Errorf("streams: %s", an.body)
	}
}

// The server's own topic carries the figures while somebody subscribes to it, and only then.
func TestStatsTopicIsFedWhileItHasSubscribers(t *testing.T) {
	a := start(t)
	a.publishStats()
	if got := events(t, a); len(got) != 0 {
		t.Errorf("published without a subscriber: %q", got)
	}
	table := a.o.Sequencer.Table()
	tp := table.Acquire(statsTopic, 0)
	a.publishStats()
	got := events(t, a)
	if len(got) != 1 || !strings.HasPrefix(got[0], "$penstock.stats event: stats\ndata: {") {
		t.Fatalf("%q", got)
	}
	var s statsJSON
	data := strings.TrimPrefix(got[0], "$penstock.stats event: stats\ndata: ")
	if err := json.Unmarshal([]byte(data), &s); err != nil || s.Topics.Count != 1 {
		t.Errorf("%s: %v", data, err)
	}
	table.Release(tp, 0)
	a.publishStats()
	if n := a.o.Sequencer.Stats().Events; n != 1 {
		t.Errorf("%d events after the last subscriber left", n)
	}
}

// The busiest topics come first.
func TestBusiestTopicsComeFirst(t *testing.T) {
	a := start(t)
	for i := range 30 {
		for range i + 1 {
			publishOne(t, a, fmt.Sprintf("t%02d", i), "x")
		}
	}
	list := a.busy.list(a.house)
	if len(list) != mostBusy || list[0].Topic != "t29" {
		t.Errorf("by count: %+v", list[:3])
	}
	for range 5 {
		publishOne(t, a, "t03", "x")
	}
	a.busy.seen = a.busy.seen.Add(-5 * time.Second)
	list = a.busy.list(a.house)
	if list[0].Topic != "t03" || list[0].PerSecond < 0.9 || list[0].PerSecond > 1 {
		t.Errorf("by rate: %+v", list[:3])
	}
}

// Health speaks text; a server that drains lives, but is not ready.
func TestHealthSpeaksText(t *testing.T) {
	a := start(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		an := long(t, a, raw("GET "+path))
		if an.status != 200 || an.body != "ok\n" || an.header["Content-Type"] != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q %v", path, an.status, an.body, an.header)
		}
	}
	a.Drain()
	an := long(t, a, raw("GET /healthz"))
	an.want(t, "/healthz", 200)
	an = long(t, a.Admin(), raw("GET /readyz"))
	if an.status != 503 || an.body != "draining\n" || an.header["Content-Type"] != "text/plain; charset=utf-8" || an.header["Retry-After"] == "" {
		t.Errorf("/readyz while draining: %d %q %v", an.status, an.body, an.header)
	}
}

// The page works under its own policy: each of its scripts and styles is named by its hash, and
// there is nothing in it that a hash can't name.
func TestPageWorksUnderItsPolicy(t *testing.T) {
	a := start(t)
	an := long(t, a, raw("GET /"))
	if an.status != 200 || an.header["Content-Type"] != "text/html; charset=utf-8" || an.body != string(pageHTML) {
		t.Fatalf("%d %v", an.status, an.header)
	}
	policy := an.header["Content-Security-Policy"]
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	for _, m := range inline.FindAllStringSubmatch(an.body, -1) {
		sum := sha256.Sum256([]byte(m[2]))
		if !strings.Contains(policy, base64.StdEncoding.EncodeToString(sum[:])) {
			t.Errorf("the policy does not name a %s", m[1])
		}
	}
	for what, bad := range map[string]string{
		"a style attribute": `<[a-z][^>]*\sstyle\s*=`, "a handler attribute": `<[a-z][^>]*\son[a-z]+\s*=`, "something from elsewhere": `<(?:script|link|img|iframe)[^>]*\s(?:src|href)\s*=\s*["']?(?:https?:)?//`,
	} {
		html := inline.ReplaceAllString(an.body, "")
		if m := regexp.MustCompile(`(?i)` + bad).FindString(html); m != "" {
			t.Errorf("%s in the page, which the policy forbids: %.80s", what, m)
		}
	}
	for tag, status := range map[string]int{an.header["Etag"]: 304, `"x", W/` + an.header["Etag"]: 304, "*": 304, `"x"`: 200} {
		again := long(t, a, raw("GET /", "If-None-Match: "+tag))
		if again.status != status || (again.body == "") != (status == 304) {
			t.Errorf("If-None-Match: %s: %d with %d bytes", tag, again.status, len(again.body))
		}
	}
}

// withTraffic is an API that has something to show.
func withTraffic(t *testing.T) *API {
	a := start(t, func(o *Options) {
		o.Accepted = func() accept.Stats { return accept.Stats{Accepted: 2, Short: 1, Long: 1} }
	})
	publishOne(t, a, "a", "x")
	long(t, a, raw("GET /nothing"))
	if _, err := a.o.Sequencer.PublishOwn(&topic.Publication{Topic: statsTopic, Event: encode.Event{}}); err != nil {
		t.Fatal(err)
	}
	return a
}

// docs/metrics.md has each metric that there is, with its kind and what it says, and no other.
func TestMetricsAreThoseOfTheDocs(t *testing.T) {
	an := long(t, withTraffic(t), raw("GET /metrics"))
	an.want(t, "/metrics", 200, "penstock_published_events_total 2\n", `penstock_responses_total{status="404"} 1`, `penstock_handshakes_total{outcome="short_answer"} 1`,
		`penstock_gaps_total{reason="unknown-id"} 0`, `penstock_pass_seconds_bucket{le="+Inf"}`, `penstock_build_info{version="v1.2.3",goversion="go`)
	help, kind := map[string]string{}, map[string]string{}
	for line := range strings.Lines(an.body) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			help[fields[2]] = fields[3]
		case strings.HasPrefix(line, "# TYPE "):
			kind[fields[2]] = fields[3]
		}
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)(?:\\{[^`]*\\})?` \\| ([a-z]+) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		name := m[1]
		documented[name] = true
		if kind[name] != m[2] || help[name] != m[3] {
			t.Errorf("docs/metrics.md says of %s: %s, %q; /metrics says: %s, %q", name, m[2], m[3], kind[name], help[name])
		}
	}
	for name := range kind {
		if !documented[name] {
			t.Errorf("docs/metrics.md lacks | `%s` | %s | %s |", name, kind[name], help[name])
		}
	}
	for name := range documented {
		if kind[name] == "" {
			t.Errorf("/metrics lacks %s", name)
		}
	}
}

// A histogram's buckets are cumulated and end with all.
func TestHistogramsAreWhatPrometheusReads(t *testing.T) {
	a := start(t)
	an := long(t, a, raw("GET /metrics"))
	for _, name := range []string{"penstock_publish_to_send_seconds", "penstock_pass_seconds", "penstock_batch_bytes"} {
		buckets := regexp.MustCompile(`(?m)^`+name+`_bucket\{le="([^"]+)"\} (\d+)$`).FindAllStringSubmatch(an.body, -1)
		count := regexp.MustCompile(`(?m)^` + name + `_count (\d+)$`).FindStringSubmatch(an.body)
		if len(buckets) < 5 || count == nil || buckets[len(buckets)-1][1] != "+Inf" || buckets[len(buckets)-1][2] != count[1] {
			t.Errorf("%s: %d buckets, count %v", name, len(buckets), count)
		}
	}
}

// Prometheus' own linter has nothing to say.
func TestPromtoolIsContent(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool (Debian: apt-get install prometheus)")
	}
	an := long(t, withTraffic(t), raw("GET /metrics"))
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(an.body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
