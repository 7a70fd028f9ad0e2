package api

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// Which origins --cors-origin takes, and which requests' origins each allows.
func TestOriginsAllowExactlyWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		allowed string
		yes     []string
		no      []string
	}{
		{"https://app.example.com", []string{"https://app.example.com"},
			[]string{"http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.example", "https://x.app.example.com", "https://app.example.com/", "null", ""}},
		{"HTTPS://App.Example.com:443", []string{"https://app.example.com"}, []string{"https://app.example.com:443", "https://app.example.com:80"}},
		{"http://localhost:3000", []string{"http://localhost:3000"}, []string{"http://localhost", "http://localhost:30001"}},
		{"http://[::1]:3000", []string{"http://[::1]:3000"}, []string{"http://[::1]"}},
		{"https://*.example.com", []string{"https://a.example.com", "https://a.b-c.example.com"},
			[]string{"https://example.com", "https://.example.com", "https://a..example.com", "https://aexample.com", "http://a.example.com", "https://a.example.com:8443", "https://evil.example/.example.com", "https://evil@a.example.com", "https://evil:1.example.com"}},
		{"https://*.example.com:8443", []string{"https://a.example.com:8443"}, []string{"https://a.example.com"}},
	} {
		o, err := parseOrigin(c.allowed)
		if err != nil {
			t.Errorf("%s: %v", c.allowed, err)
			continue
		}
		for _, s := range c.yes {
			if !o.matches([]byte(s)) {
				t.Errorf("%s does not allow %q", c.allowed, s)
			}
		}
		for _, s := range c.no {
			if o.matches([]byte(s)) {
				t.Errorf("%s allows %q", c.allowed, s)
			}
		}
	}
	for _, bad := range []string{"", "*", "null", "app.example.com", "ftp://a.b", "https://", "https://a.b/", "https://a.b/c", "https://*", "https://*.", "https://a.*.b", "https://*a.b", "https://a.b:", "https://a.b:x", "https://u@a.b", "https://a b", "https://[::1", "https://[::1]x", "https://:80"} {
		if o, err := parseOrigin(bad); err == nil || !strings.Contains(err.Error(), "--cors-origin") {
			t.Errorf("%q is taken as an origin: %+v, %v", bad, o, err)
		}
	}
}

// A foreign origin is refused whatever it asks for; the server's own and listed ones are not, and
// a listed one is named in every answer, errors included.
func TestOnlyListedOriginsAndTheServersOwnMayAsk(t *testing.T) {
	a := start(t, func(o *Options) { o.Origins = []string{"https://app.example.com", "https://*.example.org"} })
	requests := map[string]int{ // status for who may ask
		raw("GET /events/a?mode=x"): 400, raw("HEAD /events/a"): 200, raw("GET /nothing"): 404, raw("PUT /events"): 405, raw("GET /stats"): 200,
		raw("GET /healthz"): 200, raw("GET /"): 200, withBody("POST /publish/a", "x"): 200, withBody("POST /publish/a", "\xff"): 400,
		raw("OPTIONS /publish/a", "Access-Control-Request-Method: POST"): 204, raw("OPTIONS /events"): 204,
	}
	for request, status := range requests {
		for origin, may := range map[string]string{
			"https://app.example.com": "listed", "https://x.example.org": "listed",
			"http://localhost:8080": "own", "https://localhost:8080": "own", "http://LOCALHOST:8080": "own",
			"https://evil.example": "no", "null": "no", "http://localhost": "no", "http://localhost:9090": "no", "https://example.org": "no",
		} {
			line, rest, _ := strings.Cut(request, "\r\n")
			an := long(t, a, line+"\r\nOrigin: "+origin+"\r\n"+rest)
			if may == "no" {
				an.want(t, line+" from "+origin, 403)
				if an.header["Access-Control-Allow-Origin"] != "" {
					t.Errorf("%s from %s: allowed in the header", line, origin)
				}
				continue
			}
			an.want(t, line+" from "+origin, status)
			allow, vary := an.header["Access-Control-Allow-Origin"], an.header["Vary"]
			if may == "own" && allow != "" || may == "listed" && (allow != origin || an.header["Access-Control-Allow-Credentials"] != "true" ||
				!strings.Contains(vary, "Origin") || an.header["Access-Control-Expose-Headers"] != "Retry-After") {
				t.Errorf("%s from %s: %v", line, origin, an.header)
			}
		}
	}
}

// The default ports are the same as none.
func TestOwnOriginIsTheHostWithoutDefaultPort(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		own          bool
	}{
		{"http://example.com", "example.com:80", true}, {"http://example.com", "example.com", true}, {"https://example.com", "example.com:443", true},
		{"https://example.com", "example.com:80", false}, {"http://example.com", "example.com:443", false}, {"http://example.com:8080", "example.com:8080", true},
		{"http://example.com", "", false}, {"null", "null", false}, {"http://", "", false},
	} {
		if own := sameHost([]byte(c.origin), []byte(c.host)); own != c.own {
			t.Errorf("origin %s on host %s: own %v", c.origin, c.host, own)
		}
	}
}

// A preflight tells what may be asked.
func TestPreflightSaysWhatMayBeAsked(t *testing.T) {
	a := start(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	an := long(t, a, raw("OPTIONS /publish/a", "Origin: https://app.example.com", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"))
	an.want(t, "preflight", fasthttp.StatusNoContent)
	for k, v := range map[string]string{
		"Access-Control-Allow-Origin":      "https://app.example.com",
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Methods":     "POST, OPTIONS",
		"Access-Control-Allow-Headers":     "Authorization, Content-Type, Last-Event-ID, Cache-Control, Idempotency-Key",
		"Access-Control-Max-Age":           "7200",
	} {
		if an.header[k] != v {
			t.Errorf("%s: %q, want %q", k, an.header[k], v)
		}
	}
	if an.body != "" {
		t.Errorf("a body: %q", an.body)
	}
	for path, methods := range map[string]string{"/events": "GET, HEAD, POST, QUERY, OPTIONS", "/events/a": "GET, HEAD, POST, QUERY, OPTIONS", "/topics/a": "GET, HEAD, DELETE, OPTIONS"} {
		an = long(t, a, raw("OPTIONS "+path, "Origin: https://app.example.com", "Access-Control-Request-Method: QUERY"))
		if got := an.header["Access-Control-Allow-Methods"]; an.status != 204 || got != methods {
			t.Errorf("%s: %d, methods %q, want %q", path, an.status, got, methods)
		}
	}
	an = long(t, a, raw("OPTIONS *"))
	if an.status != 204 || an.header["Allow"] != "GET, HEAD, POST, QUERY, DELETE, OPTIONS" {
		t.Errorf("OPTIONS *: %d %v", an.status, an.header)
	}
	an = long(t, a, raw("GET *"))
	an.want(t, "GET *", 400, "path")
	an = long(t, a, raw("OPTIONS /events"))
	if an.status != 204 || an.header["Allow"] != "GET, HEAD, POST, QUERY, OPTIONS" || an.header["Access-Control-Allow-Methods"] != "" {
		t.Errorf("OPTIONS without a preflight: %d %v", an.status, an.header)
	}
}
