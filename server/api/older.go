package api

// With a backplane: what it is asked, and streams that begin before this node's ring does. Any
// goroutine that may wait, but for asksBackplane: the accept thread too.
//
// What is older than the ring is answered as a stream of its own that ends: pieces of the past from
// the backplane, each of bounded size, until the client's last id is one that the ring goes on
// from. No shard has to do with it.

import (
	"errors"
	"io"
	"strconv"

	"penstock/encode"
	"penstock/server/fanout"
	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// A publisher takes events: the sequencer, or the backplane.
type publisher interface {
	Publish(p *topic.Publication) (id uint64, err error)
	PublishBatch(ps []topic.Publication, ids []uint64) (fresh int, err error)
	End(name string) (id uint64, err error)
}

// A Backplane carries events between nodes and has more of the past than this one. Any goroutine.
type Backplane interface {
	publisher
	Past
	// Older returns what there is of the topics and patterns behind an id, at most a piece. The error
	// is topic.ErrBusy, or that the backplane can't be reached. It may wait.
	Older(names []string, patterns []topic.Pattern, after uint64) (*topic.Piece, error)
	// Await waits until this node has come to an id that is known elsewhere. It may wait.
	Await(id uint64) (known bool, err error)
	// Ready tells why nothing new should be sent here.
	Ready() error
	// Ask returns what each node says of itself (API.Tell). It may wait.
	Ask() ([][]byte, error)
	// Stats returns its figures.
	Stats() topic.BackplaneStats
}

// asksBackplane tells whether a stream can't begin before the backplane was asked: the client has
// an id that this node does not know yet, or one from which the ring may not lead on. One that
// wants the newest events alone is not asked for.
func (a *API) asksBackplane(r *request, sub *fanout.Subscription) bool {
	if a.o.Backplane == nil || !sub.Resume || r.head {
		return false
	}
	return sub.LastID > a.o.Sequencer.NewestID() || !sub.Latest && a.o.Sequencer.Misses(sub.Topics, sub.Patterns, sub.LastID)
}

// mostPieces is how many empty pieces are asked for before the ring alone has to do.
const mostPieces = 3

// older asks the backplane. It returns what has to be sent first, nil where the stream may begin, the
// subscription's last id being moved over what has nothing for it.
func (a *API) older(sub *fanout.Subscription) (*olderStream, *failure) {
	b := a.o.Backplane
	if sub.LastID > a.o.Sequencer.NewestID() {
		switch known, err := b.Await(sub.LastID); {
		case err != nil:
			return nil, a.unavailable(backplaneLost, "this node does not know that id yet: "+err.Error()+"; come back in a moment")
		case !known:
			sub.Resume, sub.BadID = false, strconv.FormatUint(sub.LastID, 10)
			return nil, nil
		}
	}
	if sub.Latest {
		return nil, nil
	}
	for range mostPieces {
		if !a.o.Sequencer.Misses(sub.Topics, sub.Patterns, sub.LastID) {
			return nil, nil
		}
		p, err := b.Older(sub.Topics, sub.Patterns, sub.LastID)
		switch {
		case errors.Is(err, topic.ErrBusy):
			return nil, a.unavailable(overHistory, err.Error())
		case err != nil:
			return nil, nil // the ring, and its gap
		}
		// The stream's newest may be an id that this node has not read yet, or never will, for it is no
		// event's. Only events' ids are waited for (Await).
		p.UpTo = min(p.UpTo, a.o.Sequencer.NewestID())
		if len(p.Events) > 0 {
			return renderOlder(sub, p), nil
		}
		p.Free()
		if p.Lost > 0 {
			return nil, nil
		}
		sub.LastID = max(sub.LastID, p.UpTo)
	}
	return nil, nil
}

// olderRetry is after how many milliseconds a client should ask for what follows.
const olderRetry = 10

// answerOlder answers with a stream of a piece, and its end. The client comes back with its new id.
func (a *API) answerOlder(resp *fasthttp.Response, r *request, older *olderStream) {
	r.coding = encode.Identity
	a.streamHeaders(resp, r)
	resp.SetBodyStream(older, len(older.bytes))
}

// An olderStream is the bytes of a piece on their way. The piece is in hand until they are sent.
type olderStream struct {
	bytes []byte
	free  func()
}

func (o *olderStream) Read(p []byte) (int, error) {
	if len(o.bytes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, o.bytes)
	o.bytes = o.bytes[n:]
	return n, nil
}

// Close gives the piece back. fasthttp calls it when the answer is sent, or can't be.
func (o *olderStream) Close() error {
	if o.free != nil {
		o.free()
		o.free = nil
	}
	return nil
}

// renderOlder makes a piece the bytes that a shard would send.
func renderOlder(sub *fanout.Subscription, p *topic.Piece) *olderStream {
	out := encode.AppendStart(nil, olderRetry, sub.LastID, true)
	told := sub.LastID
	if p.Lost > 0 {
		told = max(told, p.Events[0].ID-1)
		g := encode.Gap{Topics: sub.Topics, After: strconv.FormatUint(sub.LastID, 10), Before: p.Lost, Reason: encode.GapResume}
		for _, pattern := range sub.Patterns {
			g.Topics = append(g.Topics, pattern.String())
		}
		out = encode.AppendGap(out, &g, told)
	}
	var frame []byte
	for i := range p.Events {
		e := &p.Events[i]
		out, frame = appendArrival(out, frame, e, sub.Form)
		told = e.ID
	}
	if p.UpTo > told {
		out = encode.AppendHeartbeatID(out, p.UpTo) // there is nothing else for it so far
	}
	return &olderStream{out, p.Free}
}

// appendArrival appends an event as a shard would send it. frame is scratch.
func appendArrival(dst, frame []byte, e *topic.Arrival, form encode.Form) (out, scratch []byte) {
	if e.End {
		dst, _ = encode.AppendEnd(dst, e.Topic)
		return encode.AppendID(dst, e.ID), frame
	}
	frame, typeEnd := encode.AppendFrame(frame[:0], &e.Event)
	frame = encode.AppendID(frame, e.ID)
	return encode.AppendForm(dst, frame, typeEnd, e.Topic, form), frame
}
