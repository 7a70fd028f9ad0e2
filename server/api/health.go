package api

// Whether the server lives, and whether it takes new work, in text. Any goroutine.

import "github.com/valyala/fasthttp"

// text fills a response with a line of plain text.
func text(resp *fasthttp.Response, status int, line string) {
	resp.SetStatusCode(status)
	resp.Header.SetContentTypeBytes(typeText)
	resp.Header.SetCanonical(hCacheControl, vNoStore)
	resp.SetBodyString(line + "\n")
}

// healthz answers as long as the process serves at all: whoever restarts it by this should not
// do so because it drains.
func (a *API) healthz(resp *fasthttp.Response, _ *request) *failure {
	text(resp, fasthttp.StatusOK, "ok")
	return nil
}

// readyz answers whether new streams and events should be sent here.
func (a *API) readyz(resp *fasthttp.Response, _ *request) *failure {
	if a.draining.Load() {
		return a.unavailable(notRefused, "draining")
	}
	if b := a.o.Backplane; b != nil {
		if err := b.Ready(); err != nil {
			return a.unavailable(notRefused, "backplane lost: "+err.Error())
		}
	}
	text(resp, fasthttp.StatusOK, "ok")
	return nil
}
