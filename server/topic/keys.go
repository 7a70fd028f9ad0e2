package topic

// Idempotent publishes: what was published with which key, so that a retried one is not doubled.
//
// Publishers' goroutines, with a lock of their own; a publish without a key never comes here. A
// publisher that finds its key in hand by another waits for that one, holding nothing: no wait is
// for somebody who waits.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxKey is the length of the longest key, in bytes.
const MaxKey = 255

// keyTime is for how long a key is remembered after its event was published.
const keyTime = 2 * time.Minute

// CheckKey tells what is wrong with a key. Any goroutine.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("the key is empty; a key has 1 to 255 bytes")
	case len(key) > MaxKey:
		return fmt.Errorf("the key has %d bytes; at most %d", len(key), MaxKey)
	case !utf8.ValidString(key):
		return errors.New("the key is not UTF-8")
	}
	for i, r := range key {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return fmt.Errorf("the key has the control character %U at byte %d; it takes none", r, i+1)
		}
	}
	return nil
}

// A keyHash stands for a topic and a key. Nobody finds two with the same one, so that it may
// stand for them, and it is as good in another process.
type keyHash [16]byte

func hashKey(topic, key string) (h keyHash) {
	var room [2 * MaxKey]byte
	text := append(room[:0], topic...)
	text = append(append(text, 0), key...) // no topic has a 0 in it
	sum := sha256.Sum256(text)
	copy(h[:], sum[:])
	return h
}

// keys remembers the newest keys. With its lock:
//
//  1. the keys in queue are those in known, each once, in the order of their times, at most max;
//  2. no key is in known and in flight at once.
type keys struct {
	max int
	now func() time.Duration // since any moment; it never goes back

	mu       sync.Mutex
	known    map[keyHash]uint64  // the id that the first publish got
	queue    [][]knownKey        // in chunks, the oldest first
	skip     int                 // how many of the first chunk are gone
	inFlight map[keyHash]*flight // being published
	repeats  uint64
}

type knownKey struct {
	hash keyHash
	at   time.Duration
}

// keyChunk is how many keys a chunk of the queue holds.
const keyChunk = 1024

// A flight is a publish with keys that has begun.
type flight struct{ done chan struct{} }

func newKeys(most int) keys {
	start := time.Now()
	return keys{
		max:      most,
		now:      func() time.Duration { return time.Since(start) },
		known:    make(map[keyHash]uint64),
		inFlight: make(map[keyHash]*flight),
	}
}

// A keyed is a batch with keys: which of it is new, and where the ids of the rest come from.
type keyed struct {
	flight  *flight
	settled bool
	hashes  []keyHash // of the new ones; the zero value where there is no key
	fresh   []Publication
	at      []int       // where in the batch they stand
	twins   map[int]int // who has the same key as an earlier one of the batch: that one
}

// take claims all of a batch's keys that are new, in one step, and stores the ids of those that
// are known. While one of them is in flight it waits, holding none.
func (k *keys) take(ps []Publication, ids []uint64) *keyed {
	hashes := make([]keyHash, len(ps))
	for i := range ps {
		if ps[i].Key != "" {
			hashes[i] = hashKey(ps[i].Topic, ps[i].Key)
		}
	}
	for {
		b, other := k.tryTake(ps, ids, hashes)
		if other == nil {
			return b
		}
		<-other.done
	}
}

// tryTake is take, or answers who to wait for.
func (k *keys) tryTake(ps []Publication, ids []uint64, hashes []keyHash) (b *keyed, other *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLocked(k.now() - keyTime)
	for i := range ps {
		if f := k.inFlight[hashes[i]]; f != nil {
			return nil, f
		}
	}
	b = &keyed{flight: &flight{make(chan struct{})}}
	var first map[keyHash]int
	for i, h := range hashes {
		if ps[i].Key != "" {
			if id, ok := k.known[h]; ok {
				ids[i] = id
				k.repeats++
				continue
			}
			if j, ok := first[h]; ok {
				if b.twins == nil {
					b.twins = make(map[int]int)
				}
				b.twins[i] = j
				k.repeats++
				continue
			}
			if first == nil {
				first = make(map[keyHash]int)
			}
			first[h] = i
			k.inFlight[h] = b.flight
		}
		b.hashes = append(b.hashes, h)
		b.fresh = append(b.fresh, ps[i])
		b.at = append(b.at, i)
	}
	return b, nil
}

// settle ends a flight: with the ids that its new events got its keys are known from now on,
// without them it is as if they had never been used. What was settled before stays so.
func (k *keys) settle(b *keyed, ids []uint64) {
	if b.settled {
		return
	}
	b.settled = true
	k.mu.Lock()
	now := k.now()
	for i, h := range b.hashes {
		if b.fresh[i].Key == "" {
			continue
		}
		delete(k.inFlight, h)
		if ids != nil {
			k.rememberLocked(h, ids[i], now)
		}
	}
	k.mu.Unlock()
	close(b.flight.done)
}

func (k *keys) rememberLocked(h keyHash, id uint64, at time.Duration) {
	if len(k.known) >= k.max {
		k.forgetOldestLocked()
	}
	last := len(k.queue) - 1
	if last < 0 || len(k.queue[last]) == keyChunk {
		k.queue = append(k.queue, make([]knownKey, 0, keyChunk))
		last++
	}
	k.queue[last] = append(k.queue[last], knownKey{h, at})
	k.known[h] = id
}

// forgetLocked forgets what was published before a time.
func (k *keys) forgetLocked(before time.Duration) {
	for len(k.queue) > 0 && k.queue[0][k.skip].at < before {
		k.forgetOldestLocked()
	}
}

func (k *keys) forgetOldestLocked() {
	delete(k.known, k.queue[0][k.skip].hash)
	k.skip++
	if k.skip == len(k.queue[0]) {
		// All of a chunk is gone, or of the only one: the queue never begins with an empty rest.
		k.queue[0] = nil
		k.queue, k.skip = k.queue[1:], 0
	}
}

// export appends the keys that are known, the oldest first, with their ages.
func (k *keys) export(dst []keyState) []keyState {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, skip := k.now(), k.skip
	for _, chunk := range k.queue {
		for _, known := range chunk[skip:] {
			dst = append(dst, keyState{known.hash, k.known[known.hash], now - known.at})
		}
		skip = 0
	}
	return dst
}

// load remembers the keys of another process.
func (k *keys) load(all []keyState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for i := range all {
		k.rememberLocked(all[i].hash, all[i].id, now-all[i].age)
	}
}

// figures are how many keys are known now, and how often one was used again.
func (k *keys) figures() (known int, repeats uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLocked(k.now() - keyTime)
	return len(k.known), k.repeats
}

// publishKeyed publishes a judged batch of which some have keys. It returns how many events are
// new.
func (s *Sequencer) publishKeyed(ps []Publication, ids []uint64) (fresh int, err error) {
	b := s.keys.take(ps, ids)
	defer func() { s.keys.settle(b, nil) }() // whatever happens: others may wait
	var got []uint64
	if len(b.fresh) > 0 {
		got = make([]uint64, len(b.fresh))
		if err := s.publishBatch(b.fresh, got, b); err != nil {
			var one *BatchError
			if errors.As(err, &one) {
				one.Index = b.at[one.Index]
			}
			return 0, err
		}
	}
	for i, at := range b.at {
		ids[at] = got[i]
	}
	for at, twin := range b.twins {
		ids[at] = ids[twin]
	}
	return len(b.fresh), nil
}
