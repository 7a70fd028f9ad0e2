package fanout

// Batches: an audience's frames of one pass, made into bytes once for all.
//
// Everything here runs on the shard's thread.

import (
	"penstock/encode"
	"penstock/ring"
)

// A batch is the frames that an audience is due, in id order, laid out for one
// send: room for a chunk's head, the frames, and the chunk's tail.
type batch struct {
	bytes      []byte
	first, end ring.Position // its frames are the audience's entries in [first, end)
	firstID    uint64
	lastID     uint64
	oldest     int64 // publication time of the first, microseconds
	events     int
}

// Batches that are not in use wait for the next pass; of the bytes that they
// hold, at most this many.
const spareBytes = 4 << 20

// newBatch begins a batch at an entry.
func (sh *shard) newBatch(e ring.Entry, p ring.Position) *batch {
	var b *batch
	if n := len(sh.spare); n > 0 {
		b, sh.spare[n-1] = sh.spare[n-1], nil
		sh.spare = sh.spare[:n-1]
		sh.spareBytes -= cap(b.bytes)
	} else {
		b = &batch{bytes: make([]byte, encode.ChunkHead, 512)}
	}
	b.bytes = b.bytes[:encode.ChunkHead]
	b.first, b.firstID, b.oldest, b.events = p, e.ID(), e.Time(), 0
	return b
}

// add appends an entry by its frame, in the audience's form.
func (b *batch) add(e ring.Entry, p ring.Position, frame []byte) {
	b.bytes = append(b.bytes, frame...)
	b.end = p + ring.Position(e.Size())
	b.lastID = e.ID()
	b.events++
}

// frame is an entry's frame in a form. Others than the publisher's own are made
// when they are asked for, once for all audiences of a pass. The server's own
// events keep theirs.
func (sh *shard) frame(e ring.Entry, form encode.Form) []byte {
	if form == encode.FormType || e.Kind() != ring.Event {
		return e.Frame()
	}
	f := &sh.formed[form]
	if f.id != e.ID() {
		f.id = e.ID()
		f.bytes = encode.AppendForm(f.bytes[:0], e.Frame(), e.TypeEnd(), sh.nameOf(e.Topic()), form)
	}
	return f.bytes
}

// nameOf is the name of the topic with that number, which an audience has asked
// for. A topic of a pattern's past may be forgotten the moment that it is found;
// its name is gone then.
func (sh *shard) nameOf(number uint64) string {
	in := sh.index[number]
	if in == nil {
		if in = sh.judge(number, nil); in == nil {
			return ""
		}
	}
	return in.topic.Name()
}

// A formed is the frame made last in some form.
type formed struct {
	id    uint64 // its event's
	bytes []byte
}

// size is how many bytes of frames the batch holds.
func (b *batch) size() int { return len(b.bytes) - encode.ChunkHead }

// done keeps the batch for another pass.
func (sh *shard) done(b *batch) {
	if sh.spareBytes+cap(b.bytes) <= spareBytes {
		sh.spareBytes += cap(b.bytes)
		sh.spare = append(sh.spare, b)
	}
}

// seal closes what was laid out in buf: head bytes of something else, room for
// a chunk's head, the payload, which stays bare for HTTP/1.0. The result is what is
// to be sent.
//
// The chunk's head ends where the room ends, wherever that lets it begin; what
// stands before the room is moved up to it.
func seal(buf []byte, head int, bare bool) []byte {
	payload := len(buf) - head - encode.ChunkHead
	start := encode.ChunkHead
	if !bare && payload > 0 {
		start = encode.PutChunkHead(buf[head:], payload)
		buf = append(buf, encode.ChunkTail...)
	}
	copy(buf[start:], buf[:head])
	return buf[start:]
}
