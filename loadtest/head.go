package loadtest

// The head of an answer: status, content type, framing. Any goroutine.

import (
	"bytes"
	"fmt"
	"strconv"

	"penstock/encode"
)

// maxHead bounds the head of an answer, in bytes.
const maxHead = 16 << 10

// An answerHead is what a client needs to know of an answer's head.
type answerHead struct {
	status  int
	length  int64 // -1: not said
	chunked bool
	close   bool // the connection ends with this answer
	kind    []byte
	coding  []byte
}

// parseHead reads an answer's head from the beginning of b. size is its length with the empty
// line; 0 when it is not whole yet.
func parseHead(b []byte) (h answerHead, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxHead {
			return h, 0, fmt.Errorf("an answer's head of more than %d bytes", maxHead)
		}
		if n := min(len(b), len("HTTP/1.")); string(b[:n]) != "HTTP/1."[:n] {
			return h, 0, fmt.Errorf("no HTTP/1 answer: it begins with %q", b[:min(len(b), 16)])
		}
		return h, 0, nil
	}
	size = end + 4
	line, rest, _ := bytes.Cut(b[:end], []byte("\r\n"))
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return h, 0, fmt.Errorf("no HTTP/1 answer: it begins with %q", line[:min(len(line), 16)])
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return h, 0, fmt.Errorf("no HTTP/1 answer: status %q", line[9:12])
		}
		h.status = h.status*10 + int(c-'0')
	}
	h.length = -1
	h.close = line[7] == '0'
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return h, 0, fmt.Errorf("an answer's header line without a colon: %q", line[:min(len(line), 64)])
		}
		value = bytes.Trim(value, " \t")
		switch len(name) {
		case len("Content-Type"):
			if bytes.EqualFold(name, []byte("Content-Type")) {
				h.kind = value
			}
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
					return h, 0, fmt.Errorf("an answer's Content-Length %q", value)
				}
			}
		case len("Content-Encoding"):
			if bytes.EqualFold(name, []byte("Content-Encoding")) {
				h.coding = value
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				h.chunked = bytes.EqualFold(value, []byte("chunked"))
			}
		case len("Connection"):
			if bytes.EqualFold(name, []byte("Connection")) {
				h.close = bytes.EqualFold(value, []byte("close"))
			}
		}
	}
	return h, size, nil
}

// stream answers the coding of an event stream for which one was asked; the error says why the
// answer is none.
func (h *answerHead) stream(asked encode.Coding) (encode.Coding, error) {
	if h.status != 200 {
		return 0, fmt.Errorf("status %d", h.status)
	}
	kind, _, _ := bytes.Cut(h.kind, []byte(";"))
	if !bytes.EqualFold(bytes.TrimSpace(kind), []byte("text/event-stream")) {
		return 0, fmt.Errorf("content type %q, not text/event-stream", h.kind[:min(len(h.kind), 64)])
	}
	if len(h.coding) == 0 || bytes.EqualFold(h.coding, []byte("identity")) {
		return encode.Identity, nil
	}
	if asked == encode.Gzip && (bytes.EqualFold(h.coding, []byte("gzip")) || bytes.EqualFold(h.coding, []byte("x-gzip"))) { // RFC 9110 8.4.1.3
		return encode.Gzip, nil
	}
	return 0, fmt.Errorf("content coding %q, which was not asked for", h.coding[:min(len(h.coding), 32)])
}
