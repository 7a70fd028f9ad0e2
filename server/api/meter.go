package api

// How fast one publisher may publish. Any goroutine; a lock is held for a moment.

import (
	"crypto/sha256"
	"sync"
	"time"

	"penstock/server/accept"
)

// A publisherKey says who publishes: by its token, else by its network.
type publisherKey [16]byte

// keyOf is who is behind a request that the policy let pass. Where tokens are asked for, each is a
// publisher, wherever it is used; else each address (IPv6: /64) is, and all who come by a unix
// socket are one.
func (a *API) keyOf(r *request) (k publisherKey) {
	if a.rules().policy.Configured() {
		sum := sha256.Sum256(r.headers.authorization)
		copy(k[:], sum[:])
		return k
	}
	if n := accept.Network(r.client); n.IsValid() {
		return n.As16()
	}
	return k
}

// meters let each publisher's events in at a rate, a second's worth of them at once. A batch goes
// in as a whole where one event would, and is paid off afterwards: none is too large for ever.
type meters struct {
	mu  sync.Mutex
	due map[publisherKey]int64 // nanoseconds since 1970: when the next event would come if they came evenly
}

// mostMetered is how many publishers are known at once; those who owe nothing are forgotten first.
const mostMetered = 1 << 16

// wait is for how long the publisher may not publish; 0: it may now.
func (m *meters) wait(k publisherKey, now int64) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(max(0, m.due[k]-now-int64(time.Second)))
}

// take lets n events in; or tells for how long none may.
func (m *meters) take(k publisherKey, now int64, n, rate int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if wait := m.due[k] - now - int64(time.Second); wait > 0 {
		return time.Duration(wait)
	}
	if m.due == nil {
		m.due = make(map[publisherKey]int64)
	}
	if _, known := m.due[k]; !known && len(m.due) >= mostMetered {
		m.forgetLocked(now)
	}
	m.due[k] = max(m.due[k], now) + int64(n)*int64(time.Second)/int64(rate)
	return 0
}

// giveBack takes n events back, which were not published after all.
func (m *meters) giveBack(k publisherKey, n, rate int) {
	m.mu.Lock()
	if due, known := m.due[k]; known {
		m.due[k] = due - int64(n)*int64(time.Second)/int64(rate)
	}
	m.mu.Unlock()
}

// forgetLocked makes room: of a few, those who owe nothing, or else the last one looked at. Looking
// at all would let strangers without end keep everybody waiting.
func (m *meters) forgetLocked(now int64) {
	const few = 32
	looked := 0
	for k, due := range m.due { // in random order
		looked++
		if due <= now || looked == few && len(m.due) >= mostMetered {
			delete(m.due, k)
		}
		if looked == few {
			return
		}
	}
}

// mayPublish refuses a publisher that is too fast, before its body is read.
func (a *API) mayPublish(r *request) *failure {
	if a.live().PublishRate == 0 {
		return nil
	}
	return a.tooFast(a.meters.wait(a.keyOf(r), time.Now().UnixNano()))
}

// charge counts a batch's events; the result gives them back.
func (a *API) charge(r *request, n int) (giveBack func(), f *failure) {
	rate := a.live().PublishRate
	if rate == 0 {
		return func() {}, nil
	}
	k := a.keyOf(r)
	if f := a.tooFast(a.meters.take(k, time.Now().UnixNano(), n, rate)); f != nil {
		return nil, f
	}
	return func() { a.meters.giveBack(k, n, rate) }, nil
}

// tooFast is the failure of one who has to wait; nil for 0.
func (a *API) tooFast(wait time.Duration) *failure {
	if wait <= 0 {
		return nil
	}
	f := a.tooMany(overPublishRate, "this publisher's events come faster than "+itoa(a.live().PublishRate)+" a second (--publish-rate); nothing was published, try again")
	f.retryAfter = int((wait + time.Second - 1) / time.Second)
	return f
}
