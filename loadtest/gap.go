package loadtest

// Gap events, and whether they can be. Everything here runs on the reader's thread.

import (
	"encoding/json"
	"strconv"
)

// gap is a gap event of Penstock's contract: what is missing next on its topics was announced, and so
// is whatever else is missing before its before. Events that follow it may lie within.
func (r *reader) gap(data []byte) {
	r.tally.Gaps++
	var g struct {
		Topics []string `json:"topics"`
		After  string   `json:"after"`
		Before string   `json:"before"`
	}
	bad := json.Unmarshal(data, &g) != nil || len(g.Topics) == 0
	after, err := strconv.ParseUint(g.After, 10, 64)
	before, err2 := strconv.ParseUint(g.Before, 10, 64)
	if err == nil && err2 == nil && after >= before {
		bad = true
	}
	for _, name := range g.Topics {
		t, ok := r.plan.topicNumber(name)
		if !ok {
			bad = true
			continue
		}
		for l := t; l < r.plan.lanes; l += r.plan.cfg.Topics {
			if i, ok := r.laneOf(r.slot, uint32(l)); ok {
				r.lanes[i].flags |= laneGap | laneSpan
			} else {
				bad = true
			}
		}
	}
	if bad {
		r.tally.BadGaps++
		return
	}
	s := &r.subs[r.slot]
	s.spanned = max(s.spanned, before)
}

// within tells whether an event with the subscriber's last id, and so what was missing right before
// it, lies within a gap that has named its lane.
func (s *subscriber) within(l *lane) bool {
	if l.flags&laneSpan == 0 {
		return false
	}
	if !s.hasID || s.lastID >= s.spanned {
		l.flags &^= laneSpan
	}
	return s.hasID && s.lastID <= s.spanned
}
