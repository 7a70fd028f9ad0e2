// Package backplane is NATS JetStream under several Penstocks: it stores what is published, gives
// it its id, and brings it to every node.
//
//	POST /publish > api > Publish ------> the stream: acknowledged, its sequence is the id
//	                                        |
//	                                        +--> node 1: consume > topic.Sequencer.Append > the ring
//	                                        +--> node 2: the same ...
//
// A subject is a topic, behind a prefix where there is one. The headers Penstock-Event and
// Penstock-Retry carry what else an event has, Penstock-End is the end of its topic; a plain NATS
// message is an event without a type. What cannot be an event is left out and counted.
//
// # What holds
//
//  1. An event's id is its sequence in the stream, on every node.
//  2. Each node appends the whole stream in its order, each event once, from where its ring was
//     filled at its start: what comes twice is left out, what is missing is told by a gap.
//  3. Streams of subscribers do not notice that NATS is gone, but that nothing comes. Publishers do.
//  4. A stream that was deleted and made anew is another one: every subscriber is told by a gap. One
//     that Penstock makes begins its sequence at the time in microseconds, so that ids do not repeat.
//
// # Threads
//
// consume's goroutine reads the stream and alone calls the Sink. Everything exported may be called
// from any goroutine but a shard's thread.
//
// The package is the only door to NATS, and to the NATS server that --nats-embedded runs.
package backplane
