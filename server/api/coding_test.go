package api

import (
	"strings"
	"testing"

	"penstock/encode"
)

// A stream is compressed where the server offers it and the client takes it, on both ways in and for HEAD;
// whatever else is answered is as it was.
func TestAcceptEncodingChoosesTheCoding(t *testing.T) {
	gzip := func(o *Options) { o.Codings = []encode.Coding{encode.Gzip} }
	offers, off := start(t, gzip), start(t)
	for _, c := range []struct {
		lines []string
		want  encode.Coding
	}{
		{nil, encode.Identity},
		{[]string{"gzip"}, encode.Gzip},
		{[]string{"gzip, deflate, br, zstd"}, encode.Gzip},
		{[]string{"br, zstd"}, encode.Identity},
		{[]string{"br", "zstd, gzip"}, encode.Gzip},
		{[]string{"br", "", "*"}, encode.Gzip},
		{[]string{"gzip", "gzip;q=0"}, encode.Identity},
		{[]string{"gzip;q=0.2", "identity;q=0.5"}, encode.Identity},
		{[]string{""}, encode.Identity},
	} {
		var lines []string
		for _, l := range c.lines {
			lines = append(lines, "Accept-Encoding: "+l)
		}
		an, isLong := short(t, offers, raw("GET /events/a", lines...))
		if isLong || an.sub == nil || an.sub.Coding != c.want {
			t.Errorf("%q: %+v, want a stream of coding %v", c.lines, an, c.want)
		}
		if an, _ := short(t, off, raw("GET /events/a", lines...)); an.sub == nil || an.sub.Coding != encode.Identity {
			t.Errorf("%q where nothing is offered: %+v", c.lines, an)
		}
		want := ""
		if c.want != encode.Identity {
			want = c.want.String()
		}
		if an := get(t, offers, raw("HEAD /events/a", lines...)); an.status != 200 || an.header["Content-Encoding"] != want || !strings.Contains(an.header["Vary"], "Accept-Encoding") {
			t.Errorf("%q, HEAD: %d %v, want Content-Encoding %q", c.lines, an.status, an.header, want)
		}
	}
	an := get(t, offers, raw("GET /events/a?nothing=1", "Accept-Encoding: gzip"))
	if an.status != 400 || an.header["Content-Encoding"] != "" {
		t.Errorf("an error: %d %v", an.status, an.header)
	}
	offers.Drain()
	an = get(t, offers, raw("GET /events/a", "Accept: text/event-stream", "Accept-Encoding: gzip"))
	if an.status != 200 || an.header["Content-Encoding"] != "" || !strings.HasPrefix(an.body, "\nid: ") /* get cuts the random time off */ {
		t.Errorf("told to come back: %d %v %q", an.status, an.header, an.body)
	}
}
