package encode

// Strings of JSON, for the data of gaps and envelopes. Any goroutine.

import "unicode/utf8"

// appendJSON appends s as a JSON string (RFC 8259 7) of at most limit bytes,
// counted as a reader gets them. No control character stays as it is, so that
// the string never breaks its data line.
func appendJSON(dst []byte, s string, limit int) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for size := 0; len(s) > 0; {
		r, n := utf8.DecodeRuneInString(s)
		size += utf8.RuneLen(r) // U+FFFD's three bytes where s is not UTF-8
		if size > limit {
			break
		}
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r < ' ' || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
		s = s[n:]
	}
	return append(dst, '"')
}
