package encode

// Forms: the same event for those who want to be told its topic. Made from the
// frame once for all who ask for the same form, on the shard's thread; all of it
// may be called from any goroutine.

import (
	"bytes"
	"encoding/json"
	"sync"
)

// A Form is what a subscriber gets of an event beside its data.
type Form uint8

const (
	// FormType is the frame as it was published: its event line has the
	// publisher's type, or it has none.
	FormType Form = iota
	// FormTopic has the topic in the event line, so that a client can listen
	// for one of several topics.
	FormTopic
	// FormEnvelope has one line of JSON for its data: {"topic":...,"event":...,
	// "data":...}, event left out where there is none, and no event line. The
	// data are compacted where they are JSON, else they are a string.
	FormEnvelope
)

// AppendForm appends a whole frame, as AppendFrame and AppendID made it, in another
// form. typeEnd is what AppendFrame returned for it.
func AppendForm(dst, frame []byte, typeEnd int, topic string, form Form) []byte {
	switch form {
	case FormTopic:
		dst = append(dst, "event: "...)
		dst = append(dst, topic...)
		dst = append(dst, '\n')
		return append(dst, frame[typeEnd:]...)
	case FormEnvelope:
		return appendEnvelope(dst, frame, typeEnd, topic)
	}
	return append(dst, frame...)
}

// AppendWithoutID appends a whole frame without its id line: for an event that is
// older than where its stream begins, so that the client's last id stays.
func AppendWithoutID(dst, frame []byte) []byte {
	// The id is the last line before the empty one.
	end := bytes.LastIndexByte(frame[:len(frame)-2], '\n') + 1
	dst = append(dst, frame[:end]...)
	return append(dst, '\n')
}

// buffers are for the data of an envelope while it is made.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func appendEnvelope(dst, frame []byte, typeEnd int, topic string) []byte {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	data, rest := cutData(b, frame[typeEnd:])

	dst = append(dst, `data: {"topic":`...)
	dst = appendJSON(dst, topic, len(topic))
	if typeEnd > 0 {
		dst = append(dst, `,"event":`...)
		name := frame[len("event: ") : typeEnd-1]
		dst = appendJSON(dst, string(name), len(name))
	}
	dst = append(dst, `,"data":`...)
	if joined := b.Len(); json.Compact(b, data) == nil {
		dst = append(dst, b.Bytes()[joined:]...)
	} else {
		dst = appendJSON(dst, string(data), len(data))
	}
	dst = append(dst, "}\n"...)
	return append(dst, rest...)
}

// cutData takes the data lines off a frame without an event line: what a client
// makes of them, and what is behind. Several lines are joined in b.
func cutData(b *bytes.Buffer, frame []byte) (data, rest []byte) {
	const label = "data: "
	for first := true; bytes.HasPrefix(frame, []byte(label)); first = false {
		end := bytes.IndexByte(frame, '\n')
		line := frame[len(label):end]
		frame = frame[end+1:]
		if first && !bytes.HasPrefix(frame, []byte(label)) {
			return line, frame
		}
		if !first {
			b.WriteByte('\n')
		}
		b.Write(line)
	}
	return b.Bytes(), frame
}
