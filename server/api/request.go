package api

// A request's head, and the headers that matter. The goroutine, or the accept thread, that judges it.

import (
	"net/netip"

	"penstock/encode"
	"penstock/server/auth"

	"github.com/valyala/fasthttp"
)

// A request is a head on its way through the judge. It refers to the header's bytes and lives
// no longer than these.
type request struct {
	header *fasthttp.RequestHeader

	at    place
	head  bool   // HEAD: the headers alone
	topic []byte // what the path names, with its escapes
	named bool   // the path names something
	query []byte // with its escapes, without the question mark
	host  []byte // whom the request is for: Host, or the target's authority

	client   netip.Addr // the zero value where it has none, or none has come
	listener uint8      // the address it came by, as its place in Options.Loopback

	origin []byte // the allowed foreign origin that asks; nil for none

	headers headers

	coding encode.Coding // of the stream

	// What a refused subscriber needs to come back (subscribe.go).
	alone  bool   // takes event streams and nothing else: an EventSource
	resume bool   // lastID is what it has
	lastID uint64 // its last event id
}

// headers are those that matter here, found in one walk: fasthttp searches for each anew. One
// that is empty counts as absent.
type headers struct {
	origin, lastID, authorization, coding, key []byte

	accepts int    // how many Accept headers there are
	accept  []byte // the first one

	encodings int    // how many Accept-Encoding headers there are
	encoding  []byte // the first one

	proxied bool // a proxy has left its mark
}

// read finds the headers that matter. One that takes a single value may be there only once.
func (r *request) read() *failure {
	doubled := ""
	only := func(field *[]byte, seen *uint8, bit uint8, name string, value []byte) {
		if *seen&bit != 0 {
			doubled = name
		}
		*seen |= bit
		if len(value) > 0 {
			*field = value
		}
	}
	h := &r.headers
	var seen uint8
	for name, value := range r.header.All() {
		switch string(name) {
		case fasthttp.HeaderOrigin:
			only(&h.origin, &seen, 1, "Origin", value)
		case "Last-Event-Id":
			only(&h.lastID, &seen, 2, "Last-Event-ID", value)
		case fasthttp.HeaderAuthorization:
			only(&h.authorization, &seen, 4, "Authorization", value)
		case fasthttp.HeaderContentEncoding:
			only(&h.coding, &seen, 8, "Content-Encoding", value)
		case "Idempotency-Key":
			only(&h.key, &seen, 16, "Idempotency-Key", value)
		case fasthttp.HeaderAccept:
			if h.accepts++; h.accepts == 1 {
				h.accept = value
			}
		case fasthttp.HeaderAcceptEncoding:
			if h.encodings++; h.encodings == 1 {
				h.encoding = value
			}
		default:
			h.proxied = h.proxied || auth.ProxyHeader(name)
		}
	}
	if doubled != "" {
		return badRequest("header %s is there twice; it takes one value", doubled)
	}
	return nil
}
