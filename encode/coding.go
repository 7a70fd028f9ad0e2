package encode

// Codings: what a stream's bytes went through before they were sent, and which
// one a client is given. Any goroutine.

import (
	"fmt"
	"strconv"
	"strings"
)

// A Coding is the content coding of a stream (RFC 9110 8.4.1). Subscribers of
// different codings receive different bytes, so that it is part of what tells
// audiences apart.
type Coding uint8

const (
	Identity Coding = iota // the bytes as they are
	Gzip                   // deflate with a header and a trailer (RFC 1952)
	codings                // how many there are
)

// String returns the coding's name as Content-Encoding has it.
func (c Coding) String() string {
	switch c {
	case Identity:
		return "identity"
	case Gzip:
		return "gzip"
	}
	return "coding " + strconv.Itoa(int(c))
}

// ParseCoding is the other direction, for settings.
func ParseCoding(name string) (Coding, error) {
	for c := range codings {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("coding %q: unknown; identity or gzip", name)
}

// UnmarshalText is ParseCoding, for settings that are read by type.
func (c *Coding) UnmarshalText(name []byte) (err error) {
	*c, err = ParseCoding(string(name))
	return err
}

// MarshalText writes what UnmarshalText reads.
func (c Coding) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ChooseCoding chooses among the codings offered, best first, and Identity, which
// is always there, by an Accept-Encoding header (RFC 9110 12.5.3): its value, the
// values of all its lines joined with commas, "" where there is none.
//
// The coding with the greatest weight wins, the one offered first where two have
// the same, Identity last. What the header does not name has the weight of "*";
// without a "*" it is not wanted, and Identity is, less than anything else. A
// stream that the client can't read at all is Identity too: it may, and the
// alternative is no stream. An element that breaks the grammar is passed over;
// of one that is named more than once the least weight counts. It allocates
// nothing.
func ChooseCoding(accept string, offered []Coding) Coding {
	const unnamed = -1
	weights := [codings]int{unnamed, unnamed}
	rest := unnamed // of "*"
	for more := accept != ""; more; {
		var element string
		element, accept, more = strings.Cut(accept, ",")
		name, weight, ok := parseWeighted(element)
		if !ok {
			continue
		}
		of := &rest
		switch {
		case name == "*":
		case strings.EqualFold(name, "gzip") || strings.EqualFold(name, "x-gzip"): // 8.4.1.3
			of = &weights[Gzip]
		case strings.EqualFold(name, "identity"):
			of = &weights[Identity]
		default:
			continue
		}
		if *of == unnamed || weight < *of {
			*of = weight
		}
	}
	for c := range weights {
		if weights[c] == unnamed {
			weights[c] = rest
		}
	}
	best, weight := Identity, 0
	for _, c := range offered {
		if c < codings && weights[c] > weight {
			best, weight = c, weights[c]
		}
	}
	if weights[Identity] > weight {
		return Identity
	}
	return best
}

// parseWeighted takes an element of Accept-Encoding apart: a token, and a weight
// in thousandths, 1000 where none is given (RFC 9110 12.4.2). Blanks around both
// are no part of them.
func parseWeighted(element string) (name string, weight int, ok bool) {
	name, parameter, weighted := strings.Cut(element, ";")
	name, weight = strings.Trim(name, " \t"), 1000
	for i := range len(name) {
		if !tokenByte(name[i]) {
			return "", 0, false
		}
	}
	if weighted {
		parameter = strings.Trim(parameter, " \t")
		if len(parameter) < 3 || parameter[0]|0x20 != 'q' || parameter[1] != '=' {
			return "", 0, false
		}
		if weight, ok = parseWeight(parameter[2:]); !ok {
			return "", 0, false
		}
	}
	return name, weight, name != ""
}

// parseWeight reads a qvalue: 0 to 1 with up to three decimals, in thousandths.
func parseWeight(s string) (weight int, ok bool) {
	if s[0] != '0' && s[0] != '1' || len(s) > len("0.000") || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	weight = int(s[0]-'0') * 1000
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		digit := s[i] - '0'
		if digit > 9 {
			return 0, false
		}
		weight += int(digit) * unit
	}
	return weight, weight <= 1000
}
