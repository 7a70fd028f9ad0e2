package api

import (
	"testing"

	"penstock/encode"
	"penstock/server/fanout"
)

// A publish of one event allocates nothing, a batch nothing for its lines, and a stream no more
// than its subscription.
func TestHotPathsAllocateNoMoreThanTheyMust(t *testing.T) {
	a := startOn(t, big, roomy)
	// The first one makes the topic.
	publishOne(t, a, "stocks.ACME", "x")
	for what, c := range map[string]struct {
		request string
		most    float64
	}{
		"one event":             {typical("POST /publish/stocks.ACME", "it works"), 0},
		"one event of a type":   {typical("POST /publish/stocks.ACME?event=trade", "it works"), 1},
		"two lines":             {typical("POST /publish", "{\"topic\":\"stocks.ACME\",\"data\":\"\\u00e9\"}\n{\"topic\":\"stocks.ACME\",\"data\":[1, 2]}\n", ndjson), 0},
		"a batch of 5000 lines": {typical("POST /publish", ndjsonBodies()["text"], ndjson), 40}, // the ring's segments
	} {
		ctx := served(t, c.request)
		serve := func() {
			ctx.Response.Reset()
			a.Serve(ctx)
		}
		serve()
		if got := ctx.Response.StatusCode(); got != 200 {
			t.Fatalf("%s: %d %s", what, got, ctx.Response.Body())
		}
		if poolForgets {
			continue
		}
		if got := testing.AllocsPerRun(200, serve); got > c.most {
			t.Errorf("%s: %.0f allocations, at most %.0f", what, got, c.most)
		}
	}
	h := head(t, raw("GET /events/stocks.ACME", "Accept: text/event-stream", "Accept-Encoding: gzip, deflate, br, zstd", "Last-Event-ID: 17"))
	var sub *fanout.Subscription
	a.o.Codings = []encode.Coding{encode.Gzip}
	short := func() { sub, _, _ = a.Short(nil, h, from) }
	if got := testing.AllocsPerRun(200, short); got > 2 || sub == nil {
		t.Errorf("a stream: %.0f allocations, want its subscription and its list of topics", got)
	}
}
