package server

import "penstock/server/fanout"

// ShardStats is a snapshot of each shard's counters.
func (s *Server) ShardStats() []fanout.ShardStats { return s.shards.Stats() }

// RingMemory is how many bytes the ring's segments take, those not given back yet among them.
func (s *Server) RingMemory() int64 { return s.sequencer.Ring().Stats().Allocated }

// Topics is how many topics are known.
func (s *Server) Topics() int { return s.sequencer.Table().Len() }
