package server

// The memory that the process may have, and what happens when it has it: new streams and publishes
// are refused, the ones that are in are served on. The log says so once, and when it is over.
//
// What counts is the resident set, as the kernel's killer counts it. It is looked at four times a
// second, by a goroutine of its own; any goroutine asks for the result.

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// memoryEvery is how often the resident set is looked at.
const memoryEvery = 250 * time.Millisecond

// A memoryWatch knows whether there is memory for anything new.
type memoryWatch struct {
	limit atomic.Int64 // bytes; 0: none is known
	over  atomic.Bool
}

// full tells whether there is none. Any goroutine.
func (w *memoryWatch) full() bool { return w.over.Load() }

// watch looks until ctx ends.
func (w *memoryWatch) watch(ctx context.Context, log *slog.Logger) {
	every := time.NewTicker(memoryEvery)
	defer every.Stop()
	for {
		if used, ok := resident(); ok {
			w.look(used, log)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// look judges what is used. It is over again only when a thirty-second of the limit is free: so
// that the log has a line for each time, and not for each look.
func (w *memoryWatch) look(used int64, log *slog.Logger) {
	limit := w.limit.Load()
	switch {
	case limit > 0 && used > limit && !w.over.Swap(true):
		log.Warn("out of memory: new streams and publishes are refused", "resident", Size(used).String(), "limit", Size(limit).String())
	case (limit == 0 || used < limit-limit/32) && w.over.Swap(false):
		log.Info("there is memory again: new streams and publishes are taken", "resident", Size(used).String(), "limit", Size(limit).String())
	}
}

// resident is the process's resident set in bytes; false where that is not known.
func resident() (int64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

// memoryLimit is --memory-limit, or nine tenths of what the control group or the machine has; 0
// where that is not known.
func (s *Server) memoryLimit() int64 {
	if n := s.current().MemoryLimit; n > 0 {
		return int64(n)
	}
	have, ok := s.machine.Allowed()
	if !ok {
		return 0
	}
	return int64(have) / 10 * 9
}
