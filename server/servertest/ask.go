package servertest

// What a subscriber asks for, and how: the request. The test's goroutine.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ErrNoContent is how a stream ends that was none: the answer was 204.
var ErrNoContent = errors.New("204: nothing is left to be sent")

// An Ask changes the request of a subscriber.
type Ask func(*Subscriber)

// asks are a request's parameters beside the topics, and how they are sent.
type asks struct {
	parameters [][2]string
	method     string // "" for GET
	json       bool   // the body is JSON; else a form
}

// After asks for what follows the id: Last-Event-ID.
func After(id uint64) Ask { return func(s *Subscriber) { s.lastID = strconv.FormatUint(id, 10) } }

// WithHeader sends a header along.
func WithHeader(name, value string) Ask { return func(s *Subscriber) { s.header.Set(name, value) } }

// With sends a parameter along: With("mode", "latest").
func With(name, value string) Ask {
	return func(s *Subscriber) { s.asks.parameters = append(s.asks.parameters, [2]string{name, value}) }
}

// InForm sends topics and parameters as the form in the body of a POST or QUERY.
func InForm(method string) Ask { return func(s *Subscriber) { s.asks.method = method } }

// InJSON sends topics and parameters as the JSON object in the body of a POST or QUERY.
func InJSON(method string) Ask {
	return func(s *Subscriber) { s.asks.method, s.asks.json = method, true }
}

// request is what the subscriber sends. With its lock.
func (s *Subscriber) request() string {
	form := url.Values{"topic": {strings.Join(s.topics, ",")}}
	object := map[string]any{"topic": s.topics}
	for _, p := range s.asks.parameters {
		form.Set(p[0], p[1])
		object[p[0]] = p[1]
	}
	method, target, kind, body := s.asks.method, "/events", "application/x-www-form-urlencoded", form.Encode()
	switch {
	case method == "":
		method, target, body = "GET", target+"?"+body, ""
	case s.asks.json:
		text, err := json.Marshal(object)
		if err != nil {
			panic("servertest: " + err.Error())
		}
		kind, body = "application/json", string(text)
	}
	var request strings.Builder
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", method, target, s.srv.Addr())
	if body != "" {
		fmt.Fprintf(&request, "Content-Type: %s\r\nContent-Length: %d\r\n", kind, len(body))
	}
	for name, values := range s.header {
		fmt.Fprintf(&request, "%s: %s\r\n", name, values[0])
	}
	if s.lastID != "" {
		fmt.Fprintf(&request, "Last-Event-ID: %s\r\n", s.lastID)
	}
	return request.String() + "\r\n" + body
}
