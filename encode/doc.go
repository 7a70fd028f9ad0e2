// Package encode makes and reads the bytes of an event stream and of its HTTP
// framing. It knows no topic and no socket.
//
// # The stream
//
// What a subscriber receives is text/event-stream (WHATWG HTML 9.2.5 for its
// grammar, 9.2.6 for what a client makes of it). Penstock writes a small part
// of that grammar, and always in the same way:
//
//	stream    = start *( event / gap / heartbeat )
//	event     = [ "event: " type LF ]        ; AppendFrame
//	            1*( "data: " line LF )
//	            [ "retry: " 1*DIGIT LF ]
//	            "id: " 1*DIGIT LF LF         ; AppendID
//	start     = "retry: " 1*DIGIT LF [ "id: " 1*DIGIT LF ] LF
//	gap       = "event: gap" LF "data: " json LF "id: " 1*DIGIT LF LF
//	heartbeat = ":" LF LF / "id: " 1*DIGIT LF LF
//	          / "event: heartbeat" LF "data: " LF [ "id: " 1*DIGIT LF ] LF
//
// Three habits hold everywhere. A field's colon is followed by one space, for a
// client takes one space away and no more. Lines end with LF alone. The id line
// is the last of its block: only the sequencer's lock knows it, and a client
// that takes an unfinished block for an event will ask for that event again.
//
// # The framing
//
// For HTTP/1.1 the stream is sent in chunks (RFC 9112 7.1): PutChunkHead and
// AppendChunk write them, each a whole number of frames; a Dechunker takes them
// apart. For HTTP/1.0 the bytes are sent as they are.
//
// # The coding
//
// A stream may be compressed: Content-Encoding gzip (RFC 1952), chosen by
// ChooseCoding, and the chunks then carry what follows instead of frames.
//
//	gzip      = header *( flush ) end    ; AppendGzipHeader, Place.AppendEnd
//	flush     = *block empty-block       ; AppendDeflate (RFC 1951)
//
// A flush is made once for all members of an audience that have the same last
// plain bytes; Shared and Place know who has. docs/compression.md tells what that
// costs, what it gives, and why there is no Zstandard.
//
// # The other direction
//
// A Decoder reads any event stream, not only Penstock's, exactly as the
// standard says and from pieces of any size. Penstock's own client, its load
// test and its tests read with it.
//
// Everything that begins with Append writes behind what dst holds and returns
// the longer slice, allocates nothing where dst has room (AppendDeflate says when it does), and may be called
// from any goroutine. A Decoder or Dechunker belongs to one goroutine at a time.
package encode
