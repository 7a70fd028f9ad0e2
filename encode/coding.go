package encode

// Codings: what a stream's bytes went through before they were sent. Any goroutine.

import "strconv"

// A Coding is the content coding of a stream (RFC 9110 8.4.1). Subscribers of
// different codings receive different bytes, so that it is part of what tells
// audiences apart.
type Coding uint8

// Identity: the bytes as they are.
const Identity Coding = 0

// String returns the coding's name as Content-Encoding has it.
func (c Coding) String() string {
	if c == Identity {
		return "identity"
	}
	return "coding " + strconv.Itoa(int(c))
}
