package api

// The body of POST and QUERY /events: the parameters as a form or as a JSON object, for lists that
// are too long for a URL. A request's goroutine.

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

const (
	// leastAsk and eachTopic bound the body: as many topics as a stream may have are never too
	// long for it.
	leastAsk  = 64 << 10
	eachTopic = 264 // bytes: the longest topic in JSON, with a little around it
)

// mostAsk is how many bytes the body may have.
func (a *API) mostAsk() int { return max(leastAsk, eachTopic*a.live().MaxTopicsPerSubscriber) }

// readBody takes the parameters of a request's body in. It judges its type, but for that of
// no body at all.
func (q *asking) readBody(req *fasthttp.Request, r *request) *failure {
	body := req.Body()
	most := q.a.mostAsk()
	switch {
	case len(body) == 0:
		return nil
	case len(body) > most:
		return failf(fasthttp.StatusRequestEntityTooLarge, "the body has %d bytes; parameters take at most %d (%d for each topic of --max-topics-per-subscriber, and at least 64 KiB)", len(body), most, eachTopic)
	case r.headers.coding != nil && !foldEqual(r.headers.coding, "identity"):
		return badRequest("Content-Encoding %s: the body of a request for a stream takes none", quote(r.headers.coding))
	}
	contentType, _, _ := bytes.Cut(r.header.ContentType(), semicolon)
	contentType = bytes.TrimSpace(contentType)
	switch {
	case foldEqual(contentType, "application/json"):
		return q.readJSON(body)
	case foldEqual(contentType, "application/x-www-form-urlencoded"):
		return q.readPairs(&pairs{text: body}, "form")
	}
	return badRequest(`Content-Type %s: a request for a stream has its parameters as application/x-www-form-urlencoded (topic=a&topic=b&mode=latest) or application/json ({"topic":["a","b"],"mode":"latest"})`, quote(contentType))
}

// readPairs takes names and values in, of a query or of a form.
func (q *asking) readPairs(p *pairs, where string) *failure {
	for {
		name, value, ok, err := p.next()
		if err != nil {
			return badRequest("%s: %v", where, err)
		}
		if !ok {
			return nil
		}
		if f := q.set(name, value); f != nil {
			return f
		}
	}
}

// readJSON takes the members of a JSON object in: strings, numbers and booleans, and for topic
// an array of strings as well.
func (q *asking) readJSON(text []byte) *failure {
	if !utf8.Valid(text) {
		return badRequest("the body is not UTF-8, which JSON is")
	}
	var s scanner
	bad := func(err error) *failure { return badRequest("body: %v", err) }
	i := s.space(text, 0)
	if i == len(text) || text[i] != '{' {
		return bad(fmt.Errorf(`%s at byte %d; parameters are an object: {"topic":["a","b"],"mode":"latest"}`, show(text, i), i+1))
	}
	i = s.space(text, i+1)
	for first := true; ; first = false {
		if first && i < len(text) && text[i] == '}' {
			break
		}
		if i == len(text) || text[i] != '"' {
			return bad(fmt.Errorf("%s at byte %d, where a name in quotes belongs", show(text, i), i+1))
		}
		name, next, err := s.text(text, i)
		if err != nil {
			return bad(err)
		}
		i = s.space(text, next)
		if i == len(text) || text[i] != ':' {
			return bad(fmt.Errorf("%s at byte %d, where a colon belongs", show(text, i), i+1))
		}
		i = s.space(text, i+1)
		var f *failure
		if i, f = q.readMember(&s, text, i, name); f != nil {
			return f
		}
		i = s.space(text, i)
		if i < len(text) && text[i] == ',' {
			i = s.space(text, i+1)
			continue
		}
		if i == len(text) || text[i] != '}' {
			return bad(fmt.Errorf("%s at byte %d, where a comma or the closing brace belongs", show(text, i), i+1))
		}
		break
	}
	if i = s.space(text, i+1); i < len(text) {
		return bad(fmt.Errorf("%s at byte %d, behind the object", show(text, i), i+1))
	}
	return nil
}

// readMember takes the value at i in, and returns where it ends.
func (q *asking) readMember(s *scanner, text []byte, i int, name []byte) (int, *failure) {
	bad := func(err error) (int, *failure) { return i, badRequest("parameter %s: %v", quote(name), err) }
	known := string(name) == "topic" || bitOf(name) != 0
	switch {
	case i < len(text) && text[i] == '"' && known:
		value, end, err := s.text(text, i)
		if err != nil {
			return bad(err)
		}
		return end, q.set(name, value)
	case i < len(text) && text[i] == '[' && string(name) == "topic":
		return q.readTopics(s, text, i)
	case i < len(text) && known && (text[i] == '[' || text[i] == '{' || text[i] == 'n' || string(name) == "topic"):
		takes := "a string, a number, true or false"
		if string(name) == "topic" {
			takes = "a string or an array of strings"
		}
		return bad(fmt.Errorf("%s at byte %d; it takes %s", show(text, i), i+1, takes))
	}
	end, err := s.value(text, i, 1)
	if err != nil {
		return bad(err)
	}
	return end, q.set(name, text[i:end])
}

// readTopics takes in the array of strings that begins at i.
func (q *asking) readTopics(s *scanner, text []byte, i int) (int, *failure) {
	bad := func(err error) (int, *failure) { return i, badRequest("parameter topic: %v", err) }
	i = s.space(text, i+1)
	for first := true; ; first = false {
		if first && i < len(text) && text[i] == ']' {
			return i + 1, nil
		}
		if i == len(text) || text[i] != '"' {
			return bad(fmt.Errorf("%s at byte %d, where a topic in quotes belongs", show(text, i), i+1))
		}
		value, end, err := s.text(text, i)
		if err != nil {
			return bad(err)
		}
		if f := q.addTopics(value); f != nil {
			return end, f
		}
		i = s.space(text, end)
		switch {
		case i < len(text) && text[i] == ',':
			i = s.space(text, i+1)
		case i < len(text) && text[i] == ']':
			return i + 1, nil
		default:
			return bad(fmt.Errorf("%s at byte %d, where a comma or the closing bracket belongs", show(text, i), i+1))
		}
	}
}
