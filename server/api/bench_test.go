package api

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// served is a request that can be served again and again, without a connection.
func served(b testing.TB, request string) *fasthttp.RequestCtx {
	b.Helper()
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(&ctx.Request, nil, nil)
	r := bufio.NewReaderSize(strings.NewReader(request), 1<<16)
	if err := ctx.Request.Header.Read(r); err != nil {
		b.Fatal(err)
	}
	if err := ctx.Request.ReadBody(r, ctx.Request.Header.ContentLength(), 1<<30); err != nil {
		b.Fatal(err)
	}
	return ctx
}

// big is a sequencer's options with room for what benchmarks publish.
var big = topic.Options{RingSize: 64 << 20, MaxEventSize: 1 << 20}

// roomy lifts the limits of small tests.
func roomy(o *Options) { o.MaxBatchSize = 64 << 20 }

// typical is a head as curl sends it.
func typical(line, body string, headers ...string) string {
	return withBody(line, body, append([]string{"User-Agent: curl/8.5.0", "Accept: */*"}, headers...)...)
}

// One event a request: the handler alone, without fasthttp's connection. Of its time, Sequencer is
// the sequencer's part, and the rest is api's.
func BenchmarkPublish(b *testing.B) {
	data := strings.Repeat("0123456789", 15)
	a := startOn(b, big, roomy)
	b.Run("handler", func(b *testing.B) {
		ctx := served(b, typical("POST /publish/stocks.ACME", data, "Content-Type: application/x-www-form-urlencoded"))
		b.ReportAllocs()
		for b.Loop() {
			ctx.Response.Reset()
			a.Serve(ctx)
		}
		if ctx.Response.StatusCode() != 200 {
			b.Fatal(string(ctx.Response.Body()))
		}
	})
	b.Run("sequencer", func(b *testing.B) {
		p := topic.Publication{Topic: "stocks.ACME"}
		p.Event.Data = []byte(data)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.o.Sequencer.Publish(&p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// ndjsonBodies are bodies of 5,000 lines.
func ndjsonBodies() map[string]string {
	var text, object, topics strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "{\"topic\":\"stocks.ACME\",\"data\":\"%s\"}\n", strings.Repeat("0123456789", 15))
		fmt.Fprintf(&object, "{\"topic\":\"stocks.ACME\",\"event\":\"trade\",\"data\":{\"price\":%d.25,\"size\":100,\"exchange\":\"Q\",\"conditions\":[\"@\",\"T\"],\"time\":\"2026-01-01T00:00:00.000000Z\"}}\n", i)
		fmt.Fprintf(&topics, "{\"topic\":\"stocks.S%03d\",\"data\":\"caf\\u00e9 %s\"}\n", i%500, strings.Repeat("0123456789", 14))
	}
	return map[string]string{"text": text.String(), "object": object.String(), "500topics": topics.String()}
}

// A batch of 5,000 lines on one connection, with every check, into the ring.
func BenchmarkNDJSON(b *testing.B) {
	for name, body := range ndjsonBodies() {
		b.Run(name, func(b *testing.B) {
			a := startOn(b, big, roomy)
			ctx := served(b, typical("POST /publish", body, "Content-Type: application/x-ndjson"))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				a.Serve(ctx)
			}
			if ctx.Response.StatusCode() != 200 {
				b.Fatal(string(ctx.Response.Body()))
			}
			b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
		b.Run(name+"/scanner", func(b *testing.B) {
			lines := strings.Split(strings.TrimSpace(body), "\n")
			var s scanner
			var e event
			i := 0
			for b.Loop() {
				s.arena = s.arena[:0]
				if _, err := s.event([]byte(lines[i]), &e); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(lines) {
					i = 0
				}
			}
		})
	}
}

// A request for a stream on the short way, from the parsed head to the subscription.
func BenchmarkShort(b *testing.B) {
	a := startOn(b, big)
	for name, request := range map[string]string{
		"stream":  raw("GET /events/stocks.ACME", "User-Agent: curl/8.5.0", "Accept: text/event-stream"),
		"browser": raw("GET /events?topic=stocks.ACME,stocks.OTHER", "User-Agent: Mozilla/5.0", "Accept: text/event-stream", "Accept-Language: en", "Accept-Encoding: gzip, deflate", "Origin: http://localhost:8080", "Connection: keep-alive", "Sec-Fetch-Mode: cors", "Cache-Control: no-cache", "Last-Event-ID: 1763670000000042"),
		"error":   raw("GET /events/stocks.ACME?mode=x"),
	} {
		b.Run(name, func(b *testing.B) {
			h := head(b, request)
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				_, answer, _ := a.Short(dst[:0], h, from)
				if answer != nil {
					dst = answer
				}
			}
		})
	}
}
