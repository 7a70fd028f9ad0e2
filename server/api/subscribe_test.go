package api

import (
	"reflect"
	"strings"
	"testing"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/fanout"
	"penstock/server/topic"
)

// publishOne publishes an event and returns its id.
func publishOne(t testing.TB, a *API, name, data string) uint64 {
	t.Helper()
	id, err := a.o.Sequencer.Publish(&topic.Publication{Topic: name, Event: encode.Event{Data: []byte(data)}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Each parameter of /events, as a query or in the path, becomes what it says.
func TestSubscriptionIsWhatTheRequestAsksFor(t *testing.T) {
	a := start(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	plain := func(topics ...string) fanout.Subscription { return fanout.Subscription{Topics: topics} }
	for _, c := range []struct {
		request string
		want    fanout.Subscription
	}{
		{raw("GET /events/stocks.ACME"), plain("stocks.ACME")},
		{raw("GET /events?topic=stocks.ACME"), plain("stocks.ACME")},
		{raw("GET http://localhost:8080/events?topic=a"), plain("a")},
		{raw("GET /events/b?topic=c,a&topic=a&topic=d"), plain("a", "b", "c", "d")},
		{raw("GET /events/b,a"), plain("a", "b")},
		{raw("GET /events/a%2Eb%C3%A9?topic=%61"), plain("a", "a.bé")},
		{raw("GET /events/a+b"), plain("a+b")},
		{raw("GET /events?&&topic=a&&"), plain("a")},
		{raw("GET /events/a?_=17&_x=%20&_=18&heartbeat=comment"), plain("a")},
		{raw("GET /events/$penstock.stats"), plain("$penstock.stats")},
		{raw("GET /events/a", "Last-Event-ID: 42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a", "last-event-id: 0"), fanout.Subscription{Topics: []string{"a"}, Resume: true}},
		{raw("GET /events/a?lastEventId=42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a?LASTEVENTID=42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a?last_event_id=42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a?Last-Event-Id=42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a?lastEventId=18446744073709551615"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 1<<64 - 1}},
		{raw("GET /events/a?lastEventId=7", "Last-Event-ID: 42"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 42}},
		{raw("GET /events/a?lastEventId=7", "Last-Event-ID:"), fanout.Subscription{Topics: []string{"a"}, Resume: true, LastID: 7}},
		{raw("GET /events/a?lastEventId=", "Last-Event-ID:"), plain("a")},
		{raw("GET /events/a?lastEventId=007"), fanout.Subscription{Topics: []string{"a"}, BadID: "007"}},
		{raw("GET /events/a", "Last-Event-ID: -1"), fanout.Subscription{Topics: []string{"a"}, BadID: "-1"}},
		{raw("GET /events/a", "Last-Event-ID: 18446744073709551616"), fanout.Subscription{Topics: []string{"a"}, BadID: "18446744073709551616"}},
		{raw("GET /events/a?lastEventId=%0A+%22"), fanout.Subscription{Topics: []string{"a"}, BadID: "\n \""}},
		{raw("GET /events/a", "Last-Event-ID: "+strings.Repeat("x", 1000)), fanout.Subscription{Topics: []string{"a"}, BadID: strings.Repeat("x", maxBadID)}},
		{raw("GET /events/a", "Origin: https://app.example.com"), fanout.Subscription{Topics: []string{"a"}, Origin: "https://app.example.com"}},
		{raw("GET /events/a", "Origin: http://localhost:8080"), plain("a")},
		{raw("GET /events/a", "Accept-Encoding: gzip", "Cookie: a=b"), plain("a")},
		{"GET /events/a HTTP/1.0\r\n\r\n", fanout.Subscription{Topics: []string{"a"}, HTTP10: true}},
	} {
		an, isLong := short(t, a, c.request)
		if isLong || an.sub == nil {
			t.Errorf("%q: no stream: long %v, status %d, %s", c.request, isLong, an.status, an.body)
			continue
		}
		if !reflect.DeepEqual(*an.sub, c.want) {
			t.Errorf("%q: %+v, want %+v", c.request, *an.sub, c.want)
		}
	}
}

// What /events does not take is refused with a text that names it, and says what it takes.
func TestBadSubscribeRequestIsRefusedByName(t *testing.T) {
	a := start(t)
	for _, c := range []struct {
		request string
		status  int
		words   []string
	}{
		{raw("GET /events"), 400, []string{"no topic", "/events/{topic}"}},
		{raw("GET /events/"), 400, []string{"empty"}},
		{raw("GET /events?topic="), 400, []string{"empty"}},
		{raw("GET /events?topic=a,,b"), 400, []string{"empty"}},
		{raw("GET /events/a/b"), 400, []string{"byte"}},
		{raw("GET /events/a%2Fb"), 400, []string{"byte"}},
		{raw("GET /events?topic=a+b"), 400, []string{"byte"}},
		{raw("GET /events/a%00b"), 400, []string{"byte"}},
		{raw("GET /events/a%0D%0Ab"), 400, []string{"byte"}},
		{raw("GET /events/a%FF"), 400, []string{"UTF-8"}},
		{raw("GET /events/" + strings.Repeat("x", 256)), 400, []string{"255"}},
		{raw("GET /events/a%2"), 400, []string{"escape", "byte 1"}},
		{raw("GET /events?topic=a%zz"), 400, []string{"escape", "%zz", "byte 7"}},
		{raw("GET /events?topic=a&_=%"), 400, []string{"escape"}},
		{raw("GET /events?topic=a,b,c,d,e,f"), 400, []string{"6 topics", "at most 5", "--max-topics-per-subscriber"}},
		{raw("GET /events/a?lastEventId=1&lastEventId=1"), 400, []string{"lastEventId", "twice"}},
		{raw("GET /events/a?lastEventId=1&last_event_id="), 400, []string{"last_event_id", "twice"}},
		{raw("GET /events/a?lastEventId=&last-event-id=1"), 400, []string{"last-event-id", "twice"}},
		{raw("GET /events/a", "Last-Event-ID: 1", "Last-Event-ID: 2"), 400, []string{"Last-Event-ID", "twice"}},
		{raw("GET /events/a?token=x"), 400, []string{"token", "unknown"}},
		{raw("GET /events/a?Topic=b"), 400, []string{"Topic", "unknown"}},
		{raw("GET /events/a?=x"), 400, []string{"unknown"}},
		{raw("GET /events/a?%22%0A=x"), 400, []string{"unknown"}},
		{raw("GET /events/a", "Accept: text/html"), 406, []string{"text/event-stream"}},
		{raw("HEAD /events/a?mode=none"), 400, nil},
		{raw("GET /event/a"), 404, []string{"/event/a", "/events"}},
		{raw("GET /events/a/"), 400, []string{"byte"}},
		{raw("GET ftp://localhost/events/a"), 400, []string{"ftp"}},
	} {
		an := get(t, a, c.request)
		if an.sub != nil {
			t.Errorf("%q: a stream, want %d", c.request, c.status)
			continue
		}
		an.want(t, c.request, c.status, c.words...)
		if !strings.HasPrefix(c.request, "HEAD") {
			an.text(t)
		}
	}
}

// A refused method is told which ones there are.
func TestMethodsThatAPathHasNotAreRefusedWithAllow(t *testing.T) {
	a := start(t)
	for _, c := range []struct{ line, allow, word string }{
		{"DELETE /events/a", "GET, HEAD, POST, QUERY, OPTIONS", "DELETE"},
		{"DELETE /topics", "GET, HEAD, OPTIONS", "DELETE"},
		{"QUERY /topics/a", "GET, HEAD, DELETE, OPTIONS", "QUERY"},
		{"PUT /events/a", "GET, HEAD, POST, QUERY, OPTIONS", "PUT"},
		{"GET /publish/a", "POST, OPTIONS", "GET"},
		{"PUT /publish/a", "POST, OPTIONS", "PUT"},
		{"POST /healthz", "GET, HEAD, OPTIONS", "POST"},
		{"POST /", "GET, HEAD, OPTIONS", "POST"},
		{"QUERY /publish/a", "POST, OPTIONS", "QUERY"},
		{"PO /events", "GET, HEAD, POST, QUERY, OPTIONS", "PO"},
	} {
		an := long(t, a, withBody(c.line, ""))
		an.want(t, c.line, 405, c.word)
		if an.header["Allow"] != c.allow {
			t.Errorf("%s: Allow: %q, want %q", c.line, an.header["Allow"], c.allow)
		}
	}
}

// Accept is judged by its most specific range that fits.
func TestAcceptDecidesByItsMostSpecificRange(t *testing.T) {
	for _, c := range []struct {
		accept         []string
		accepts, alone bool
	}{
		{nil, true, false},
		{[]string{""}, true, false},
		{[]string{"text/event-stream"}, true, true},
		{[]string{" TEXT/Event-Stream "}, true, true},
		{[]string{"text/event-stream;q=0.5"}, true, false},
		{[]string{"text/event-stream, */*"}, true, false},
		{[]string{"text/event-stream", "text/html"}, true, false},
		{[]string{"*/*"}, true, false},
		{[]string{"text/*"}, true, false},
		{[]string{"application/json"}, false, false},
		{[]string{"application/json", "text/*;q=0.1"}, true, false},
		{[]string{"*/*, text/event-stream;q=0"}, false, false},
		{[]string{"text/event-stream;charset=utf-8; q=0.000, */*"}, false, false},
		{[]string{"text/*;q=0, */*"}, false, false},
		{[]string{"text/*;q=0, text/event-stream"}, true, false},
		{[]string{"text/html, application/xhtml+xml, */*;q=0.8"}, true, false},
	} {
		var values [][]byte
		for _, s := range c.accept {
			values = append(values, []byte(s))
		}
		accepts, alone := acceptsStream(values)
		if accepts != c.accepts || alone != c.alone {
			t.Errorf("Accept %q: accepts %v, alone %v; want %v, %v", c.accept, accepts, alone, c.accepts, c.alone)
		}
	}
}

// While the server drains, an EventSource is told to come back in its own words, and everybody
// else in HTTP's.
func TestRefusalThatEventSourceSurvives(t *testing.T) {
	a := start(t)
	id := publishOne(t, a, "a", "x")
	a.Drain()
	for _, c := range []struct {
		request, body string
	}{
		{raw("GET /events/a", "Accept: text/event-stream"), "\nid: " + idText(id) + "\n\n"},
		{raw("GET /events/a?rewind=10", "Accept: text/event-stream"), "\n\n"},
		{raw("GET /events/a?snapshot=true", "Accept: text/event-stream"), "\n\n"},
		{raw("GET /events/a", "Accept: text/event-stream", "Last-Event-ID: "+idText(id)), "\nid: " + idText(id) + "\n\n"},
		{raw("GET /events/a?lastEventId="+idText(id), "Accept: text/event-stream"), "\nid: " + idText(id) + "\n\n"},
		{raw("GET /events/a", "Accept: text/event-stream", "Last-Event-ID: x"), "\n\n"},
		{raw("GET /events/a", "Accept: text/event-stream", "Last-Event-ID: "+idText(id+1)), "\n\n"},
	} {
		an := get(t, a, c.request)
		if an.status != 200 || an.body != c.body || an.header["Content-Type"] != "text/event-stream" {
			t.Errorf("%q: %d %q %v, want 200 and %q behind the retry", c.request, an.status, an.body, an.header, c.body)
		}
		if b := a.Busy(nil, head(t, c.request), from, accept.FullConnections); !strings.HasSuffix(string(b), c.body) || !strings.Contains(string(b), "\r\n\r\nretry: ") {
			t.Errorf("%q: Busy says %q", c.request, b)
		}
	}
	for _, request := range []string{raw("GET /events/a"), raw("GET /events/a", "Accept: text/event-stream, */*")} {
		an, _ := short(t, a, request)
		an.want(t, request, 503, "drains")
		if s := an.header["Retry-After"]; s < "2" || s > "5" {
			t.Errorf("%q: Retry-After: %q", request, s)
		}
		get(t, a, request)
	}
	// What is wrong with a request is said even so.
	an := get(t, a, raw("GET /events/a?mode=x", "Accept: text/event-stream"))
	an.want(t, "a bad one", 400, "mode")
}

// Busy answers whatever it knows of the request.
func TestBusyIsA503WithRetryAfter(t *testing.T) {
	a := start(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	for _, request := range []string{"", raw("GET /"), raw("POST /publish/a"), raw("GET /events/a"), raw("GET /healthz")} {
		var b []byte
		if request == "" {
			b = a.Busy(nil, nil, from, accept.FullConnections)
		} else {
			b = a.Busy(nil, head(t, request), from, accept.FullConnections)
		}
		an := parse(t, b, false)
		an.want(t, request, 503)
		if an.header["Retry-After"] == "" || an.header["Connection"] != "close" {
			t.Errorf("%q: %v", request, an.header)
		}
	}
	an := parse(t, a.Busy(nil, head(t, raw("POST /publish/a", "Origin: https://app.example.com")), from, accept.FullConnections), false)
	if an.header["Access-Control-Allow-Origin"] != "https://app.example.com" || an.header["Access-Control-Expose-Headers"] != "Retry-After" {
		t.Errorf("a page can't read why: %v", an.header)
	}
}

// In HTTP/1.0 there are no chunks to speak of.
func TestHeadInHTTP10HasNoTransferEncoding(t *testing.T) {
	a := start(t)
	_, b, _ := a.Short(nil, head(t, "HEAD /events/a HTTP/1.0\r\n\r\n"), from)
	if s := string(b); strings.Contains(s, "Transfer-Encoding") || strings.Contains(s, "Content-Length") || !strings.Contains(s, "Connection: close\r\n\r\n") {
		t.Errorf("%q", s)
	}
}

// HEAD has the headers that the stream would have, and nothing else.
func TestHeadHasTheStreamsHeaders(t *testing.T) {
	a := start(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	for _, origin := range []string{"", "https://app.example.com"} {
		lines := []string{}
		if origin != "" {
			lines = append(lines, "Origin: "+origin)
		}
		an, _ := short(t, a, raw("HEAD /events/a", lines...))
		if an.status != 200 || an.body != "" {
			t.Fatalf("status %d, body %q", an.status, an.body)
		}
		if other := long(t, a, raw("HEAD /events/a", lines...)); other.status != 200 || other.header["Transfer-Encoding"] != "chunked" || other.body != "" {
			t.Errorf("on the long way: %d %v", other.status, other.header)
		}
		live := parse(t, fanout.AppendHeader(nil, &fanout.Subscription{Origin: origin}, a.rates.started), true)
		for k, v := range live.header {
			if k != "Date" && an.header[k] != v {
				t.Errorf("%s: %q, a live stream has %q", k, an.header[k], v)
			}
		}
		if _, there := an.header["Content-Length"]; there {
			t.Errorf("a length: %v", an.header)
		}
	}
}
