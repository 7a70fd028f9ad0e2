package topic

// Which topic was longest unpublished? Two heaps of the sequencer ask.
//
// With the sequencer's lock.

// aging is a topic's place in a heap, plus one; 0 when it is not there.
type aging int32

// An ageHeap has topics, the one longest unpublished first.
//
// Publishing does not touch it: an entry's id is that of the topic's newest event when it
// was put in or last looked at. As ids only grow, the first one is the right one as
// soon as its id is still true; if not, it is put right and sinks. Most topics are put
// in in the order of their ids, so that adding moves nothing.
type ageHeap struct {
	at     func(*Topic) *aging // which of a topic's places is this heap's
	chunks [][]aged            // so that growing never copies it all
	len    int
}

type aged struct {
	id    uint64
	topic *Topic
}

const ageChunk = 1 << 10

func (h *ageHeap) entry(i int) *aged { return &h.chunks[i/ageChunk][i%ageChunk] }

// put stores an entry in place i.
func (h *ageHeap) put(i int, e aged) {
	*h.entry(i) = e
	*h.at(e.topic) = aging(i + 1)
}

// add puts a topic in, with its newest id, unless it is there.
func (h *ageHeap) add(t *Topic) {
	if *h.at(t) != 0 {
		return
	}
	if h.len == len(h.chunks)*ageChunk {
		h.chunks = append(h.chunks, make([]aged, ageChunk))
	}
	h.len++
	h.rise(h.len-1, aged{t.newest.Load(), t})
}

// remove takes a topic out, if it is there.
func (h *ageHeap) remove(t *Topic) {
	i := int(*h.at(t)) - 1
	if i < 0 {
		return
	}
	*h.at(t) = 0
	h.len--
	last := *h.entry(h.len)
	*h.entry(h.len) = aged{}
	// One spare chunk stays, so that a heap at a border does not make one again and again.
	if n := h.len/ageChunk + 2; len(h.chunks) > n {
		h.chunks[n] = nil
		h.chunks = h.chunks[:n]
	}
	if i == h.len {
		return
	}
	if i > 0 && h.entry((i-1)/4).id > last.id {
		h.rise(i, last)
	} else {
		h.sink(i, last)
	}
}

// first returns the topic with the least id, nil in an empty heap. fresh is false
// when that id was not true any more: the topic has now been put in its right place,
// and the caller asks again if it has the time.
func (h *ageHeap) first() (t *Topic, fresh bool) {
	if h.len == 0 {
		return nil, true
	}
	e := *h.entry(0)
	id := e.topic.newest.Load()
	if id == e.id {
		return e.topic, true
	}
	e.id = id
	h.sink(0, e)
	return e.topic, false
}

// rise puts e into place i or, as long as it is older than the one above, above.
func (h *ageHeap) rise(i int, e aged) {
	for i > 0 {
		above := (i - 1) / 4
		if h.entry(above).id <= e.id {
			break
		}
		h.put(i, *h.entry(above))
		i = above
	}
	h.put(i, e)
}

// sink puts e into place i or, as long as one below is older, below.
func (h *ageHeap) sink(i int, e aged) {
	for {
		least, id := -1, e.id
		for below := 4*i + 1; below <= 4*i+4 && below < h.len; below++ {
			if b := h.entry(below).id; b < id {
				least, id = below, b
			}
		}
		if least < 0 {
			break
		}
		h.put(i, *h.entry(least))
		i = least
	}
	h.put(i, e)
}
