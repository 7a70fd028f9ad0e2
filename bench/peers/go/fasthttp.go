package main

// fasthttp: its stream writer, a goroutine and a channel for each stream; and, for publishing alone,
// what it does when the handler does nothing.

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

func serveFasthttp(l net.Listener) error {
	h := newHub()
	s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		path := string(ctx.Path())
		if topic, ok := strings.CutPrefix(path, "/publish/"); ok {
			ctx.SetContentType("application/json")
			ctx.SetBodyString(`{"id":"` + strconv.FormatUint(h.publish(topic, ctx.PostBody()), 10) + `"}`)
			return
		}
		var topics []string
		for _, t := range ctx.QueryArgs().PeekMulti("topic") {
			topics = append(topics, string(t))
		}
		c := h.subscribe(topics)
		ctx.SetContentType("text/event-stream")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
			defer h.unsubscribe(topics, c)
			w.WriteString(":\n\n")
			if w.Flush() != nil {
				return
			}
			beat := time.NewTicker(15 * time.Second)
			defer beat.Stop()
			for {
				select {
				case frame := <-c:
					w.Write(frame)
					for more := true; more; {
						select {
						case frame := <-c:
							w.Write(frame)
						default:
							more = false
						}
					}
				case <-beat.C: // without it nobody would notice that the reader is gone
					w.WriteString(":\n\n")
				}
				if w.Flush() != nil {
					return
				}
			}
		})
	}, ReduceMemoryUsage: true}
	return s.Serve(l)
}

func serveBareNet(l net.Listener) error {
	return (&fasthttp.Server{Handler: bare}).Serve(l)
}

// bare takes any publish and does nothing with it.
func bare(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"id":"1763670000000042"}`)
}
