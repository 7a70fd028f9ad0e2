package api

// The grammar of JSON (RFC 8259) by hand, for the lines of NDJSON and the body of a request for a
// stream: strings, and where a value ends. Any goroutine; a scanner owns nothing but its arena.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep data may nest, the event's own object included; encoding/json's bound.
const maxDepth = 10_000

// A scanner reads lines. What it unescapes and compacts goes into arena, which only grows.
type scanner struct {
	arena  []byte
	spaced bool // white space was skipped
}

// show names the byte at i for an error.
func show(line []byte, i int) string {
	if i >= len(line) {
		return "the text ends"
	}
	_, n := utf8.DecodeRune(line[i:])
	return "found " + quote(line[i:i+n])
}

// space skips white space.
func (s *scanner) space(line []byte, i int) int {
	for i < len(line) && line[i] <= ' ' {
		switch line[i] {
		case ' ', '\t', '\r', '\n':
			s.spaced = true
			i++
		default:
			return i
		}
	}
	return i
}

// text reads the string that begins at i.
func (s *scanner) text(line []byte, i int) ([]byte, int, error) {
	end, escaped, err := stringEnd(line, i)
	if err != nil {
		return nil, end, err
	}
	inner := line[i+1 : end-1]
	if !escaped {
		return inner, end, nil
	}
	from := len(s.arena)
	for at := i + 1; ; {
		n := bytes.IndexByte(inner, '\\')
		if n < 0 {
			s.arena = append(s.arena, inner...)
			break
		}
		s.arena = append(s.arena, inner[:n]...)
		inner, at = inner[n:], at+n
		r, size := unescape(inner)
		if r == utf8.RuneError && size == 6 && utf16.IsSurrogate(hex4(inner[2:])) {
			return nil, end, fmt.Errorf("escape %s at byte %d is half a character; the other half belongs beside it", inner[:6], at+1)
		}
		s.arena = utf8.AppendRune(s.arena, r)
		inner, at = inner[size:], at+size
	}
	return s.arena[from:len(s.arena):len(s.arena)], end, nil
}

// unescape reads the escape that b begins with, a valid one, and tells how long it is. Half a
// surrogate pair is utf8.RuneError.
func unescape(b []byte) (rune, int) {
	switch c := b[1]; c {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(b[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(b[8:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	default:
		return rune(c), 2
	}
}

// stringEnd finds the byte after the closing quote of the string that begins at i, and checks
// what is in between but for UTF-8.
func stringEnd(line []byte, i int) (end int, escaped bool, err error) {
	i++
	for {
		// Eight bytes at a time: quote, backslash and control characters all set their byte's
		// high bit in stop. A carry may set it for a byte above the first one, never below.
		for i+8 <= len(line) {
			x := binary.LittleEndian.Uint64(line[i:])
			quotes := x ^ 0x2222222222222222
			slashes := x ^ 0x5c5c5c5c5c5c5c5c
			stop := ((quotes-ones)&^quotes | (slashes-ones)&^slashes | (x-ones*0x20)&^x) & (ones << 7)
			if stop != 0 {
				i += bits.TrailingZeros64(stop) >> 3
				break
			}
			i += 8
		}
		for i < len(line) && line[i] != '"' && line[i] != '\\' && line[i] >= ' ' {
			i++
		}
		if i == len(line) {
			return i, escaped, fmt.Errorf("the text ends at byte %d within a string", i+1)
		}
		switch line[i] {
		case '"':
			return i + 1, escaped, nil
		case '\\':
			n, ok := escape(line[i:])
			if !ok {
				return i, escaped, fmt.Errorf(`escape %s at byte %d; there are \" \\ \/ \b \f \n \r \t and \u with four hexadecimal digits`, quote(line[i:min(i+6, len(line))]), i+1)
			}
			escaped = true
			i += n
		default:
			return i, escaped, fmt.Errorf("byte %#02x at %d within a string; control characters are escaped in JSON", line[i], i+1)
		}
	}
}

const ones = 0x0101010101010101

// escape tells how long the escape is that b begins with.
func escape(b []byte) (n int, ok bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, true
	case 'u':
		if len(b) >= 6 && unhex[b[2]]|unhex[b[3]]|unhex[b[4]]|unhex[b[5]] >= 0 {
			return 6, true
		}
	}
	return 0, false
}

// hex4 is the value of four hexadecimal digits.
func hex4(b []byte) rune {
	return rune(unhex[b[0]])<<12 | rune(unhex[b[1]])<<8 | rune(unhex[b[2]])<<4 | rune(unhex[b[3]])
}

// value checks the value that begins at i and finds its end. depth counts what is open around
// it.
func (s *scanner) value(line []byte, i, depth int) (int, error) {
	if i == len(line) {
		return i, fmt.Errorf("the text ends at byte %d, where a value belongs", i+1)
	}
	switch c := line[i]; c {
	case '"':
		end, _, err := stringEnd(line, i)
		return end, err
	case '{', '[':
		if depth == maxDepth {
			return i, fmt.Errorf("nested deeper than %d at byte %d", maxDepth, i+1)
		}
		return s.inside(line, i, depth+1)
	case 't':
		return literal(line, i, "true")
	case 'f':
		return literal(line, i, "false")
	case 'n':
		return literal(line, i, "null")
	}
	return number(line, i)
}

// inside checks an object or array.
func (s *scanner) inside(line []byte, i, depth int) (int, error) {
	object, last := line[i] == '{', byte(']')
	if object {
		last = '}'
	}
	i = s.space(line, i+1)
	if i < len(line) && line[i] == last {
		return i + 1, nil
	}
	for {
		var err error
		if object {
			if i == len(line) || line[i] != '"' {
				return i, fmt.Errorf("%s at byte %d, where a name in quotes belongs", show(line, i), i+1)
			}
			if i, _, err = stringEnd(line, i); err != nil {
				return i, err
			}
			i = s.space(line, i)
			if i == len(line) || line[i] != ':' {
				return i, fmt.Errorf("%s at byte %d, where a colon belongs", show(line, i), i+1)
			}
			i = s.space(line, i+1)
		}
		if i, err = s.value(line, i, depth); err != nil {
			return i, err
		}
		i = s.space(line, i)
		if i < len(line) && line[i] == last {
			return i + 1, nil
		}
		if i == len(line) || line[i] != ',' {
			return i, fmt.Errorf("%s at byte %d, where a comma or %q belongs", show(line, i), i+1, last)
		}
		i = s.space(line, i+1)
	}
}

func literal(line []byte, i int, word string) (int, error) {
	end := i + len(word)
	if end <= len(line) && string(line[i:end]) == word {
		return end, nil
	}
	return i, fmt.Errorf("%s at byte %d, where a value belongs", show(line, i), i+1)
}

// number checks a number (RFC 8259 section 6).
func number(line []byte, i int) (int, error) {
	start := i
	if i < len(line) && line[i] == '-' {
		i++
	}
	switch {
	case i < len(line) && line[i] == '0':
		i++
	case i < len(line) && digit(line[i]):
		i = digits(line, i)
	default:
		return i, fmt.Errorf("%s at byte %d, where a value belongs", show(line, i), i+1)
	}
	if i < len(line) && line[i] == '.' {
		i++
		if i == len(line) || !digit(line[i]) {
			return i, fmt.Errorf("number %s at byte %d: no digit behind the point", quote(line[start:i]), start+1)
		}
		i = digits(line, i)
	}
	if i < len(line) && line[i]|0x20 == 'e' {
		i++
		if i < len(line) && (line[i] == '+' || line[i] == '-') {
			i++
		}
		if i == len(line) || !digit(line[i]) {
			return i, fmt.Errorf("number %s at byte %d: no digit in the exponent", quote(line[start:i]), start+1)
		}
		i = digits(line, i)
	}
	return i, nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func digits(line []byte, i int) int {
	for i < len(line) && digit(line[i]) {
		i++
	}
	return i
}
