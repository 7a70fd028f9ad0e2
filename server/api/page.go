package api

// The page at /: one file with everything in it, sent with the strictest policy under which it
// works. Any goroutine.

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/valyala/fasthttp"
)

//go:embed page.html
var pageHTML []byte

// A page is what / answers with.
type page struct {
	body   []byte
	etag   string
	policy string // Content-Security-Policy
}

// inline finds the scripts and styles that stand in the page itself.
var inline = regexp.MustCompile(`(?s)<(script|style)(?:\s[^>]*)?>(.*?)</(?:script|style)>`)

// newPage hashes the page and what stands in it.
func newPage(html []byte) page {
	sum := sha256.Sum256(html)
	var scripts, styles strings.Builder
	for _, m := range inline.FindAllSubmatch(html, -1) {
		hash := sha256.Sum256(m[2])
		to := &scripts
		if bytes.EqualFold(m[1], []byte("style")) {
			to = &styles
		}
		// Content Security Policy Level 3, section 2.3.1: hash-source.
		to.WriteString(" 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'")
	}
	return page{
		body: html,
		etag: `"` + hex.EncodeToString(sum[:12]) + `"`,
		policy: "default-src 'none'; script-src" + none(scripts.String()) + "; style-src" + none(styles.String()) +
			"; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// none says so where a list of sources is empty.
func none(sources string) string {
	if sources == "" {
		return " 'none'"
	}
	return sources
}

// page answers GET /.
func (a *API) page(resp *fasthttp.Response, r *request) *failure {
	p := &a.front
	h := &resp.Header
	h.Set(fasthttp.HeaderETag, p.etag)
	h.Set(fasthttp.HeaderCacheControl, "no-cache")
	h.Set(fasthttp.HeaderContentSecurityPolicy, p.policy)
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	h.Set(fasthttp.HeaderReferrerPolicy, "no-referrer")
	if len(a.rules().origins) > 0 {
		h.Set(fasthttp.HeaderVary, fasthttp.HeaderOrigin)
	}
	if sameTag(r.header.PeekAll(fasthttp.HeaderIfNoneMatch), p.etag) {
		resp.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	h.SetContentType("text/html; charset=utf-8")
	resp.SetBodyRaw(p.body)
	return nil
}

// sameTag tells whether If-None-Match names the tag (RFC 9110 section 13.1.2: weak comparison).
func sameTag(values [][]byte, tag string) bool {
	for _, value := range values {
		for more := true; more; {
			var one []byte
			one, value, more = bytes.Cut(value, comma)
			one = bytes.TrimPrefix(bytes.TrimSpace(one), []byte("W/"))
			if string(one) == tag || string(one) == "*" {
				return true
			}
		}
	}
	return false
}
