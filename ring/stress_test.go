package ring

// One writer at full speed, readers of all kinds that are lapped. Worth most under the race detector.

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

const stressTopics = 7

// stressFrame makes the frame of the entry with that id: its bytes follow from the id, its last
// four are their checksum.
func stressFrame(dst []byte, id uint64) []byte {
	random := rand.New(rand.NewPCG(id, 0))
	n := random.IntN(300)
	if random.IntN(50) == 0 {
		n = random.IntN(16<<10 - 12)
	}
	dst = binary.LittleEndian.AppendUint64(dst[:0], id)
	for i := range n {
		dst = append(dst, byte(id)+byte(i))
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst))
}

// stressEntry tells what is wrong with an entry by itself.
func stressEntry(e Entry, p Position) error {
	frame := e.Frame()
	body := frame[:len(frame)-4]
	if sum := binary.LittleEndian.Uint32(frame[len(body):]); sum != crc32.ChecksumIEEE(body) {
		return fmt.Errorf("entry at %d: checksum %x, its bytes have %x", p, sum, crc32.ChecksumIEEE(body))
	}
	id := binary.LittleEndian.Uint64(body)
	if e.ID() != id || e.Time() != int64(id) || e.Topic() != id%stressTopics || e.Kind() != Event || e.TypeEnd() != len(frame)/2 {
		return fmt.Errorf("entry at %d with the frame of id %d: header %+v", p, id, headerOf(e))
	}
	return nil
}

// stressLinks follows an entry's links as far as they are in reach, and tells what is wrong with them.
func stressLinks(r *Ring, e Entry, p Position) error {
	for n := 0; n < 20; n++ {
		if prev, ok := r.At(e.Prev()); ok {
			if prev.ID() != e.PrevID() || prev.Topic() != e.Topic() || prev.Number() != e.Number()-1 || e.Prev() >= p {
				return fmt.Errorf("entry at %d, %+v: the previous one is %+v", p, headerOf(e), headerOf(prev))
			}
		}
		skip, ok := r.At(e.Skip())
		if !ok {
			return nil
		}
		if skip.Topic() != e.Topic() || skip.Number() != e.Number()&(e.Number()-1) || e.Skip() >= p {
			return fmt.Errorf("entry at %d, %+v: the skip link leads to %+v", p, headerOf(e), headerOf(skip))
		}
		e, p = skip, e.Skip()
	}
	return nil
}

// Readers that are lapped all the time never see a byte that is not what was written, miss nothing that
// they are not told of, and find what they search.
func TestLappedReadersSeeNoTornBytes(t *testing.T) {
	entries := uint64(100_000)
	if testing.Short() {
		entries = 20_000
	}
	r := newRing(t, 64<<10, 16<<10)
	var (
		all          sync.WaitGroup
		over, failed atomic.Bool
		read, lapped atomic.Int64
		searched     atomic.Int64
	)
	fail := func(format string, args ...any) {
		failed.Store(true)
		t.Errorf(format, args...)
	}

	// Walkers: fast ones, and slow ones that give way in the middle of a segment.
	for walker := range 3 {
		all.Go(func() {
			at, last := Position(0), uint64(0)
			whole := true // nothing lost since last
			for !failed.Load() {
				ending := over.Load() // first: what is read after it is all there is
				rd := r.Reader(at, None)
				n := int64(0)
				for e, p, ok := rd.Next(); ok; e, p, ok = rd.Next() {
					if err := stressEntry(e, p); err != nil {
						fail("walker %d: %v", walker, err)
						return
					}
					if e.ID() <= last || whole && e.ID() != last+1 {
						fail("walker %d: id %d after id %d, told of a loss: %t", walker, e.ID(), last, !whole)
						return
					}
					last, whole = e.ID(), true
					if n++; walker > 0 && n%int64(10*walker) == 0 {
						runtime.Gosched()
					}
				}
				read.Add(n)
				at = rd.Position()
				if rd.Lapped() {
					lapped.Add(1)
					at, whole = r.Tail(), false
				} else if ending {
					if last != entries {
						fail("walker %d ends with id %d", walker, last)
					}
					return
				}
				runtime.Gosched()
			}
		})
	}

	// One that follows the links, from the newest entry and from the oldest, and keeps some.
	all.Go(func() {
		type keepsake struct {
			e     Entry
			clone Entry
		}
		var kept []keepsake
		for ; !over.Load() && !failed.Load(); runtime.Gosched() {
			e, p, ok := r.Oldest()
			if !ok {
				continue
			}
			newest, _ := r.Newest()
			for _, e := range []Entry{e, newest} {
				if err := stressEntry(e, p); err != nil {
					fail("oldest or newest: %v", err)
					return
				}
				if err := stressLinks(r, e, None-1); err != nil {
					fail("%v", err)
					return
				}
			}
			if kept = append(kept, keepsake{e, e.Clone()}); len(kept) == 50 {
				for _, k := range kept {
					if headerOf(k.e) != headerOf(k.clone) || string(k.e.Frame()) != string(k.clone.Frame()) {
						fail("a kept entry has changed: %+v, was %+v", headerOf(k.e), headerOf(k.clone))
						return
					}
				}
				kept = kept[:0]
			}
		}
	})

	// Two that search.
	for seed := range uint64(2) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			for ; !over.Load() && !failed.Load(); runtime.Gosched() {
				head := r.Head()
				newest := r.NewestID()
				if newest == 0 {
					continue
				}
				// The newest id is not less than any before the head seen earlier.
				if p := r.After(newest); p < head {
					fail("newest id %d, head %d, but After(%d) is %d", newest, head, newest, p)
					return
				}
				id := newest - min(newest, random.Uint64N(400))
				p := r.After(id)
				if e, ok := r.At(p); ok && p >= head {
					searched.Add(1) // a head of the search, behind which something has come since
				} else if ok {
					if e.ID() <= id {
						fail("After(%d) is the entry of id %d", id, e.ID())
						return
					}
					// The tail's, if it had passed the one looked for; else the very next.
					if oldest, _, ok := r.Oldest(); ok && oldest.ID() <= id && e.ID() != id+1 {
						fail("After(%d) is the entry of id %d, though the ring still begins at id %d", id, e.ID(), oldest.ID())
						return
					}
					searched.Add(1)
				} else if p >= r.Tail() && id < newest && p < head {
					fail("After(%d) is %d, between tail and head, but no entry", id, p)
					return
				}
				if st := r.Stats(); st.Allocated > st.Size || st.Held < 0 || st.Oldest > st.Newest {
					fail("figures: %+v", st)
					return
				}
			}
		})
	}

	var frame []byte
	var last [stressTopics]link
	for i := range last {
		last[i].prev = None
	}
	for id := uint64(1); id <= entries && !failed.Load(); id++ {
		frame = stressFrame(frame, id)
		for !r.Room(len(frame)) {
			r.Drop()
		}
		l := &last[id%stressTopics]
		l.number++
		p := r.Append(Header{
			ID: id, PrevID: l.id, Time: int64(id), Number: l.number, Topic: id % stressTopics,
			Prev: l.prev, Skip: l.skip(), Kind: Event, TypeEnd: len(frame) / 2,
		}, frame)
		l.appended(id, p)
		if id%100 == 0 {
			runtime.Gosched() // for few cores: a time slice is many laps
		}
	}
	over.Store(true)
	all.Wait()
	if err := broken(r); err != nil {
		t.Error(err)
	}
	t.Logf("%d entries written, %d read, lapped %d times, %d found", entries, read.Load(), lapped.Load(), searched.Load())
	if lapped.Load() == 0 || searched.Load() == 0 {
		t.Error("nobody was lapped, or nobody found anything: the test tests nothing")
	}
}

// A reader that keeps up sees every entry, in order, whole.
func TestReaderThatKeepsUpMissesNothing(t *testing.T) {
	const entries = 50_000
	r := newRing(t, 64<<10, 16<<10)
	const readers = 3
	var (
		all  sync.WaitGroup
		seen [readers]struct {
			at atomic.Uint64 // what the writer waits for: nobody is lapped
			_  [apart]byte
		}
	)
	for i := range readers {
		all.Go(func() {
			at, last := Position(0), uint64(0)
			for last < entries {
				rd := r.Reader(at, r.Head())
				for e, p, ok := rd.Next(); ok; e, p, ok = rd.Next() {
					if err := stressEntry(e, p); err != nil || e.ID() != last+1 {
						t.Errorf("reader %d: id %d after id %d: %v", i, e.ID(), last, err)
						last = entries
						break
					}
					last++
				}
				if rd.Lapped() {
					t.Errorf("reader %d: lapped after id %d", i, last)
					break
				}
				at = rd.Position()
				seen[i].at.Store(uint64(at))
				runtime.Gosched()
			}
			seen[i].at.Store(uint64(None))
		})
	}
	var frame []byte
	for id := uint64(1); id <= entries; id++ {
		frame = stressFrame(frame, id)
		for !r.Room(len(frame)) {
			oldest, p, _ := r.Oldest()
			for i := range seen {
				for seen[i].at.Load() < uint64(p)+uint64(oldest.Size()) {
					runtime.Gosched()
				}
			}
			r.Drop()
		}
		r.Append(Header{ID: id, Time: int64(id), Topic: id % stressTopics, Prev: None, Skip: None, Kind: Event, TypeEnd: len(frame) / 2}, frame)
	}
	all.Wait()
}
