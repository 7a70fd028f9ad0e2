package server_test

import (
	"strings"
	"testing"

	"penstock/server"
	"penstock/server/servertest"
)

// A page of a listed origin may read why its publish was refused, also where that is found out
// while the body comes; one of another origin may not. OPTIONS * is answered.
func TestPageMayReadWhyItsBodyWasRefused(t *testing.T) {
	srv := servertest.Start(t, func(c *server.Config) {
		c.CORSOrigin = []string{"https://app.example"}
		c.MaxBatchSize, c.MaxEventSize = 100_000, 64
	})
	body := strings.Repeat("fa0\r\n"+strings.Repeat("x", 4000)+"\r\n", 50)
	for origin, want := range map[string]string{
		"https://app.example":  "HTTP/1.1 413 ",
		"https://evil.example": "HTTP/1.1 403 ",
	} {
		w := dialTo(t, srv)
		w.send("POST /publish/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nOrigin: " + origin + "\r\n\r\n" + body)
		got := w.until("\r\n\r\n")
		if shared := strings.Contains(got, "Access-Control-Allow-Origin: "+origin+"\r\n"); !strings.HasPrefix(got, want) || shared != (origin == "https://app.example") {
			t.Errorf("%s: %s", origin, got)
		}
	}
	w := dialTo(t, srv)
	w.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := w.until("\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 204 ") || !strings.Contains(got, "Allow: GET, HEAD, POST, QUERY, DELETE, OPTIONS\r\n") {
		t.Errorf("OPTIONS *: %s", got)
	}
}
