package api

// What topics there are. Any goroutine.

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"penstock/server/topic"

	"github.com/valyala/fasthttp"
)

// How many topics one page of the list has.
const (
	defaultTopics = 100
	mostTopics    = 1000
)

// topicJSON describes a topic.
type topicJSON struct {
	Topic       string  `json:"topic"`
	Subscribers int     `json:"subscribers"`
	LastID      *string `json:"lastId"`   // null: never published to
	LastTime    *string `json:"lastTime"` // RFC 3339, with microseconds
	Events      uint64  `json:"events"`   // published since the topic came into being
	Bytes       uint64  `json:"bytes"`    // of their frames
}

func describe(t *topic.Topic) topicJSON {
	d := topicJSON{Topic: t.Name(), Subscribers: t.Subscribers(), Events: t.Events(), Bytes: t.Bytes()}
	if id, _, ok := t.Newest(); ok {
		text := idText(id)
		d.LastID = &text
		when := time.UnixMicro(t.LastTime()).UTC().Format("2006-01-02T15:04:05.000000Z")
		d.LastTime = &when
	}
	return d
}

// topics answers GET /topics: a page of the list, by name.
func (a *API) topics(resp *fasthttp.Response, r *request) *failure {
	var prefix, after string
	limit := defaultTopics
	seen := map[string]bool{}
	q := pairs{text: r.query}
	for {
		name, value, ok, err := q.next()
		if err != nil {
			return badRequest("query: %v", err)
		}
		if !ok {
			break
		}
		switch string(name) {
		case "prefix":
			prefix = string(value)
		case "after":
			after = string(value)
		case "limit":
			n, err := strconv.Atoi(string(value))
			if err != nil || n < 1 || n > mostTopics {
				return badRequest("parameter limit: %s; it takes 1 to %d", quote(value), mostTopics)
			}
			limit = n
		default:
			if !ignored(name) {
				return badRequest("parameter %s: unknown; /topics takes prefix, limit and after (and ignores names that begin with _)", quote(name))
			}
			continue
		}
		if seen[string(name)] {
			return twice(name)
		}
		seen[string(name)] = true
	}
	list := a.o.Sequencer.Table().Page(prefix, after, limit)
	page := struct {
		Topics []topicJSON `json:"topics"`
	}{make([]topicJSON, len(list))}
	for i, t := range list {
		page.Topics[i] = describe(t)
	}
	return a.answerJSON(resp, page)
}

// topic answers GET /topics/{topic}.
func (a *API) topic(resp *fasthttp.Response, r *request) *failure {
	if f := noParameters(r); f != nil {
		return f
	}
	name, f := r.pathTopic()
	if f != nil {
		return f
	}
	t, ok := a.o.Sequencer.Table().Lookup(name)
	if !ok {
		return unknownTopic(name)
	}
	return a.answerJSON(resp, describe(t))
}

// endTopic answers DELETE /topics/{topic}. It is a kind of publishing, and asks for the same right:
// on the admin address too, whose own is to look.
func (a *API) endTopic(resp *fasthttp.Response, r *request) *failure {
	policy := a.rules().policy
	who, err := policy.Publisher(r.headers.authorization, !policy.Configured() && a.local(r))
	if err != nil {
		return a.publishFailure(err)
	}
	if f := noParameters(r); f != nil {
		return f
	}
	name, f := r.pathTopic()
	if f != nil {
		return f
	}
	if err := who.MayPublish(name); err != nil {
		return a.publishFailure(err)
	}
	switch _, err := a.house.publish.End(name); {
	case errors.Is(err, topic.ErrUnknownTopic):
		return unknownTopic(name)
	case err != nil:
		return a.publishFailure(err)
	}
	resp.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func unknownTopic(name string) *failure {
	return failf(fasthttp.StatusNotFound, "topic %s is not known: nobody has published or subscribed to it, or it was forgotten", quote(name))
}

// pathTopic is the topic that the path names.
func (r *request) pathTopic() (string, *failure) {
	var p pairs
	b, err := p.plain(r.topic, 0, false)
	if err != nil {
		return "", badRequest("topic in the path: %v", err)
	}
	name, err := topic.ParseName(string(b))
	if err != nil {
		return "", badRequest("%v", err)
	}
	return name, nil
}

// noParameters refuses a query where the path takes none.
func noParameters(r *request) *failure {
	q := pairs{text: r.query}
	for {
		name, _, ok, err := q.next()
		switch {
		case err != nil:
			return badRequest("query: %v", err)
		case !ok:
			return nil
		case !ignored(name):
			return badRequest("parameter %s: unknown; this path takes none (and ignores names that begin with _)", quote(name))
		}
	}
}

// answerJSON answers with what is not on a hot path.
func (a *API) answerJSON(resp *fasthttp.Response, v any) *failure {
	body, err := json.Marshal(v)
	if err != nil {
		panic("api: answerJSON: " + err.Error())
	}
	resp.Header.SetContentTypeBytes(typeJSON)
	resp.Header.SetCanonical(hCacheControl, vNoStore)
	resp.SetBodyRaw(append(body, '\n'))
	return nil
}
