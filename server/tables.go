package server

// Descriptors: one table for all while --max-connections fits into the limit of open files, else one
// for each shard, and as many shards as it takes. New's goroutine, but for what says so.

import (
	"errors"
	"fmt"
	"math"
	"runtime"

	"penstock/server/fanout"
	"penstock/server/tuning"
)

// look looks at what the process may have, and makes descriptor tables for shards where
// --max-connections calls for them. Where they can't be had, there is the process's, which holds as
// many streams as it can. It comes before anything else is opened: tables begin as copies.
func (s *Server) look() (err error) {
	if s.files, err = tuning.RaiseFiles(); err != nil {
		s.log.Warn("fewer descriptors than there could be", "error", err)
	}
	n := s.config.MaxConnections
	if n <= s.files.Connections() {
		return nil
	}
	s.tables, err = fanout.NewTables(s.files.Tables(n, s.shardCount()))
	if errors.Is(err, fanout.ErrNoTables) {
		s.log.Warn("shards have no descriptor tables of their own: the limit of open files bounds all streams together", "error", err)
		return nil
	}
	return startError(err)
}

// rooms is what another process is told of the tables.
func (s *Server) rooms() fanout.Rooms {
	if s.tables != nil {
		return s.tables.Rooms(s.shardCount())
	}
	return fanout.Rooms{Each: []int{s.files.Connections()}, Abreast: 1}
}

// startShards starts the shards.
func (s *Server) startShards(o fanout.Options) (err error) {
	o.Shards, o.Abreast, o.Tables = s.shardCount(), s.shardCount(), s.tables
	s.tables = nil // New takes them over
	s.shards, err = fanout.New(o)
	return startError(err)
}

func startError(err error) error {
	if err != nil {
		return fmt.Errorf("start the shards: %w", err)
	}
	return nil
}

// shardCount is --shards, or half the cores. Tables may call for more.
func (s *Server) shardCount() int {
	if n := s.config.Shards; n > 0 {
		return n
	}
	return max(1, runtime.GOMAXPROCS(0)/2)
}

// descriptorBound is how many connections descriptors allow, and in how many tables. Any goroutine.
func (s *Server) descriptorBound() bound {
	if s.shards != nil {
		if room := s.shards.Room(); room < math.MaxInt {
			return bound{fmt.Sprintf("descriptors in %d shards with tables of their own", s.shards.Shards()), room}
		}
	}
	return bound{"descriptors", s.files.Connections()}
}
