package loadtest

// When events are due, and in which lane: fixed before the run begins, whatever the server does.
//
// A publisher's thread owns its schedules. A schedule is a few numbers and no list, so that a run
// of days takes no more memory than one of seconds.

import (
	"math"
	"math/rand/v2"
	"sort"
	"time"
)

// burstSizes is how many events come at once when they come in bursts: the shape is that of
// trades of one symbol within a second on an exchange, half of them few, one in twenty very many.
var burstSizes = [20]int{1, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 10, 12, 15, 18, 25, 60}

var meanBurst = func() float64 {
	sum := 0
	for _, n := range burstSizes {
		sum += n
	}
	return float64(sum) / float64(len(burstSizes))
}()

// A schedule is one publisher's.
type schedule struct {
	lanes  []uint32
	upTo   []float64 // sums of the lanes' weights, where they differ
	turn   int
	rng    *rand.Rand
	every  float64 // nanoseconds between two events, on average; 0: as acknowledged; below 0: never
	at     float64 // when the next one is due
	bursts bool
	left   int // of the burst
	lane   uint32
}

// newSchedules makes one for each publisher; the first events are due at start.
func newSchedules(p *plan, start int64) []schedule {
	out := make([]schedule, p.cfg.Publishers)
	weight := func(l int) float64 {
		if p.cfg.Zipf == 0 {
			return 1
		}
		return math.Pow(float64(l%p.cfg.Topics+1), -p.cfg.Zipf)
	}
	all := 0.0
	for l := range p.lanes {
		all += weight(l)
	}
	for i := range out {
		s := &out[i]
		s.rng = rand.New(rand.NewPCG(p.cfg.Seed, 1<<32+uint64(i)))
		s.bursts = p.cfg.Bursts
		mine := 0.0
		for l := i; l < p.lanes; l += p.cfg.Publishers {
			mine += weight(l)
			s.lanes = append(s.lanes, uint32(l))
			if p.cfg.Zipf != 0 {
				s.upTo = append(s.upTo, mine)
			}
		}
		if p.cfg.Rate != AsAcknowledged {
			s.every = float64(time.Second) / (float64(p.cfg.Rate) * mine / all)
		}
		// Publishers take turns, they do not all speak at once.
		s.at = float64(start) + s.every*float64(i)/float64(len(out))
	}
	return out
}

// due answers when the next event is due; 0: as soon as it can be sent.
func (s *schedule) due() int64 {
	if s.every == 0 {
		return 0
	}
	return int64(s.at)
}

// next takes the next event.
func (s *schedule) next() (lane uint32, due int64) {
	due = s.due()
	if !s.bursts {
		s.at += s.every
		return s.pick(), due
	}
	if s.left == 0 {
		s.left = burstSizes[s.rng.IntN(len(burstSizes))]
		s.lane = s.pick()
	}
	if s.left--; s.left == 0 {
		s.at += s.rng.ExpFloat64() * s.every * meanBurst
	}
	return s.lane, due
}

func (s *schedule) pick() uint32 {
	if s.upTo == nil {
		l := s.lanes[s.turn]
		if s.turn++; s.turn == len(s.lanes) {
			s.turn = 0
		}
		return l
	}
	x := s.rng.Float64() * s.upTo[len(s.upTo)-1]
	return s.lanes[min(sort.SearchFloat64s(s.upTo, x), len(s.lanes)-1)]
}

// unsent counts the events that are due before end, as far as it is worth counting.
func (s *schedule) unsent(end int64) uint64 {
	n := uint64(0)
	for s.every > 0 && s.due() < end && n < 10_000_000 {
		s.next()
		n++
	}
	return n
}
