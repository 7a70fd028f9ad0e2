package accept

// What accept needs from the rest of the server, and what it can be told.

import (
	"io/fs"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// A From is where a connection has come from.
type From struct {
	Remote   netip.AddrPort // the client's address; not valid where that is a unix socket
	Listener uint8          // the address that it was accepted at, as its place in Options.Listen
}

// A Handler judges and answers requests. server.New gives it to the Acceptor of each address.
type Handler interface {
	// Short judges a complete head of a GET or HEAD without a body, on the short way. One of the
	// three results counts: a subscription, whose socket goes to a shard; long, for a request that
	// must go the long way; else the answer: whole response bytes, appended to dst, after which
	// the connection is closed. Nothing that it returns may refer to h.
	//
	// The accept thread: it must not wait.
	Short(dst []byte, h *fasthttp.RequestHeader, from From) (sub *fanout.Subscription, answer []byte, long bool)

	// Serve answers a request on the long way, or calls Stream. A request's goroutine; it may wait.
	Serve(ctx *fasthttp.RequestCtx)

	// Quick answers a small request that has come whole, body included, as Serve would, if that
	// takes no waiting. Where it does not answer, nothing has happened, and Serve is asked. The
	// accept thread: it must not wait, nor call Stream.
	Quick(ctx *fasthttp.RequestCtx) Quickness

	// Error appends a whole HTTP/1.1 answer to a request that can't be taken (400 to 505), with
	// Connection: close. h is nil where no head that can be taken has come whole. Any goroutine; it
	// must not wait.
	Error(dst []byte, h *fasthttp.RequestHeader, status int, text string) []byte

	// Admit judges a request by its head alone, while its body is still to come: a whole answer
	// with Connection: close, appended to dst, ends the connection before anything was waited for;
	// nil lets the body be read, and Serve judges again. length is what the head says of the body in
	// bytes, -1 where it comes in chunks. A request whose body has come with its head is not asked
	// about. most is how many bytes the body may have, where that is less than MaxBodySize. A
	// request's goroutine; it must not wait.
	Admit(dst []byte, h *fasthttp.RequestHeader, length int64, from From) (answer []byte, most int64)

	// Busy appends a whole HTTP/1.1 answer to a request that there is no room for, with Connection:
	// close; why says which room. h is nil where no head has come. Any goroutine; it must not wait.
	Busy(dst []byte, h *fasthttp.RequestHeader, from From, why Full) []byte

	// Room tells out of whose room a request for path is served (the request target without its
	// query; it may be no path at all). Any goroutine; it must not wait.
	Room(path []byte) Room
}

// A Quickness is what Handler.Quick has made of a request.
type Quickness uint8

const (
	NotQuick Quickness = iota // a request for the long way, and its connection too
	MustWait                  // one that would have to wait this time; the connection's next one may be quick
	Answered
)

// A Room is a number of requests that may be in hand at once, on the long way. They do not take
// each other's places.
type Room uint8

// The rooms.
const (
	Shared  Room = iota // publishing and all that is not in the other two: MaxRequests
	Streams             // requests for streams: as many again
	Health              // health and metrics: 64, and also when there are MaxConnections
	rooms   = iota
)

// Full says what there is no room in.
type Full uint8

// What can be full.
const (
	FullConnections Full   = iota // MaxConnections
	FullAddress                   // MaxPerAddress
	FullRequests                  // MaxRequests
	FullShare                     // an address's share of requests whose bodies are still to come
	FullBodies                    // BodyMemory
	FullHeads                     // the memory for heads that are not whole
	FullShards                    // no shard takes the stream any more
	Fulls           = iota        // how many there are
)

// slowShare is the part of MaxRequests that requests of one address may have in hand while their
// bodies are still to come.
const slowShare = 4

// healthRoom is how many requests of Health may be in hand.
const healthRoom = 64

// A Joiner makes a stream of a socket: *fanout.Shards.
type Joiner interface {
	// Join hands fd over. With an error the caller keeps it.
	Join(fd int, sub *fanout.Subscription) error
	// Enlist is Join, but the socket may stay until HandOver, and its shard asleep: the accept
	// thread calls that after each round of events. Neither waits.
	Enlist(fd int, sub *fanout.Subscription) error
	// HandOver hands over what was enlisted.
	HandOver()
	// Streams is how many there are.
	Streams() int
	// Enlisted is how many of them still have their sockets in the process's descriptor table
	// and will not keep them there. Not needed without MaxHere.
	Enlisted() int
}

// Limits are those that may be changed while an Acceptor serves. 0 stands for the default.
type Limits struct {
	MaxConnections int   // connections at once, streams among them; default: no limit
	MaxPerAddress  int   // of these, connections of one Network; default: no limit
	MaxRequests    int   // requests in hand at once, for each of Shared and Streams; default 4,096
	BodyMemory     int64 // bytes of bodies in hand at once; default 16 times MaxBodySize
	AcceptRate     int   // connections accepted in a second; default: no limit
}

// Options are what an Acceptor serves, and its limits. 0 stands for the default.
type Options struct {
	Listen  []string // host:port, port 0 for any free one, or unix:PATH; at least 1, at most MostListeners
	Handler Handler  // required
	Shards  Joiner   // whom streams are handed to; nil where Handler never returns one

	Doors  []MovedDoor // listening sockets of another process, for the addresses of Listen that they are of
	Frozen bool        // nobody is served before Thaw

	SocketMode fs.FileMode // permissions of unix sockets; default 0660
	Sockets    Sockets     // what those of TCP have

	Backlog int // connections that may wait to be accepted; default 4,096
	Limits
	MaxHere   int        // of MaxConnections: those that are no streams, where streams leave the process's descriptor table; default: no limit
	Addresses *Addresses // counts connections for MaxPerAddress, streams among them; default: one of its own, which never hears of a stream's end

	MaxBodySize int // bytes of a request's body; default 16 MiB

	HandshakeTimeout time.Duration // for a head, from its first byte or from the connection's begin; default 10 s
	BodyTimeout      time.Duration // for the silence of a client within a body, which may take 10 times as long in all, or while an answer is written; default 30 s
	IdleTimeout      time.Duration // for a connection between requests; default 60 s
	LingerTimeout    time.Duration // for the silence of a client after its last answer, at most 6 times as long in all; default 5 s
	CloseTimeout     time.Duration // for requests in hand when Close is called; default 5 s

	Server string       // the Server header of what fasthttp answers; default none
	Log    *slog.Logger // default slog.Default()

	refuse func() syscall.Errno // tests: the error that accept4 has instead of a connection; 0 or nil: none
}

func (o *Options) fill() {
	set(&o.SocketMode, 0o660)
	set(&o.Backlog, 4096)
	set(&o.MaxBodySize, 16<<20)
	o.Limits.fill(o.MaxBodySize)
	if o.Addresses == nil {
		o.Addresses = NewAddresses()
	}
	set(&o.HandshakeTimeout, 10*time.Second)
	set(&o.BodyTimeout, 30*time.Second)
	set(&o.IdleTimeout, 60*time.Second)
	set(&o.LingerTimeout, 5*time.Second)
	set(&o.CloseTimeout, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

func (l *Limits) fill(maxBodySize int) {
	set(&l.MaxRequests, 4096)
	set(&l.BodyMemory, 16*int64(maxBodySize))
}

func set[T comparable](field *T, to T) {
	if *field == *new(T) {
		*field = to
	}
}
