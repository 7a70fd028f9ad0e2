package topic

// The feed: what brings a backplane's events to Append. Where it is too far behind what the
// backplane has stored, publishers are held back before they store more, as they are by shards that
// are behind the ring. Any goroutine that may wait.

// feedGate makes the gate of publishers whose events come by Append.
func (s *Sequencer) feedGate(behind func() bool) gate {
	if behind == nil {
		behind = func() bool { return false }
	}
	g := &s.gate
	return gate{s: s, behind: behind, rouse: func() {}, yields: true, shed: g.shed, wait: g.wait, maxWaiting: g.maxWaiting, drain: g.drain}
}

// AwaitFeed holds a publisher back while Append is too far behind the backplane: for as long as the
// options say, and not longer than until the server drains. Whose batch has begun is patient: it
// waits without a limit, but once the server drains it goes on at once, for nothing catches up any
// more. The errors are ErrOverload and ErrDraining. Any goroutine but a shard's thread.
func (s *Sequencer) AwaitFeed(patient bool) error {
	for {
		if s.draining.Load() && !patient {
			return ErrDraining
		}
		_, err := s.feed.pass(patient, 0)
		switch {
		case err == errFrozen:
			s.awaitThaw()
		case patient:
			return nil
		default:
			return err
		}
	}
}

// FeedMoved tells that Append may not be too far behind any more. Any goroutine.
func (s *Sequencer) FeedMoved() { s.feed.knock() }

// Change calls f, which changes what there is (Begin, Lose, Restart), while the sequencer is not frozen; not
// at all once it drains. The goroutine of Append.
func (s *Sequencer) Change(f func()) {
	if _, err := s.enter(passes, 0); err != nil {
		return
	}
	defer s.leave()
	f()
}
