package encode

// The end event: that a topic is over. Publishers' goroutines encode it, outside of
// the sequencer's lock; any goroutine may.

import (
	"strings"
	"unicode/utf8"
)

const endStart = "event: end\ndata: {\"topic\":"

// AppendEnd appends the frame that says that a topic has ended, but for its id, which
// AppendID writes. typeEnd is the length of its event line, as of AppendFrame.
func AppendEnd(dst []byte, topic string) (frame []byte, typeEnd int) {
	dst = append(dst, endStart...)
	dst = appendJSON(dst, topic, len(topic)*utf8.UTFMax)
	return append(dst, "}\n"...), len("event: end\n")
}

// EndSize returns how many bytes AppendEnd would append for a topic, which must be a valid
// one: it has no control characters.
func EndSize(topic string) int {
	return len(endStart) + len(`""`) + len(topic) + strings.Count(topic, `"`) + strings.Count(topic, `\`) + len("}\n")
}
