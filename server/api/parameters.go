package api

// The parameters of /events: the same ones in a query, a form or a JSON object, and what each of
// them makes of a subscription. Any goroutine; on the short way the accept thread.

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/encode"
	"penstock/server/fanout"
	"penstock/server/topic"
)

// streamTakes lists the parameters for errors.
const streamTakes = "/events takes topic, lastEventId, rewind, snapshot, mode, interval, onlag, name, envelope, heartbeat and hello (and ignores names that begin with _)"

const (
	// maxInterval is the longest interval that may be asked for.
	maxInterval = time.Hour
	// maxRewind is the greatest number of events that may be asked for; no ring holds more.
	maxRewind = 1_000_000_000
)

// An asking is a request for a stream while it is read.
type asking struct {
	a   *API
	sub *fanout.Subscription

	seen     uint16 // single-valued parameters that were there, as bits
	id       []byte // the last event id; nil for none
	byTopic  bool   // name=topic
	envelope bool
}

// The single-valued parameters.
const (
	asksID = 1 << iota
	asksRewind
	asksSnapshot
	asksMode
	asksInterval
	asksOnLag
	asksName
	asksEnvelope
	asksHeartbeat
	asksHello
)

// set takes a parameter in. Neither name nor value is kept.
func (q *asking) set(name, value []byte) *failure {
	bit := bitOf(name)
	switch {
	case string(name) == "topic":
		return q.addTopics(value)
	case bit == 0 && ignored(name):
		return nil
	case bit == 0:
		return badRequest("parameter %s: unknown; %s", quote(name), streamTakes)
	case q.seen&bit != 0:
		return twice(name)
	}
	q.seen |= bit
	sub := q.sub
	ok, takes := true, ""
	switch bit {
	case asksID:
		// Not nil, even when it is empty: it was there.
		q.id = append(make([]byte, 0, len(value)), value...)
	case asksRewind:
		ok, takes = readRewind(value, &sub.Rewind), "a number of events (1 to 1000000000), a duration (30s, 5m), all, or live (0)"
	case asksSnapshot:
		ok, takes = either(value, "false", "true", &sub.Snapshot), "true or false"
	case asksMode:
		ok, takes = either(value, "all", "latest", &sub.Latest), "all or latest"
	case asksInterval:
		ok = q.a.readInterval(value, &sub.Interval)
		if !ok { // what it takes is not a constant, and would cost those who do it right
			takes = "a duration (250ms, 1s) from " + q.a.live().MinInterval.String() + " (--min-interval) to 1h, or 0"
		}
	case asksOnLag:
		ok, takes = readOnLag(value, &sub.OnLag), "gap, latest or close"
	case asksName:
		ok, takes = either(value, "type", "topic", &q.byTopic), "type or topic"
	case asksEnvelope:
		ok, takes = either(value, "false", "true", &q.envelope), "true or false"
	case asksHeartbeat:
		ok, takes = either(value, "comment", "event", &sub.HeartbeatEvent), "comment or event"
	case asksHello:
		ok, takes = either(value, "false", "true", &sub.Hello), "true or false"
	}
	if !ok {
		return badRequest("parameter %s: %s; it takes %s", name, quote(value), takes)
	}
	return nil
}

// bitOf is the bit of a single-valued parameter; 0 for what is none.
func bitOf(name []byte) uint16 {
	switch string(name) {
	case "rewind":
		return asksRewind
	case "snapshot":
		return asksSnapshot
	case "mode":
		return asksMode
	case "interval":
		return asksInterval
	case "onlag":
		return asksOnLag
	case "name":
		return asksName
	case "envelope":
		return asksEnvelope
	case "heartbeat":
		return asksHeartbeat
	case "hello":
		return asksHello
	}
	if isLastID(name) {
		return asksID
	}
	return 0
}

// either reads one of two words.
func either(value []byte, no, yes string, is *bool) (ok bool) {
	*is = string(value) == yes
	return *is || string(value) == no
}

func readOnLag(value []byte, to *fanout.OnLag) (ok bool) {
	switch string(value) {
	case "gap":
		*to = fanout.OnLagGap
	case "latest":
		*to = fanout.OnLagLatest
	case "close":
		*to = fanout.OnLagClose
	default:
		return false
	}
	return true
}

// readRewind reads how far back a stream starts.
func readRewind(value []byte, to *fanout.Rewind) (ok bool) {
	switch string(value) {
	case "all":
		to.All = true
		return true
	case "live", "0":
		return true
	}
	if len(value) > 0 && len(bytes.Trim(value, "0123456789")) == 0 {
		n, err := strconv.Atoi(borrow(value))
		to.Count = n
		return err == nil && value[0] != '0' && n <= maxRewind
	}
	var err error
	to.Since, err = time.ParseDuration(borrow(value))
	return err == nil && to.Since >= 0
}

// readInterval reads the shortest time between two flushes.
func (a *API) readInterval(value []byte, to *time.Duration) (ok bool) {
	d, err := time.ParseDuration(borrow(value))
	*to = d
	return err == nil && (d == 0 || d > 0 && d >= a.live().MinInterval && d <= maxInterval)
}

// addTopics adds topics and patterns joined with commas.
func (q *asking) addTopics(names []byte) *failure {
	for more := true; more; {
		var b []byte
		b, names, more = bytes.Cut(names, comma)
		if bytes.IndexByte(b, '*') >= 0 || bytes.IndexByte(b, '>') >= 0 {
			pattern, err := topic.ParsePattern(string(b))
			if err != nil {
				return badRequest("%v", err)
			}
			q.sub.Patterns = append(q.sub.Patterns, pattern)
			continue
		}
		name, err := q.a.name(b)
		if err != nil {
			return badRequest("%v", err)
		}
		q.sub.Topics = append(q.sub.Topics, name)
	}
	return nil
}

// finish judges what was read as a whole.
func (q *asking) finish() *failure {
	sub := q.sub
	slices.Sort(sub.Topics)
	sub.Topics = slices.Compact(sub.Topics)
	slices.SortFunc(sub.Patterns, func(a, b topic.Pattern) int { return strings.Compare(a.String(), b.String()) })
	sub.Patterns = slices.Compact(sub.Patterns)
	switch n, most := len(sub.Topics)+len(sub.Patterns), q.a.live().MaxTopicsPerSubscriber; {
	case n == 0:
		return badRequest("no topic: name one as /events/{topic} or ?topic=, repeated or joined with commas, or in the body of a POST")
	case n > most:
		return badRequest("%d topics: one stream takes at most %d, patterns included (--max-topics-per-subscriber)", n, most)
	}
	switch {
	case q.byTopic && q.envelope:
		return badRequest("parameters name=topic and envelope=true: an envelope has its topic inside, and no event: line that could name it; leave one of them out")
	case q.byTopic:
		sub.Form = encode.FormTopic
	case q.envelope:
		sub.Form = encode.FormEnvelope
	}
	return nil
}

// isLastID tells whether a parameter is the last event id: EventSource polyfills write it in
// several ways.
func isLastID(name []byte) bool {
	return foldEqual(name, "lasteventid") || foldEqual(name, "last_event_id") || foldEqual(name, "last-event-id")
}

// ignored tells whether a parameter may be anything: cache busters begin with an underscore.
func ignored(name []byte) bool { return len(name) > 0 && name[0] == '_' }

func twice(name []byte) *failure {
	return badRequest("parameter %s is there twice; it takes one value", quote(name))
}
