package encode

// Events as a publisher gives them, and the rules that they must keep.
// Any goroutine.

import (
	"fmt"
	"unicode/utf8"
)

const (
	// MaxRetry is the longest reconnection time in milliseconds, nearly 25 days:
	// clients that wait by JavaScript's setTimeout take a longer one for none
	// at all and come back at once.
	MaxRetry = 1<<31 - 1

	// MaxType is the longest event type in bytes: a ring entry's header has 24
	// bits for the place where the frame's event line ends.
	MaxType = 1<<24 - 1 - len("event: \n")
)

// An Event is what a publisher sends: everything of a frame but its id.
type Event struct {
	Type  string // what the event line says; "": no such line, for clients a "message"
	Data  []byte // UTF-8 of any length; clients see each of its CRLF, CR and LF as LF
	Retry int    // the reconnection time it sets, in milliseconds up to MaxRetry; 0: none
}

// Check tells what is wrong with e: a type with a NUL, CR or LF, one that is
// reserved, too long or not UTF-8; data that are not UTF-8; a retry out of
// range. Only a checked event may be encoded. It allocates nothing when all is
// well.
//
// Line breaks would end the type's line (WHATWG HTML 9.2.5), and a NUL is
// refused beside them because not every client carries it. The reserved types
// are the server's own (gap, hello, end, expiring, heartbeat), which a client
// must be able to trust, and EventSource's own (open, error), which could not
// be told from what it fires itself (9.2.2).
func (e *Event) Check() error {
	if e.Type != "" {
		if err := checkType(e.Type); err != nil {
			return err
		}
	}
	if e.Retry < 0 || e.Retry > MaxRetry {
		return fmt.Errorf("retry %d: out of range; 1 to %d milliseconds, 0 for none", e.Retry, MaxRetry)
	}
	if !utf8.Valid(e.Data) {
		i := invalidAt(e.Data)
		return fmt.Errorf("data: byte %#02x at %d of %d is not UTF-8; events carry text only", e.Data[i], i, len(e.Data))
	}
	return nil
}

func checkType(t string) error {
	switch t {
	case "gap", "hello", "end", "expiring", "heartbeat":
		return fmt.Errorf("event type %q: reserved for the server itself, with gap, hello, end, expiring and heartbeat", t)
	case "open", "error":
		return fmt.Errorf("event type %q: reserved for EventSource, which fires open and error itself", t)
	}
	if len(t) > MaxType {
		return fmt.Errorf("event type %.40q...: %d bytes; at most %d", t, len(t), MaxType)
	}
	for i := 0; i < len(t); i++ {
		if c := t[i]; c <= '\r' && (c == '\n' || c == '\r' || c == 0) {
			return fmt.Errorf("event type %.40q: byte %#02x at %d; a type has no NUL, CR or LF", t, c, i)
		}
	}
	if !utf8.ValidString(t) {
		return fmt.Errorf("event type %.40q: not UTF-8 at byte %d", t, invalidAt([]byte(t)))
	}
	return nil
}

// invalidAt returns where p stops to be UTF-8; p must not be valid.
func invalidAt(p []byte) int {
	i := 0
	for i < len(p) {
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return i
}
