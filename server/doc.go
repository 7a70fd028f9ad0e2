// Package server puts the rooms together: every setting (config.go), the wiring (server.go), the
// way down (Drain). This is the place to start reading; the words are in docs/development.md.
//
// # The idea
//
//  1. The ring is wire-ready bytes. An event is encoded once, when it is published, and never
//     again.
//  2. A topic is a chain through the ring: each entry knows the entry of the same topic before it.
//  3. An audience is everyone who receives the same bytes, and a subscriber is a place in it: a
//     socket, and a cursor of its own only while it lags. It owns no queue, no buffer and no
//     goroutine.
//  4. Flushing is moving cursors. A flush makes an audience's batch once and sends it to each
//     member, one send each.
//
// The rest follows. A slow subscriber is a cursor that lags. Resuming is a cursor that starts
// further back. A lost event is a cursor that the ring's tail has passed, and its owner is told so.
//
// # Who owns what
//
//	part                     runs on                             owns                       talks by
//	accept, api              the accept thread; netpoll's        a socket from accept       handing a socket
//	                         goroutines, where fasthttp parses   until its stream begins,   to a shard
//	                         and answers                         or its connection ends
//	topic (the sequencer)    the publisher's goroutine, in one   the next event id, the     the ring; wakes
//	                         short critical section              ring's head and tail,      shards that sleep
//	                                                             each topic's newest
//	fanout (the shards)      one locked thread a shard, with     its audiences and          an inbox
//	                         its own epoll set                   subscribers, its timers,
//	                                                             its place in the ring
//	everything else          ordinary goroutines                 nothing                    reading counters
//
// Goroutines do not grow with streams, nor with idle connections. A shard's state is touched by
// that shard alone: there is no lock in the flush path. The ring is read by all without locks;
// readers never wait and never hold the writer up, and one that was overrun knows it.
//
// # One event
//
//	accept > api/publish (asks auth) > topic/sequencer > the ring > on each shard: fanout/pass > batch > flush
//
// A POST reaches fasthttp on a connection of netpoll's. api checks limits and access and hands on
// a whole event. A publisher that finds a shard too far behind waits here, before any lock (or is
// refused: --overload shed), so that publishers are slowed to what the shards can send. The
// sequencer encodes the frame outside of its lock, all but the id; then it locks: next id, finish
// the frame, link it into its topic's chain, append, unlock. It wakes only shards that sleep and
// have a subscriber of that topic.
//
// A shard's pass loads the ring's head once and looks at nothing newer. Its topic index names the
// audiences concerned; each gathers its batch in ring order; the batch is made into bytes once and
// sent to each member with one non-blocking send. A member whose socket is full becomes a lagging
// subscriber with a cursor of its own, and is caught up in bounded slices until it is with its
// audience again. While a pass runs new events pile up in the ring, and the next pass takes them
// all: batches grow with the load by themselves. Between passes a shard rests, never longer than
// --flush-interval, and not at all when little happens.
//
// An event is copied three times: the frame as it is encoded, the ring, the batch.
//
// # One subscriber
//
//	accept > (short | long) > api/subscribe (asks auth) > fanout/shards.Join > on its shard: join > audience > (lag) > close
//
// The accept thread takes a connection and looks at what is there. A complete head of a plain GET
// for a stream is judged strictly, parsed, and its socket given to a shard: the short way, without
// a goroutine or a buffer. A small publish that is there as a whole and needs not wait is answered
// there as well: the quick way. Everything else goes the long way over netpoll and fasthttp; a stream
// that begins there is detached from both first. There is one owner at any time: the accept
// thread, or netpoll and fasthttp, then the shard. Only the owner writes to a socket or closes it;
// the shard writes the first byte of a stream and the last.
//
// # Ids and gaps
//
// An id is the time of publication in microseconds, made unique, so that ids do not repeat across
// restarts; one sequence over all topics, so that one Last-Event-ID resumes any set of topics.
// Every entry knows the id of its topic's previous one, and every topic since when its history is
// complete. So a resume knows exactly whether something of its topics has gone out of reach: then
// there is a gap event, otherwise not, however far busy topics have pushed the ring on.
//
// # More machines
//
// With NATS (backplane) the publisher's event goes to a stream, whose sequence is the id, and comes
// to every node's ring from there by Sequencer.Append. Nothing else is different: shards do not know
// where ids come from.
//
// # Memory
//
// The ring is bounded by --ring-size; the newest --keep frames of each topic outlive it, bounded by
// --keep-size; batches that lagging subscribers still need are bounded by --lag-memory. A
// subscriber is a struct of some hundred bytes. The ring is on Go's heap, and the collector's pace
// is set so that it is not paid for twice (memory.go).
//
// # Upgrades
//
//	SIGUSR2 > upgrade.go: start the other, copy the ring > freeze > state and sockets > takeover.go > go
//
// Another process goes on with everything: nothing is made anew that a client could notice.
// Positions in the ring, ids and topics' numbers stay what they are, for the ring's bytes are taken
// over as they lie (ring.Copy), so that a cursor travels as a number. Each part exports plain data
// and adopts it: topic.State, fanout.State, accept.Moved; each has one method that is its format in
// both directions (handover.Coder). The order is that of the ways in: acceptors freeze, then the
// sequencer, then each shard comes to rest where the ring's head is. Sockets follow by SCM_RIGHTS,
// sent by the thread whose they are, and received by the one whose they will be. The old process lets go when the new one has said that it has
// all of it, and the new one thaws only when it is told so: at no time are there two who send. Any
// failure before is a thaw.
//
// # Who may import whom
//
//	cmd/penstock > server > api > accept > fanout > topic > ring, encode
//
// auth, backplane and demo import topic; tuning and handover import nothing. accept calls api only through an interface
// that accept declares and New fills. cmd/penstock/house_test.go holds the table and fails when it
// is broken.
package server
