package main

// Two SSE libraries for net/http, as their documentation shows them.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"

	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
)

func serveR3labs(l net.Listener) error {
	s := r3labs.New()
	s.AutoStream, s.AutoReplay = true, false
	var id atomic.Uint64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{topic}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n := id.Add(1)
		s.Publish(r.PathValue("topic"), &r3labs.Event{ID: []byte(strconv.FormatUint(n, 10)), Data: data})
		fmt.Fprintf(w, `{"id":"%d"}`, n)
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query() // it has one topic a stream, and calls it stream
		q.Set("stream", q.Get("topic"))
		r.URL.RawQuery = q.Encode()
		s.ServeHTTP(w, r)
	})
	return http.Serve(l, mux)
}

func serveTmaxmax(l net.Listener) error {
	s := &tmaxmax.Server{OnSession: func(w http.ResponseWriter, r *http.Request) ([]string, bool) {
		// Without this the answer's head comes with the first event.
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		return r.URL.Query()["topic"], true
	}}
	var id atomic.Uint64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{topic}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m := &tmaxmax.Message{ID: tmaxmax.ID(strconv.FormatUint(id.Add(1), 10))}
		m.AppendData(string(data))
		if err := s.Publish(m, r.PathValue("topic")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"id":"%s"}`, m.ID)
	})
	mux.Handle("GET /events", s)
	return http.Serve(l, mux)
}
