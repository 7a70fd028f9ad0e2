package api

// Names and values: the query of a URL and a form's body (the WHATWG URL standard's
// application/x-www-form-urlencoded), read strictly. Any goroutine.
//
// fasthttp and net/url differ on what they let pass; here a broken escape is an error, as a
// topic that was meant otherwise would be the wrong topic in silence.

import (
	"bytes"
	"fmt"
)

// pairs walks through names and values. The zero value with text set is ready.
//
// Names and values lie in text itself, or, where they had escapes, in scratch; both stay valid
// as long as they are.
type pairs struct {
	text    []byte
	scratch []byte
	at      int
}

// next returns the next pair; ok is false at the end. Empty pairs (a=1&&b=2) are skipped; one
// without = has an empty value.
func (p *pairs) next() (name, value []byte, ok bool, err error) {
	for p.at < len(p.text) {
		start := p.at
		pair := p.text[start:]
		if i := bytes.IndexByte(pair, '&'); i >= 0 {
			pair = pair[:i]
		}
		p.at += len(pair) + 1
		if len(pair) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(pair, equalsSign)
		valueAt := start + len(name) + 1
		if name, err = p.plain(name, start, true); err != nil {
			return nil, nil, false, err
		}
		if value, err = p.plain(value, valueAt, true); err != nil {
			return nil, nil, false, err
		}
		return name, value, true, nil
	}
	return nil, nil, false, nil
}

var equalsSign = []byte("=")

// plain takes the escapes out of s (RFC 3986 section 2.1), and with plus the + that stands for a
// space. at is where s begins in what the client sent, for the error.
func (p *pairs) plain(s []byte, at int, plus bool) ([]byte, error) {
	i := bytes.IndexByte(s, '%')
	if plus && i < 0 {
		i = bytes.IndexByte(s, '+')
	}
	if i < 0 {
		return s, nil
	}
	from := len(p.scratch)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) || unhex[s[i+1]] < 0 || unhex[s[i+2]] < 0 {
				return nil, fmt.Errorf("escape %s at byte %d: an escape is %% and two hexadecimal digits; %%25 is the %% itself", quote(s[i:min(i+3, len(s))]), at+i)
			}
			p.scratch = append(p.scratch, byte(unhex[s[i+1]]<<4|unhex[s[i+2]]))
			i += 2
		case plus && c == '+':
			p.scratch = append(p.scratch, ' ')
		default:
			p.scratch = append(p.scratch, c)
		}
	}
	return p.scratch[from:len(p.scratch):len(p.scratch)], nil
}

// unhex is a hexadecimal digit's value; negative for what is none.
var unhex = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for c := byte('0'); c <= '9'; c++ {
		t[c] = int8(c - '0')
	}
	for c := byte('a'); c <= 'f'; c++ {
		t[c] = int8(c-'a') + 10
		t[c-'a'+'A'] = t[c]
	}
	return t
}()
