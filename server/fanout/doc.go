// Package fanout sends the ring's events to the subscribers: the shards.
//
// # One pass
//
// A shard is a thread with an epoll set, some audiences and their subscribers.
// It turns in passes (pass.go):
//
//	ring ──────────────── read ─────────── head      loaded once
//	                        │
//	1 read      each entry into the batches of the audiences that want its topic
//	2 flush     each batch: sealed once, one send for each live member
//	3 happened  what the kernel told: hang-ups, sockets that take bytes again
//	4 inbox     new sockets join, commands are obeyed
//	5 catch up  those with a cursor of their own get a slice each
//	6 timers    heartbeats whose tick has come
//	                        │
//	rest until this pass's start + min(4 x its duration, the flush interval)
//	sleep after a pass that found nothing
//
// 3 to 5 are chores (chores.go): they have about the time of a rest, and what is left over waits for
// the next pass, which comes at once and flushes first.
//
// While a pass runs events pile up in the ring, and the next pass takes them
// all: batching grows with load by itself.
//
// # The cursor
//
// A subscriber owns no queue and no buffer. A live one stands where its
// audience stands, which between passes is the shard's read position. One whose
// socket was full, one that resumes, and every one at first has a cursor of its own
// (lag.go) and is caught up from the ring until it is with its audience again.
// What its socket did not take of a chunk is remembered as a place in the ring
// and made again; the bytes are copied only when the ring's tail comes near.
//
// # Compressed audiences
//
// A batch of a compressed audience is made into blocks once for all members that
// are in its shared stream (gzip.go, encode.Shared). A member is in it while it is
// live: who lags gets blocks of its own, and steps over once it has caught up.
//
// # Descriptor tables
//
// A thread may have a descriptor table of its own, so that the limit of open files bounds a
// shard's streams and not the server's (apart.go). Its sockets come to it by a pair (porter.go,
// handover.go), and such a thread touches no descriptor but its own: nothing of net, os, log or
// netpoll. In an upgrade each shard sends its sockets from its own table (freeze.go, move.go), and the
// other process's thread receives them in the table where they stay (apart.go, portion.go).
//
// # The rule of threads
//
// What is exported may be called from any goroutine. Everything else runs on
// the shard's thread, where it is entered through pass, which asks own in the race
// build. What other goroutines want of a shard they leave in its inbox
// (inbox.go), which has the only lock that a shard ever takes; none is taken between
// reading and sending. Counters (stats.go) have one writer each.
//
// A shard takes time from nowhere but its system (socket.go), and every system
// call goes through that table: tests step a shard by hand, with sockets and a
// clock of their own (testdata, scenario_test.go).
package fanout
