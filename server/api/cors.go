package api

// Cross-origin requests (WHATWG Fetch, section 3.2 "CORS protocol"): which origins may, and what
// they are told. Any goroutine; on the short way the accept thread.

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"
)

// An origin is one that --cors-origin allows.
type origin struct {
	scheme string // with its ://
	host   string // with the port, if any; with any, what follows the star
	any    bool   // one or more labels stand before host
}

// CheckOrigin tells what is wrong with an origin that --cors-origin names. Any goroutine.
func CheckOrigin(text string) error {
	_, err := parseOrigin(text)
	return err
}

// parseOrigin reads an origin as --cors-origin takes it.
func parseOrigin(text string) (origin, error) {
	bad := func(what string) (origin, error) {
		return origin{}, fmt.Errorf("origin %q: %s; --cors-origin takes https://app.example.com, with a port where it is not the scheme's own, or https://*.example.com for one or more labels", text, what)
	}
	lower := strings.ToLower(text)
	i := strings.Index(lower, "://")
	if i < 0 {
		return bad("no scheme")
	}
	o := origin{scheme: lower[:i+3], host: lower[i+3:]}
	if o.scheme != "http://" && o.scheme != "https://" {
		return bad("the scheme is http or https")
	}
	if strings.HasPrefix(o.host, "*.") {
		o.any, o.host = true, o.host[1:]
	}
	name, port, hasPort := strings.Cut(o.host, ":")
	if strings.HasPrefix(o.host, "[") {
		end := strings.IndexByte(o.host, ']')
		if end < 0 {
			return bad("an address without its closing bracket")
		}
		name = o.host[:end+1]
		port, hasPort = strings.CutPrefix(o.host[end+1:], ":")
		if !hasPort && port != "" {
			return bad("something behind the bracket")
		}
	}
	switch {
	case strings.Trim(name, ".") == "":
		return bad("no host")
	case strings.ContainsAny(o.host, "/?#@*, \t"):
		return bad("an origin ends with host and port, and a star stands only for its first labels")
	case hasPort && (port == "" || strings.Trim(port, "0123456789") != ""):
		return bad("the port is a number")
	case port == defaultPort(o.scheme):
		// Browsers leave it out.
		o.host = strings.TrimSuffix(o.host, ":"+port)
	}
	return o, nil
}

// defaultPort is the port that an origin of this scheme does not name.
func defaultPort(scheme string) string {
	switch scheme {
	case "http://":
		return "80"
	case "https://":
		return "443"
	}
	return "none"
}

// matches tells whether a request's origin is this one. Browsers write an origin in lower case.
func (o *origin) matches(text []byte) bool {
	host, ok := bytes.CutPrefix(text, []byte(o.scheme))
	if !ok {
		return false
	}
	if !o.any {
		return string(host) == o.host
	}
	labels, ok := bytes.CutSuffix(host, []byte(o.host))
	return ok && labelsOnly(labels)
}

// labelsOnly tells whether b is one label or more, and nothing that could be read as something
// else than a host's beginning.
func labelsOnly(b []byte) bool {
	dot := true // an empty label is none
	for _, c := range b {
		switch {
		case c == '.':
			if dot {
				return false
			}
			dot = true
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			dot = false
		default:
			return false
		}
	}
	return !dot
}

// sameHost tells whether an origin is the server's own: its host equals the request's, each
// without its scheme's default port. The scheme is not compared, for TLS may end in front of the
// server.
func sameHost(origin, host []byte) bool {
	scheme, rest, ok := bytes.Cut(origin, schemeEnd)
	if !ok || len(rest) == 0 {
		return false
	}
	port := []byte(":80")
	if foldEqual(scheme, "https") {
		port = []byte(":443")
	}
	return bytes.EqualFold(bytes.TrimSuffix(rest, port), bytes.TrimSuffix(host, port))
}

// judgeOrigin refuses a request from a page of an origin that is neither the server's own nor
// allowed, whatever it asks for.
func (a *API) judgeOrigin(r *request) *failure {
	text := r.headers.origin
	if text == nil {
		return nil
	}
	origins := a.rules().origins
	for i := range origins {
		if origins[i].matches(text) {
			r.origin = text
			return nil
		}
	}
	if sameHost(text, r.host) {
		return nil
	}
	return failf(fasthttp.StatusForbidden, "origin %s is not allowed; --cors-origin names those that are, beside the server's own", quote(text))
}

// share says on an answer that the asking page may read it.
func (r *request) share(resp *fasthttp.Response) {
	if r.origin == nil {
		return
	}
	resp.Header.Set(fasthttp.HeaderVary, fasthttp.HeaderOrigin)
	resp.Header.SetBytesV(fasthttp.HeaderAccessControlAllowOrigin, r.origin)
	resp.Header.Set(fasthttp.HeaderAccessControlAllowCredentials, "true")
	resp.Header.Set(fasthttp.HeaderAccessControlExposeHeaders, fasthttp.HeaderRetryAfter)
}

// options answers OPTIONS, a browser's preflight among them.
func (a *API) options(resp *fasthttp.Response, r *request) {
	resp.SetStatusCode(fasthttp.StatusNoContent)
	methods := routes[r.at].methods
	resp.Header.Set(fasthttp.HeaderAllow, methods)
	r.share(resp)
	if len(r.header.Peek(fasthttp.HeaderAccessControlRequestMethod)) == 0 {
		return
	}
	resp.Header.Set(fasthttp.HeaderAccessControlAllowMethods, methods)
	resp.Header.Set(fasthttp.HeaderAccessControlAllowHeaders, "Authorization, Content-Type, Last-Event-ID, Cache-Control, Idempotency-Key")
	resp.Header.Set(fasthttp.HeaderAccessControlMaxAge, "7200")
}
