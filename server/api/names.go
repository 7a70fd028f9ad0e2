package api

// Names that come again and again in a batch. The goroutine of its request.

import (
	"hash/maphash"
)

// names remembers the strings of a batch's lines, so that a name that comes again is neither
// checked nor allocated again. A new name takes the place of one that shares its hash.
type names struct {
	slots [256]string
	used  bool
}

var namesSeed = maphash.MakeSeed()

// find returns the string that equals b, if it is known.
func (n *names) find(b []byte) (string, bool) {
	s := n.slots[uint8(maphash.Bytes(namesSeed, b))]
	return s, s != "" && s == string(b)
}

// add makes s known and returns it. A long one is not worth remembering.
func (n *names) add(s string) string {
	if len(s) <= 255 {
		n.slots[uint8(maphash.String(namesSeed, s))] = s
		n.used = true
	}
	return s
}

// keep returns b as a string, one that is known already if there is one.
func (n *names) keep(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := n.find(b); ok {
		return s
	}
	return n.add(string(b))
}

// forget empties it.
func (n *names) forget() {
	if n.used {
		*n = names{}
	}
}
