package fanout

// Portions: which streams of the shards that were go to which descriptor table, and which shard, of
// those that will be.
//
// The streams are numbered as they stand in a State, shard after shard, and a portion is a run of
// them: so audiences stay together as far as can be, and a socket's place is told by a number. Where
// there are as many shards as there were, each gets what it had; else they are filled as streams that
// join fill them. No thread in particular.

import (
	"fmt"
	"slices"

	"penstock/server/handover"
)

// Rooms tells what takes streams in another process: its descriptor tables.
type Rooms struct {
	Each    []int // the streams that each takes
	Abreast int   // so many are filled alike, before the next ones are; at least 1
	Apart   bool  // each is a shard's own, and has a door; else there is one, the process's
}

// Code writes or reads it.
func (r *Rooms) Code(c *handover.Coder) {
	c.Word("rooms")
	handover.Numbers(c, &r.Each)
	handover.Num(c, &r.Abreast)
	c.Bool(&r.Apart)
	if c.Err() == nil && (len(r.Each) == 0 || r.Abreast < 1 || !r.Apart && len(r.Each) > 1) {
		c.Fail(fmt.Errorf("%d descriptor tables, %d abreast, apart %v", len(r.Each), r.Abreast, r.Apart))
	}
}

// Take tells why so many streams can't be taken; nil if they can.
func (r *Rooms) Take(streams int) error {
	room := 0
	for _, n := range r.Each {
		room += max(0, n)
	}
	if streams <= room {
		return nil
	}
	tables := "one descriptor table"
	if r.Apart {
		tables = fmt.Sprintf("%d descriptor tables", len(r.Each))
	}
	return fmt.Errorf("there are %d streams, and it has room for %d in %s: raise its limit of open files, or --max-connections", streams, room, tables)
}

// Portions divides the streams of st among the tables of another process: how many go to each. The
// error is that of Take.
func (st *State) Portions(r *Rooms) ([]int, error) {
	if err := r.Take(st.Streams()); err != nil {
		return nil, err
	}
	had := make([]int, len(st.shards))
	fit := len(had) == len(r.Each)
	for i := range had {
		had[i] = len(st.shards[i].streams)
		fit = fit && had[i] <= r.Each[i]
	}
	if fit {
		return had, nil
	}
	all := make([]int, 0, len(r.Each))
	left := st.Streams()
	for row := range slices.Chunk(r.Each, r.Abreast) {
		var filled []int
		filled, left = fill(row, left)
		all = append(all, filled...)
	}
	return all, nil
}

// fill divides n among tables evenly, as far as there is room, and returns what is left.
func fill(rooms []int, n int) (portions []int, left int) {
	portions = make([]int, len(rooms))
	for n > 0 {
		open := 0
		for i, room := range rooms {
			if portions[i] < room {
				open++
			}
		}
		if open == 0 {
			break
		}
		for i, room := range rooms {
			if portions[i] < room {
				more := min((n+open-1)/open, room-portions[i])
				portions[i] += more
				n -= more
				open--
			}
		}
	}
	return portions, n
}

// A stretch is streams that one shard had, and one portion gets.
type stretch struct {
	from, at  int // the shard, and the place of the first one of them there
	to, first int // the portion, and the number of the first one of them in it
	count     int
}

// stretches cuts the streams where shards and portions end.
func (st *State) stretches(portions []int) (all []stretch) {
	to, first := 0, 0
	for i := range st.shards {
		for at := 0; at < len(st.shards[i].streams); {
			for first == portions[to] {
				to, first = to+1, 0
			}
			n := min(len(st.shards[i].streams)-at, portions[to]-first)
			all = append(all, stretch{from: i, at: at, to: to, first: first, count: n})
			at += n
			first += n
		}
	}
	return all
}

// split divides the streams among shards by portions, which take them all; sockets are in the
// streams' order.
func (st *State) split(portions []int, sockets []int32) [][]share {
	all := make([][]share, len(portions))
	for _, s := range st.stretches(portions) {
		old := &st.shards[s.from]
		all[s.to] = append(all[s.to], share{state: old, streams: old.streams[s.at : s.at+s.count], sockets: sockets[:s.count]})
		sockets = sockets[s.count:]
	}
	return all
}
