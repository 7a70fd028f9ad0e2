package api

// What a refused request gets: the status, one sentence in JSON, and the headers that go with
// both. Any goroutine; on the short way the accept thread.

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"penstock/server/auth"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// A failure is a request's end before it has done anything.
type failure struct {
	status     int
	text       string // what is wrong, and what is allowed
	allow      string // 405: the methods that the path has
	challenge  string // 401: WWW-Authenticate
	retryAfter int    // 429, 503: seconds
	reason     reason // 429, 503: the limit
}

func failf(status int, format string, args ...any) *failure {
	return &failure{status: status, text: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *failure {
	return failf(fasthttp.StatusBadRequest, format, args...)
}

// fail fills a response with a failure. It is the only place where an error is written, on
// either way.
func (a *API) fail(resp *fasthttp.Response, r *request, f *failure) {
	if f.reason != notRefused {
		a.refused[f.reason].Add(1)
	}
	if f.retryAfter > 0 && r.at == atEvents && r.alone {
		a.comeBack(resp, r)
		return
	}
	if f.status == fasthttp.StatusNoContent {
		// No stream, and no error: there is nothing left to be sent (API.over).
		resp.SetStatusCode(f.status)
	} else if at := r.at; (at == atHealthz || at == atReadyz) && f.status == fasthttp.StatusServiceUnavailable {
		text(resp, f.status, f.text)
	} else {
		resp.SetStatusCode(f.status)
		resp.Header.SetContentTypeBytes(typeJSON)
		body := appendJSON([]byte(`{"error":`), f.text)
		resp.SetBodyRaw(append(body, "}\n"...))
	}
	resp.Header.SetCanonical(hCacheControl, vNoStore)
	if f.allow != "" {
		resp.Header.Set("Allow", f.allow)
	}
	if f.challenge != "" {
		resp.Header.Set("WWW-Authenticate", f.challenge)
	}
	if f.retryAfter > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	r.share(resp)
}

// publishFailure turns what the sequencer or the policy said into an answer.
func (a *API) publishFailure(err error) *failure {
	var large *topic.FrameTooLargeError
	var unavailable *topic.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return a.unavailable(backplaneLost, err.Error())
	case errors.As(err, &large):
		return failf(fasthttp.StatusRequestEntityTooLarge, "%v (--max-event-size)", err)
	case errors.Is(err, topic.ErrDraining):
		return a.unavailable(isDraining, "the server drains and takes no more events; publish again when it is back")
	case errors.Is(err, topic.ErrOverload):
		return a.unavailable(overload, a.outrun())
	case errors.Is(err, topic.ErrTooManyTopics):
		return a.unavailable(overTopics, err.Error())
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrNotLocal):
		return &failure{status: fasthttp.StatusUnauthorized, text: err.Error(), challenge: `Bearer realm="penstock"`}
	case errors.Is(err, auth.ErrBadToken):
		// RFC 6750 section 3.1.
		return &failure{status: fasthttp.StatusUnauthorized, text: err.Error(), challenge: `Bearer realm="penstock", error="invalid_token"`}
	case errors.Is(err, topic.ErrOwnTopic):
		return failf(fasthttp.StatusForbidden, "%v", err)
	}
	return badRequest("%v", err)
}

// Error appends a whole HTTP/1.1 answer to a request that could not be taken: status and text as
// every error has them, for the page that asked where its origin may, and the end of the
// connection. h is nil where there is no head that could be. Any goroutine; it does not wait.
func (a *API) Error(dst []byte, h *fasthttp.RequestHeader, status int, text string) []byte {
	r := request{header: h}
	if h != nil {
		_ = a.judge(&r) // for what it finds out: the request is refused already
	}
	return a.appendAnswer(dst, &r, func(resp *fasthttp.Response) {
		a.fail(resp, &r, &failure{status: status, text: text})
	})
}

// appendAnswer appends a whole answer, after which the connection ends, made by the same code
// that answers on the long way.
func (a *API) appendAnswer(dst []byte, r *request, fill func(*fasthttp.Response)) []byte {
	resp := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(resp)
	fill(resp)
	a.count.response(resp.StatusCode())
	resp.Header.SetConnectionClose()
	if resp.Header.ContentLength() == 0 {
		resp.Header.SetContentLength(len(resp.Body()))
	}
	dst = append(dst, resp.Header.Header()...)
	if r.head {
		return dst
	}
	return append(dst, resp.Body()...)
}

// quote shows what a client sent: cut when it is long, and with nothing in it that could break a
// line or a terminal.
func quote[T string | []byte](s T) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(string(s))
	}
	return strconv.Quote(string(s[:most])) + "..."
}

// appendJSON appends s as a JSON string (RFC 8259 section 7). What is not UTF-8 in it becomes
// U+FFFD.
func appendJSON(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < ' ' || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				dst = append(dst, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return append(dst, '"')
}
