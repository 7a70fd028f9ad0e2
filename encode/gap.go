package encode

// The gap event: what a subscriber is told when events are lost for it.
// Any goroutine; usually the shard's thread.

import (
	"strconv"
	"unicode/utf8"
)

// Why there is a gap: Gap.Reason.
const (
	GapLag       = "lag"        // the subscriber was too slow and fell off the ring
	GapResume    = "resume"     // it came back too late
	GapRestart   = "restart"    // the server has been restarted since
	GapUnknownID = "unknown-id" // its Last-Event-ID can't be, or is newer than the newest
)

// maxGapAfter bounds Gap.After on the wire, in bytes before JSON's escapes: it
// may be anything that a client chose to send.
const maxGapAfter = 64

// A Gap says which events are lost: on Topics, those after After and before
// Before, but for those that follow it on the stream. Its JSON form is the data
// of the gap event, so that json.Unmarshal reads one.
type Gap struct {
	Topics []string `json:"topics"`        // that lost something, or the subscription's own
	After  string   `json:"after"`         // an id, or what the client sent for one
	Before uint64   `json:"before,string"` // the id at the ring's tail
	Reason string   `json:"reason"`        // one of the Gap constants
}

// AppendGap appends the gap event g with the id given, its end included. After
// is escaped for JSON and cut at 64 bytes, at a character's border; bytes in it
// that are not UTF-8 become U+FFFD. That there are not too many topics is the
// caller's matter.
func AppendGap(dst []byte, g *Gap, id uint64) []byte {
	dst = append(dst, "event: gap\ndata: {\"topics\":["...)
	for i, topic := range g.Topics {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, topic, len(topic)*utf8.UTFMax)
	}
	dst = append(dst, `],"after":`...)
	dst = appendJSON(dst, g.After, maxGapAfter)
	dst = append(dst, `,"before":"`...)
	dst = strconv.AppendUint(dst, g.Before, 10)
	dst = append(dst, `","reason":`...)
	dst = appendJSON(dst, g.Reason, len(g.Reason)*utf8.UTFMax)
	dst = append(dst, "}\n"...)
	return AppendID(dst, id)
}
