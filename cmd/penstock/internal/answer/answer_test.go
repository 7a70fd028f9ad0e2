package answer

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		body, retryAfter string
		want             string
		wait             time.Duration
	}{
		{`{"error":"a \"b\"\n c"}`, "7", `503 Service Unavailable: a "b" c`, 7 * time.Second},
		{"plain\n", "", "503 Service Unavailable: plain", 0},
		{" <html>", "99999999", "503 Service Unavailable", time.Hour},
		{"", "Fri, 02 Jan 2026 03:04:15 GMT", "503 Service Unavailable", 10 * time.Second},
		{"", "Fri, 02 Jan 2026 03:04:00 GMT", "503 Service Unavailable", 0},
		{"", "-5", "503 Service Unavailable", 0},
		{strings.Repeat("é", 200), "soon", "503 Service Unavailable: " + strings.Repeat("é", 150) + "...", 0},
	} {
		e := Read(&http.Response{
			StatusCode: 503,
			Header:     http.Header{"Retry-After": {c.retryAfter}, "Date": {"Fri, 02 Jan 2026 03:04:05 GMT"}, "Content-Type": {"text/html; charset=utf-8"}},
			Body:       io.NopCloser(strings.NewReader(c.body)),
		})
		if e.Error() != c.want || e.RetryAfter != c.wait || e.Type != "text/html" {
			t.Errorf("%q, Retry-After %q: %q, %v", c.body, c.retryAfter, e.Error(), e.RetryAfter)
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain, 日本 👩‍🚀\t": "plain, 日本 👩‍🚀\t",
		"\x1b]0;title\a":  `\x1b]0;title\x07`,
		"\u202egnp.exe":   `\u202egnp.exe`,
		"\u0085":          `\u0085`,
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
}
