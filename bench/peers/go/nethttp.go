package main

// net/http: a goroutine and a channel for each stream.

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

func serveNetHTTP(l net.Listener) error {
	h := newHub()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{topic}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"%d"}`, h.publish(r.PathValue("topic"), data))
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		topics := r.URL.Query()["topic"]
		c := h.subscribe(topics)
		defer h.unsubscribe(topics, c)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		flush := http.NewResponseController(w)
		io.WriteString(w, ":\n\n")
		flush.Flush()
		for {
			select {
			case frame := <-c:
				w.Write(frame)
				// Whatever else waits goes out with it.
				for more := true; more; {
					select {
					case frame := <-c:
						w.Write(frame)
					default:
						more = false
					}
				}
				if flush.Flush() != nil {
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	})
	return http.Serve(l, mux)
}
