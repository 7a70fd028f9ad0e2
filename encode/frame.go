package encode

// Frames: an event's bytes as a stream has them. Publishers' goroutines encode
// here, outside of the sequencer's lock; all of it may be called from any.

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// AppendFrame appends the frame of e but for its end, which AppendID writes:
// the event line if there is a type, a data line for each line of the data, the
// retry line if there is a retry. typeEnd is the length of the event line, 0
// without one, so that it can be left out or replaced for those who ask for
// another name.
//
// Data are split at LF, CRLF and CR, as a client will (WHATWG HTML 9.2.6);
// n line breaks make n+1 data lines, and empty data are one empty line, for an
// event without any data line is none. e must have passed Check.
func AppendFrame(dst []byte, e *Event) (frame []byte, typeEnd int) {
	if e.Type != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, e.Type...)
		dst = append(dst, '\n')
		typeEnd = len("event: \n") + len(e.Type)
	}
	dst = appendData(dst, e.Data)
	if e.Retry > 0 {
		dst = appendRetry(dst, e.Retry)
	}
	return dst, typeEnd
}

// appendData appends a data line for each line of data. Where the next LF and
// the next CR are is remembered until they are passed: whatever the line ends,
// each byte is looked at twice.
func appendData(dst, data []byte) []byte {
	lf, cr := nextByte(data, 0, '\n'), nextByte(data, 0, '\r')
	at := 0
	for {
		end := min(lf, cr)
		dst = append(dst, "data: "...)
		dst = append(dst, data[at:end]...)
		dst = append(dst, '\n')
		if end == len(data) {
			return dst
		}
		at = end + 1
		if end == cr {
			if at < len(data) && data[at] == '\n' {
				at++ // CRLF is one line break
			}
			cr = nextByte(data, at, '\r')
		}
		if lf < at {
			lf = nextByte(data, at, '\n')
		}
	}
}

// nextByte returns where the first c at or behind from is, len(p) if nowhere.
func nextByte(p []byte, from int, c byte) int {
	if i := bytes.IndexByte(p[from:], c); i >= 0 {
		return from + i
	}
	return len(p)
}

func appendRetry(dst []byte, retry int) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, int64(retry), 10)
	return append(dst, '\n')
}

// FrameSize returns how many bytes AppendFrame would append for e. Data of line
// breaks alone grow to seven times their size, so that whoever bounds frames
// asks before memory is spent.
func FrameSize(e *Event) int {
	size := len("data: \n") + len(e.Data)
	if e.Type != "" {
		size += len("event: \n") + len(e.Type)
	}
	if e.Retry > 0 {
		size += len("retry: \n")
		for n := e.Retry; n > 0; n /= 10 {
			size++
		}
	}
	// A line break of one byte becomes "\ndata: ".
	size += bytes.Count(e.Data, []byte{'\n'}) * len("data: ")
	for cr := nextByte(e.Data, 0, '\r'); cr < len(e.Data); cr = nextByte(e.Data, cr+1, '\r') {
		if cr+1 < len(e.Data) && e.Data[cr+1] == '\n' {
			size-- // the CR goes, its LF was counted
		} else {
			size += len("data: ")
		}
	}
	return size
}

// AppendStart appends a stream's first block: the reconnection time in
// milliseconds and, if withID, the id where the stream starts, so that a client
// that is cut off before its first event resumes there. A block without data
// fires nothing, but its id counts (WHATWG HTML 9.2.6).
func AppendStart(dst []byte, retry int, id uint64, withID bool) []byte {
	dst = appendRetry(dst, retry)
	if withID {
		return AppendID(dst, id)
	}
	return append(dst, '\n')
}

// AppendHello appends a stream's first block as AppendStart does, and makes it an
// event that says where the stream starts, whether it resumed there, and who
// serves it: for clients that can't see a block without data.
func AppendHello(dst []byte, retry int, id uint64, withID, resumed bool, version string) []byte {
	dst = append(dst, `event: hello`+"\n"+`data: {"id":"`...)
	if withID {
		dst = strconv.AppendUint(dst, id, 10)
	}
	dst = append(dst, `","resumed":`...)
	dst = strconv.AppendBool(dst, resumed)
	dst = append(dst, `,"server":"penstock","version":`...)
	dst = appendJSON(dst, version, len(version)*utf8.UTFMax)
	dst = append(dst, "}\n"...)
	return AppendStart(dst, retry, id, withID)
}
