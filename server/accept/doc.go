// Package accept is the way from a listening socket to a request, and back out of HTTP.
//
//	              accept4, recv                              Handler.Short
//	listener.go ───────────────────► head.go ── whole GET ──► short.go ──┬─► answer, linger.go, close
//	(accept thread)                     │ │                              │
//	          ▲                    part │ │ anything else                └─► Joiner.Join: a shard's
//	          └──── waiting.go ◄────────┘ ▼                                      ▲
//	                                    long.go ── netpoll, fasthttp ──► detach.go
//	                                       Handler.Serve
//
// One thread accepts, for all addresses of an Acceptor, TCP ones and unix sockets. It takes what has
// come of a head: part of one it holds until the rest comes. A complete head of a plain GET or HEAD is judged there
// and then: a stream's socket goes to a shard, an answer is sent and the connection closed; that is
// the short way, and it costs no goroutine, no buffer and no object but the subscription. A small
// request that is there as a whole and needs not wait, a publish above all, is answered by
// Handler.Quick, and its connection stays with the accept thread: the quick way (quick.go).
// Everything else goes the long way, with the bytes that were taken: a goroutine reads on, netpoll
// waits for what has not come, fasthttp parses and answers it, and where a request turns out to
// ask for a stream, all let go of the socket and it goes to a shard as well.
//
// # Who owns a socket
//
// The accept thread, until the short way ends or netpoll has it. Then netpoll, until its close
// callback. Then, for a stream, the shard; or the accept thread again, which lingers: it reads
// and drops what a client still sends after its answer, so that no reset eats the answer. Only
// the owner reads, writes or closes.
//
// # Who runs where
//
// What Acceptor exports may be called from any goroutine. Handler.Short and Handler.Quick run on
// the accept thread and must not wait. Handler.Serve runs on a goroutine of netpoll's pool, one for each
// request in hand; between requests, and while a head is not whole, a connection has none.
//
// # What a request's head must be
//
// head.go reads it strictly (RFC 9112), before anything else trusts it, on both ways. fasthttp
// sees only heads that passed, one at a time, and of a body only what belongs to it (long.go):
// where it is lenient (bare LF, folded lines, Content-Length beside Transfer-Encoding, "close" in
// capitals, any version number), it has nothing to be lenient about.
package accept
