package demo

// A simulated stock ticker. Run's goroutine.
//
// Trades do not come evenly: an order that meets many others is many trades within a moment,
// and a few symbols make most of them. So a burst (one symbol, one direction, 1 to 80 trades
// some 25 ms apart) is what arrives at random, and its symbol is drawn by Zipf's law: the n-th
// busiest has a share of 1/n. Prices walk at random, a burst pushes them its way, and a weak
// pull back to where they began keeps a demo that runs for weeks believable.

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

const (
	symbols        = 500
	burstsASecond  = 26.0 // times 3.8 trades a burst: about 100 trades a second
	tradeDistance  = 25 * time.Millisecond
	walkStep       = 0.0004 // standard deviation of one trade's change, of the price
	burstPush      = 0.0002 // what a burst adds to each of its trades, at most
	pullBack       = 0.0005 // of the way to the opening price, with each trade
	rareStepFactor = 5.0    // how much wider the steps of the least traded symbol are
)

// A stock is one symbol and where its price is.
type stock struct {
	symbol string
	topic  string
	open   float64 // the price it began with, and is pulled back to
	step   float64 // standard deviation of a trade's change, of the price
	walked float64 // logarithm of price over open
}

// A burst is a series of trades of one symbol that have begun and are not done.
type burst struct {
	at    time.Duration // of its next trade
	stock int32
	left  int32
	push  float64
	order uint64 // of its beginning: ties are broken the same way in every run
}

// A ticker is the endless series of trades. bursts is never empty between two calls, and the
// next burst to begin is never before the first trade of those that have begun.
type ticker struct {
	rng    *rand.Rand
	stocks []stock
	share  []float64 // share[i]: of the trades that are of stocks 0 to i
	bursts burstHeap
	begin  time.Duration // of the next burst
	begun  uint64
	data   []byte
}

func newTicker(seed uint64) *ticker {
	t := &ticker{rng: rand.New(rand.NewPCG(seed, 0x70656e73746f636b))}
	total := 0.0
	for i, symbol := range symbolNames() {
		t.stocks = append(t.stocks, stock{
			symbol: symbol,
			topic:  "demo.stocks." + symbol,
			open:   cents(math.Exp(4 + 0.9*t.rng.NormFloat64())), // 55 in the middle, 9 to 330 for nearly all
			step:   walkStep * (1 + (rareStepFactor-1)*float64(i)/symbols),
		})
		total += 1 / float64(i+1)
		t.share = append(t.share, total)
	}
	for i := range t.share {
		t.share[i] /= total
	}
	t.fill()
	return t
}

func (t *ticker) due() time.Duration { return t.bursts[0].at }

func (t *ticker) next(now time.Time, p *topic.Publication) {
	b := &t.bursts[0]
	s := &t.stocks[b.stock]
	s.walked += s.step*t.rng.NormFloat64() + b.push - pullBack*s.walked
	t.data = appendTrade(t.data[:0], s, t.size(), now)
	p.Topic = s.topic
	p.Event = encode.Event{Type: "trade", Data: t.data}

	if b.left--; b.left == 0 {
		heap.Pop(&t.bursts)
	} else {
		b.at += time.Duration(t.rng.ExpFloat64() * float64(tradeDistance))
		heap.Fix(&t.bursts, 0)
	}
	t.fill()
}

// fill begins the bursts that begin before the next trade.
func (t *ticker) fill() {
	for len(t.bursts) == 0 || t.begin <= t.bursts[0].at {
		t.begun++
		i, _ := slices.BinarySearch(t.share, t.rng.Float64())
		heap.Push(&t.bursts, burst{
			at:    t.begin,
			stock: int32(min(i, len(t.stocks)-1)),
			left:  t.trades(),
			push:  burstPush * (2*t.rng.Float64() - 1),
			order: t.begun,
		})
		t.begin += time.Duration(t.rng.ExpFloat64() / burstsASecond * float64(time.Second))
	}
}

// trades draws how many trades a burst has: mostly one, sometimes some, rarely many.
func (t *ticker) trades() int32 {
	switch u := t.rng.Float64(); {
	case u < 0.70:
		return 1
	case u < 0.97:
		return 2 + min(int32(t.rng.ExpFloat64()*4), 18)
	default:
		return 20 + t.rng.Int32N(61)
	}
}

// size draws how many shares a trade is of: round lots of 100, and odd ones.
func (t *ticker) size() int64 {
	if t.rng.Float64() < 0.35 {
		return 1 + t.rng.Int64N(99)
	}
	return 100 * (1 + int64(t.rng.ExpFloat64()*1.5))
}

// appendTrade appends a trade as JSON. simulated is in each one of them, for a trade may be
// read far from the topic that it came from.
func appendTrade(dst []byte, s *stock, size int64, now time.Time) []byte {
	price := max(cents(s.open*math.Exp(s.walked)), 0.01)
	dst = append(dst, `{"symbol":"`...)
	dst = append(dst, s.symbol...)
	dst = append(dst, `","price":`...)
	dst = strconv.AppendFloat(dst, price, 'f', 2, 64)
	dst = append(dst, `,"change":`...)                                        // per cent, since the opening price
	dst = strconv.AppendFloat(dst, cents(100*(price/s.open-1))+0, 'f', 2, 64) // -0 + 0 is 0
	dst = append(dst, `,"size":`...)
	dst = strconv.AppendInt(dst, size, 10)
	dst = append(dst, `,"time":"`...)
	dst = now.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, `","simulated":true}`...)
}

// cents rounds to two decimals.
func cents(x float64) float64 { return math.Round(x*100) / 100 }

// busiest are the symbols at the head of the list, busiest first; they have their names from
// what stands along a river. The others are invented by symbolNames.
var busiest = []string{
	"ACME", "WEIR", "FLUME", "SLUCE", "TURBN", "RIVR", "BASN", "SPILL", "SURGE", "VALV",
	"PIPE", "DRAFT", "BROOK", "DELTA", "LOCKS", "SILT", "GATE", "HEADR", "TAILR", "OXBOW",
	"CREEK", "DAMS", "EDDY", "FORD",
}

// symbolNames answers the 500 symbols of the simulated ticker, busiest first: `demo.stocks.` and
// one of them is a topic of the demo. They are the same in every run. Any goroutine.
func symbolNames() []string {
	// No vowels, and not all of the consonants: nothing that chance writes with these is a word.
	const letters = "BDJLMPQRTVWXZ"
	rng := rand.New(rand.NewPCG(500, 500))
	pick := func() byte { return letters[rng.IntN(len(letters))] }
	all := slices.Clone(busiest)
	seen := make(map[string]bool, symbols)
	for _, s := range all {
		seen[s] = true
	}
	for len(all) < symbols {
		s := string([]byte{pick(), pick(), pick(), pick()})
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	return all
}

// burstHeap has the burst with the next trade first (container/heap).
type burstHeap []burst

func (h burstHeap) Len() int { return len(h) }
func (h burstHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h burstHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *burstHeap) Push(x any)   { *h = append(*h, x.(burst)) }
func (h *burstHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
