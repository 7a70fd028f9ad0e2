package accept

// A strict look at a request's head (RFC 9112), before anybody trusts it. Any goroutine.
//
// Two steps: a scan finds the head's end in bytes that may still be coming, then parse judges
// the whole. What passes means the same to every reader: fasthttp, a proxy before us, and us.

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Limits of a head, in bytes.
const (
	targetMost = 64 << 10 // of the request target: 414 over it
	fieldsMost = 16 << 10 // of the fields and the empty line behind them: 431 over it
	methodMost = 32       // of the method
	blankMost  = 4        // of empty lines before the request line (RFC 9112 2.2)
	lineMost   = methodMost + 1 + targetMost + len(" HTTP/1.1\r\n")
	headMost   = blankMost + lineMost + fieldsMost
)

// A refusal says why bytes can't be a request.
type refusal struct {
	status int
	text   string
}

func bad(format string, args ...any) *refusal {
	return &refusal{400, fmt.Sprintf(format, args...)}
}

var (
	longTarget  = &refusal{414, "request target over 64 KiB; long lists of topics go into the body of a POST"}
	longFields  = &refusal{431, "header over 16 KiB; the fields of a request take at most that together"}
	longTrailer = &refusal{431, "trailer of the body over 4 KiB; its fields take at most that together"}
	halfHead    = &refusal{400, "the request ends within its head; a head ends with an empty line"}
	lateHead    = &refusal{408, "the request's head has not arrived in time"}
)

// A scan is a search for a head's end that goes on as bytes come. The zero value begins one.
type scan struct {
	at    int // bytes looked at
	line  int // where the line begins that has not ended
	start int // where the request line begins, behind empty lines
	first int // where the fields begin; 0 while the request line has not ended
}

// end looks at what came after the last call. p is all there is of the head, from its first byte,
// and perhaps more. It returns the head's size once it is whole, 0 before.
func (s *scan) end(p []byte) (size int, no *refusal) {
	for {
		i := bytes.IndexByte(p[s.at:], '\n')
		if i < 0 {
			s.at = len(p)
			return 0, s.early(p)
		}
		i += s.at
		s.at = i + 1
		if i == s.line || p[i-1] != '\r' {
			return 0, bad("bare LF at byte %d; lines end with CRLF", i)
		}
		empty := i-1 == s.line
		s.line = i + 1
		switch {
		case empty && s.first == 0:
			if s.start = s.line; s.start > blankMost {
				return 0, bad("empty lines before the request line; at most two")
			}
		case empty:
			if s.line-s.first > fieldsMost {
				return 0, longFields
			}
			return s.line, nil
		case s.first == 0:
			if s.first = s.line; s.first-s.start > lineMost {
				return 0, longLine(p[s.start:])
			}
		}
	}
}

// early judges a head that is not whole by what can be told already.
func (s *scan) early(p []byte) *refusal {
	p = p[s.start:]
	if len(p) == 0 || p[0] == '\r' {
		return nil
	}
	if !token[p[0]] {
		return badMethod(p[0])
	}
	if s.first == 0 {
		if len(p) > lineMost {
			return longLine(p)
		}
	} else if len(p)+s.start-s.first > fieldsMost {
		return longFields
	}
	return nil
}

func longLine(p []byte) *refusal {
	if bytes.IndexByte(p[:methodMost+1], ' ') < 0 {
		return bad("method of over %d bytes", methodMost)
	}
	return longTarget
}

// blank tells whether p is nothing but empty lines: no request has begun.
func blank(p []byte) bool {
	return len(p) <= blankMost && len(p)%2 == 0 && string(p) == "\r\n\r\n"[:len(p)]
}

// A head is what the strict look found. Its slices refer to the bytes that were parsed.
type head struct {
	size    int // in bytes, with the empty lines around it
	method  []byte
	target  []byte
	host    []byte // nil where there is none
	length  int64  // Content-Length; -1 where there is none
	http10  bool
	chunked bool // Transfer-Encoding: chunked
	expects bool // 100-continue
	closes  bool // Connection: close
	origin  bool // there is an Origin: a page asks
}

// parse judges the head p[:size] that s has found. A head that it lets pass has a request line
// and fields of RFC 9112's grammar and nothing that leaves open where its body ends.
func (h *head) parse(p []byte, s *scan, size int) *refusal {
	*h = head{size: size, length: -1}
	if no := h.requestLine(p[s.start:s.first]); no != nil {
		return no
	}
	hosts := 0
	for at := s.first; at < size-2; {
		end := at + bytes.IndexByte(p[at:size], '\n') - 1 // scan has seen CRLF there
		line := p[at:end]
		name := 0
		for name < len(line) && token[line[name]] {
			name++
		}
		if name == len(line) || line[name] != ':' || name == 0 {
			return badName(line, name, at)
		}
		value := line[name+1:]
		for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
			value = value[1:]
		}
		for n := len(value); n > 0 && (value[n-1] == ' ' || value[n-1] == '\t'); n = len(value) {
			value = value[:n-1]
		}
		if i := control(value); i >= 0 {
			return bad("byte %#02x in the value of header %s; no control characters", value[i], line[:name])
		}
		if no := h.field(line[:name], value, &hosts); no != nil {
			return no
		}
		at = end + 2
	}
	return h.whole(hosts)
}

// requestLine takes method, target and version from a line with its CRLF (RFC 9112 3).
func (h *head) requestLine(line []byte) *refusal {
	line = line[:len(line)-2]
	i := bytes.IndexByte(line, ' ')
	if i <= 0 || i > methodMost {
		return bad("request line without a method; want METHOD target HTTP/1.1, with single spaces")
	}
	h.method = line[:i]
	for _, c := range h.method {
		if !token[c] {
			return badMethod(c)
		}
	}
	line = line[i+1:]
	if i = bytes.IndexByte(line, ' '); i <= 0 {
		return bad("request line without a target; want METHOD target HTTP/1.1, with single spaces")
	}
	h.target = line[:i]
	if len(h.target) > targetMost {
		return longTarget
	}
	for _, c := range h.target {
		// Bytes over 0x7f may stand: curl sends UTF-8 as it was typed.
		if c < '!' || c == 0x7f || c == '#' {
			return bad("byte %#02x in the request target; it takes no control characters, spaces or #", c)
		}
	}
	switch version := string(line[i+1:]); version {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.http10 = true
	default:
		if len(version) == 8 && version[:5] == "HTTP/" && digit(version[5]) && version[6] == '.' && digit(version[7]) {
			return &refusal{505, "HTTP version " + version[5:] + "; this server speaks 1.1 and 1.0"}
		}
		return bad("request line without a version at its end; want METHOD target HTTP/1.1, with single spaces")
	}
	return nil
}

func badMethod(c byte) *refusal {
	return bad("byte %#02x in the method; this port speaks HTTP/1.1 without TLS", c)
}

// control finds the first byte that a field's value must not have; -1 where there is none. Eight at a
// time: a cookie may have thousands.
func control(value []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(value); i += 8 {
		w := binary.LittleEndian.Uint64(value[i:])
		del := w ^ 0x7f*ones
		// The lowest byte below a space, or a DEL, sets its top bit; tabs are among them.
		if ((w-' '*ones)&^w|(del-ones)&^del)&tops == 0 {
			continue
		}
		for j := range 8 {
			if !field[value[i+j]] {
				return i + j
			}
		}
	}
	for ; i < len(value); i++ {
		if !field[value[i]] {
			return i
		}
	}
	return -1
}

func badName(line []byte, at, start int) *refusal {
	switch {
	case len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
		return bad("header folded over several lines at byte %d; each takes one line", start)
	case at == len(line):
		return bad("header line without a colon at byte %d", start)
	case line[at] == ':':
		return bad("header without a name at byte %d", start)
	case line[at] == ' ' || line[at] == '\t':
		return bad("space in the name of a header, or before its colon, at byte %d", start+at)
	}
	return bad("byte %#02x in the name of a header at byte %d", line[at], start+at)
}

// field judges the fields that decide whom a request is for and where it ends.
func (h *head) field(name, value []byte, hosts *int) *refusal {
	switch len(name) {
	case len("Host"):
		if fold(name, "host") {
			*hosts++
			h.host = value
		}
	case len("Expect"): // and Origin
		if fold(name, "expect") {
			if !fold(value, "100-continue") {
				return &refusal{417, "Expect takes 100-continue alone"}
			}
			h.expects = true
		} else if fold(name, "origin") {
			h.origin = true
		}
	case len("Connection"):
		if fold(name, "connection") && listed(value, "close") {
			h.closes = true
		}
	case len("Content-Length"):
		if fold(name, "content-length") {
			if h.length >= 0 {
				return bad("Content-Length given twice")
			}
			// RFC 9110 8.6: digits alone.
			if len(value) == 0 {
				return bad("Content-Length without a value; it takes digits")
			}
			h.length = 0
			for _, c := range value {
				if !digit(c) {
					return bad("byte %#02x in Content-Length; it takes digits", c)
				}
				// A number that no memory holds stays one: it is too large, not wrong.
				h.length = min(h.length*10+int64(c-'0'), 1<<58)
			}
		}
	case len("Transfer-Encoding"):
		if fold(name, "transfer-encoding") {
			if h.chunked {
				return bad("Transfer-Encoding given twice")
			}
			if !fold(value, "chunked") {
				return bad("Transfer-Encoding other than chunked")
			}
			h.chunked = true
		}
	}
	return nil
}

// whole judges what only all fields together show.
func (h *head) whole(hosts int) *refusal {
	switch {
	case hosts > 1:
		return bad("Host given twice")
	case !h.http10 && len(h.host) == 0:
		return bad("no Host; HTTP/1.1 requires it")
	case h.chunked && h.length >= 0:
		// RFC 9112 6.3 allows to go by Transfer-Encoding and close; whoever sent
		// both has been fooled or means to fool somebody.
		return bad("Content-Length beside Transfer-Encoding")
	case h.chunked && h.http10:
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	for _, c := range h.host {
		if !hostByte[c] {
			return bad("byte %#02x in Host; it takes a name or address and a port", c)
		}
	}
	if h.http10 {
		h.expects = false // RFC 9110 10.1.1
	}
	return h.form()
}

// form judges the form of the target (RFC 9112 3.2): a path, a URL whose authority is Host's, or,
// for OPTIONS, an asterisk.
func (h *head) form() *refusal {
	if h.target[0] == '/' {
		return nil
	}
	if len(h.target) == 1 && h.target[0] == '*' && string(h.method) == "OPTIONS" {
		return nil
	}
	authority, _, ok := h.absolute()
	if !ok {
		return bad("request target that is no path; it begins with / or http://")
	}
	// RFC 9112 3.2.2 has the authority win. Two that differ are two meanings.
	if h.host != nil && !bytes.EqualFold(authority, h.host) || len(authority) == 0 {
		return bad("request target for another host than Host names")
	}
	for _, c := range authority {
		if !hostByte[c] {
			return bad("byte %#02x in the request target's authority; it takes a name or address and a port", c)
		}
	}
	return nil
}

// absolute splits a target in absolute form.
func (h *head) absolute() (authority, rest []byte, ok bool) {
	switch t := h.target; {
	case len(t) > 7 && fold(t[:7], "http://"):
		rest = t[7:]
	case len(t) > 8 && fold(t[:8], "https://"):
		rest = t[8:]
	default:
		return nil, nil, false
	}
	if i := bytes.IndexAny(rest, "/?"); i >= 0 {
		return rest[:i], rest[i:], true
	}
	return rest, nil, true
}

// path is the target without authority and query.
func (h *head) path() []byte {
	path := h.target
	if path[0] != '/' {
		if _, rest, ok := h.absolute(); ok {
			path = rest
		}
	}
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	return path
}

// plain tells whether the head is all of a GET or HEAD: nothing of it can follow.
func (h *head) plain() bool {
	m := string(h.method)
	return (m == "GET" || m == "HEAD") && h.length <= 0 && !h.chunked && !h.expects
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// fold compares without regard to ASCII's case; lower is in lower case.
func fold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// listed tells whether a comma-separated list has an element.
func listed(list []byte, lower string) bool {
	for len(list) > 0 {
		var element []byte
		element, list, _ = bytes.Cut(list, comma)
		if fold(bytes.Trim(element, " \t"), lower) {
			return true
		}
	}
	return false
}

var comma = []byte(",")

// Tables of bytes: in a token (RFC 9110 5.6.2), in a field's value (5.5), in Host (RFC 3986
// 3.2.2 and a port; a comma could be two values that something joined).
var (
	token    = table("!#$%&'*+-.^_`|~", false)
	field    = table("\t !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", true)
	hostByte = table("-._~!$&'()*+;=:[]%", false)
)

func table(others string, high bool) (t [256]bool) {
	for c := range t {
		lower := c | 0x20
		t[c] = digit(byte(c)) || c < 0x80 && 'a' <= lower && lower <= 'z' || high && c >= 0x80
	}
	for _, c := range []byte(others) {
		t[c] = true
	}
	return t
}
