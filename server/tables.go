package server

// Descriptors: one table for all while --max-connections fits into the limit of open files, else one
// for each shard, and as many shards as it takes. New's goroutine, but for what says so.

import (
	"errors"
	"fmt"
	"math"
	"runtime"

	"penstock/server/fanout"
)

// startShards starts the shards. Where tables of their own are called for and can't be had, there is
// the process's, which holds as many streams as it can.
func (s *Server) startShards(o fanout.Options) (err error) {
	o.Shards = s.shardCount()
	if n := s.current().MaxConnections; n > s.files.Connections() {
		apart := o
		apart.Shards, apart.TableStreams = s.files.Tables(n, o.Shards)
		apart.Abreast = o.Shards
		if s.shards, err = fanout.New(apart); err == nil || !errors.Is(err, fanout.ErrNoTables) {
			return startError(err)
		}
		s.log.Warn("shards have no descriptor tables of their own: the limit of open files bounds all streams together", "error", err)
	}
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
