package server

// The debug door (--debug): Go's profiles and the shards at work, on a listener of its own that
// net/http serves, so that it answers when the other doors do not. Ordinary goroutines; reads
// counters and changes nothing.

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// openDebug listens and serves until the server is closed.
func (s *Server) openDebug() error {
	listener := s.past.debugListener(s.config.Debug)
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", s.config.Debug); err != nil {
			return listenError("debug", err)
		}
	}
	s.debugListener = listener
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/shards", s.serveShards)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("/debug/pprof/  profiles: go tool pprof http://" + listener.Addr().String() + "/debug/pprof/profile\n/debug/shards  counters of each shard, as JSON\n"))
	})
	s.debug = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.debugAddr = listener.Addr()
	s.background.Go(func() { _ = s.debug.Serve(listener) })
	return nil
}

// serveShards answers each shard's counters.
func (s *Server) serveShards(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(map[string]any{"shards": s.shards.Stats()})
}
