// Package loadtest holds streams of any SSE server, publishes to it, and tells the truth about both.
//
// It measures and does not assume. Every event it publishes carries its lane (a topic and who
// publishes to it), its number in that lane and the time it was due; every subscriber judges every
// event it receives by these. So what was lost, doubled, reordered or torn is counted for each
// subscriber, and latency runs from when an event should have left, not from when a stalled
// publisher got round to it.
//
//	            board (shared memory: what was handed over and what was acknowledged, by lane)
//	           /                                                     \
//	publisher: one thread                                     readers: a thread each
//	  schedule > payload > request > socket      socket > dechunk > decode > payload > check
//	           \                                                     /
//	            collector: a row for each second > report (text, JSON, HTML)
//
// A reader is a locked thread with an epoll set of its own and thousands of subscribers, each a
// struct of some two hundred bytes and 16 bytes for each lane it hears: no goroutine, no buffer.
// When descriptors run out the readers are spread over processes that share the board.
//
// Start with run.go (the phases of a run), then reader.go and subscriber.go.
package loadtest
