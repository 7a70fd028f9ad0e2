package topic

// The grammar of topics and patterns. Any goroutine.

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName is how long a topic or a pattern may be, in bytes.
const MaxName = 255

const (
	nameRule    = "a topic is 1 to 255 bytes of UTF-8, tokens joined by single dots"
	byteRule    = "a token has no space, no control character and none of / , ? # % * >"
	patternRule = "in a pattern * stands for one token, and > or ** as the last one for one or more"
)

// ParseName returns s if it is a topic: 1 to 255 bytes of UTF-8, tokens joined by
// dots, each of at least one character and without space, control characters
// (C0, DEL, C1) and / , ? # % * >. It is the grammar of NATS subjects, so
// that a topic is a subject. The error names the byte and what is allowed.
//
// Names of the server's own topics ($...) are names too: see IsOwn. Any goroutine.
func ParseName(s string) (string, error) {
	if err := check("topic", s, false); err != nil {
		return "", err
	}
	return s, nil
}

// A Pattern is what a subscription names: a topic, or a topic with wildcards. The
// zero value is none; two patterns that ask for the same are equal.
type Pattern struct {
	text string // with > for **
	wild bool
}

// ParsePattern returns s as a pattern: a topic in which a whole token may be * (one
// token), and the last one > or ** (one or more). A topic without wildcards
// is a pattern too: Plain tells. The error names the byte and what is allowed. Any goroutine.
func ParsePattern(s string) (Pattern, error) {
	if err := check("pattern", s, true); err != nil {
		return Pattern{}, err
	}
	if s == "**" || strings.HasSuffix(s, ".**") {
		s = s[:len(s)-2] + ">"
	}
	return Pattern{s, strings.ContainsAny(s, "*>")}, nil
}

// String returns the pattern with > for a last **. Any goroutine.
func (p Pattern) String() string { return p.text }

// Plain reports whether the pattern is a topic, without wildcards. Any goroutine.
func (p Pattern) Plain() bool { return !p.wild }

// IsOwn reports whether a name is the server's own: its first token starts with $.
// Nobody but the server publishes there. Any goroutine.
func IsOwn(name string) bool { return name != "" && name[0] == '$' }

// forbidden are the ASCII bytes that no token has. The dot is not one of them.
var forbidden = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c <= ' ' || c == 0x7f || strings.IndexByte("/,?#%*>", byte(c)) >= 0
	}
	return t
}()

// check tells what is wrong with a name, or with a pattern if wild.
func check(what, s string, wild bool) error {
	if s == "" {
		return fmt.Errorf("%s \"\": empty; %s", what, nameRule)
	}
	if len(s) > MaxName {
		return fmt.Errorf("%s %.40q...: %d bytes; %s", what, s, len(s), nameRule)
	}
	token := 0 // where it begins
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '.':
			if i == token {
				return fmt.Errorf("%s %q: empty token at byte %d; tokens are joined by single dots", what, s, i)
			}
			token = i + 1
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				return fmt.Errorf("%s %q: byte %#02x at byte %d is not UTF-8; %s", what, s, c, i, nameRule)
			}
			if r <= 0x9f {
				return fmt.Errorf("%s %q: control character %U at byte %d; %s", what, s, r, i, byteRule)
			}
			i += n
			continue
		case !forbidden[c]:
		case c != '*' && c != '>':
			return fmt.Errorf("%s %q: %q at byte %d; %s", what, s, c, i, byteRule)
		case !wild:
			return fmt.Errorf("%s %q: wildcard %q at byte %d; a topic that is published to has none", what, s, c, i)
		default:
			n, err := wildcard(s, i, token)
			if err != nil {
				return err
			}
			i += n
			continue
		}
		i++
	}
	if token == len(s) {
		return fmt.Errorf("%s %q: empty token at byte %d; tokens are joined by single dots", what, s, token)
	}
	return nil
}

// wildcard returns the length of the wildcard at s[i], which must be the whole of
// the token that begins at token.
func wildcard(s string, i, token int) (int, error) {
	n := 1
	if strings.HasPrefix(s[i:], "**") {
		n = 2
	}
	w := s[i : i+n]
	switch last := i+n == len(s); {
	case i != token || !last && s[i+n] != '.':
		return 0, fmt.Errorf("pattern %q: %s at byte %d is not a whole token; %s", s, w, i, patternRule)
	case w != "*" && !last:
		return 0, fmt.Errorf("pattern %q: %s at byte %d is not the last token; %s", s, w, i, patternRule)
	}
	return n, nil
}
