package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/fanout"
	"penstock/server/topic"
)

const jsonBody = "Content-Type: application/json"

// asked sends the same parameters in every way there is: as a query, as the form or the JSON object
// of a POST, and of a QUERY. All must come to the same, which is returned.
func asked(t *testing.T, a *API, parameters [][2]string, headers ...string) answer {
	t.Helper()
	var query []string
	var members []string
	for _, p := range parameters {
		query = append(query, url.QueryEscape(p[0])+"="+url.QueryEscape(p[1]))
		members = append(members, quoteJSON(p[0])+": "+quoteJSON(p[1]))
	}
	form, object := strings.Join(query, "&"), "{"+strings.Join(members, ", ")+"}"
	an := get(t, a, raw("GET /events?"+form, headers...))
	for _, request := range []string{
		withBody("POST /events", form, append(headers, "Content-Type: application/x-www-form-urlencoded; charset=utf-8")...),
		withBody("QUERY /events", form, append(headers, "Content-Type: Application/X-WWW-Form-URLencoded")...),
		withBody("POST /events", object, append(headers, jsonBody)...),
		withBody("QUERY /events", object, append(headers, jsonBody+";charset=utf-8")...),
		raw("POST /events?"+form, append(headers, "Content-Length: 0")...),
	} {
		other := ask(t, a, request)
		if other.status != an.status || !reflect.DeepEqual(other.sub, an.sub) || an.status == 400 && other.text(t) != an.text(t) {
			t.Errorf("%q: %d %s %+v, but as a query %d %s %+v", request, other.status, other.body, other.sub, an.status, an.body, an.sub)
		}
	}
	return an
}

func quoteJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func pattern(t *testing.T, s string) topic.Pattern {
	t.Helper()
	p, err := topic.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each value of each parameter says what it says, in each way to send it.
func TestEveryParameterInEveryWay(t *testing.T) {
	a := start(t, func(o *Options) { o.MinInterval = 10 * time.Millisecond })
	type S = fanout.Subscription
	for _, c := range []struct {
		name, value string
		want        S
	}{
		{"mode", "all", S{}},
		{"mode", "latest", S{Latest: true}},
		{"interval", "0", S{}},
		{"interval", "0s", S{}},
		{"interval", "10ms", S{Interval: 10 * time.Millisecond}},
		{"interval", "1.5s", S{Interval: 1500 * time.Millisecond}},
		{"interval", "1h", S{Interval: time.Hour}},
		{"interval", "60m", S{Interval: time.Hour}},
		{"onlag", "gap", S{}},
		{"onlag", "latest", S{OnLag: fanout.OnLagLatest}},
		{"onlag", "close", S{OnLag: fanout.OnLagClose}},
		{"snapshot", "false", S{}},
		{"snapshot", "true", S{Snapshot: true}},
		{"rewind", "live", S{}},
		{"rewind", "0", S{}},
		{"rewind", "0s", S{}},
		{"rewind", "all", S{Rewind: fanout.Rewind{All: true}}},
		{"rewind", "10", S{Rewind: fanout.Rewind{Count: 10}}},
		{"rewind", "1000000000", S{Rewind: fanout.Rewind{Count: 1_000_000_000}}},
		{"rewind", "30s", S{Rewind: fanout.Rewind{Since: 30 * time.Second}}},
		{"rewind", "1h30m", S{Rewind: fanout.Rewind{Since: 90 * time.Minute}}},
		{"name", "type", S{}},
		{"name", "topic", S{Form: encode.FormTopic}},
		{"envelope", "false", S{}},
		{"envelope", "true", S{Form: encode.FormEnvelope}},
		{"heartbeat", "comment", S{}},
		{"heartbeat", "event", S{HeartbeatEvent: true}},
		{"hello", "false", S{}},
		{"hello", "true", S{Hello: true}},
		{"lastEventId", "42", S{Resume: true, LastID: 42}},
		{"LAST_EVENT_ID", "42", S{Resume: true, LastID: 42}},
		{"last-event-id", "x", S{BadID: "x"}},
		{"lastEventId", "", S{}},
		{"_", "%&=", S{}},
		{"_t", "17", S{}},
	} {
		an := asked(t, a, [][2]string{{"topic", "a"}, {c.name, c.value}})
		c.want.Topics = []string{"a"}
		if an.sub == nil {
			t.Errorf("%s=%s: %d %s", c.name, c.value, an.status, an.body)
		} else if !reflect.DeepEqual(*an.sub, c.want) {
			t.Errorf("%s=%s: %+v, want %+v", c.name, c.value, *an.sub, c.want)
		}
	}
	// Together they do not get into each other's way.
	an := asked(t, a, [][2]string{{"mode", "latest"}, {"topic", "b,stocks.*"}, {"interval", "250ms"}, {"snapshot", "true"}, {"onlag", "latest"}, {"rewind", "5"}, {"name", "topic"},
		{"envelope", "false"}, {"heartbeat", "event"}, {"hello", "true"}, {"lastEventId", "7"}, {"topic", "a"}})
	want := S{Topics: []string{"a", "b"}, Patterns: []topic.Pattern{pattern(t, "stocks.*")}, Latest: true, Interval: 250 * time.Millisecond, Snapshot: true, OnLag: fanout.OnLagLatest,
		Rewind: fanout.Rewind{Count: 5}, Form: encode.FormTopic, HeartbeatEvent: true, Hello: true, Resume: true, LastID: 7}
	if an.sub == nil || !reflect.DeepEqual(*an.sub, want) {
		t.Errorf("all: %+v %s, want %+v", an.sub, an.body, want)
	}
	// The header is the one for a resume, in a POST too.
	if an = asked(t, a, [][2]string{{"topic", "a"}, {"lastEventId", "7"}}, "Last-Event-ID: 42"); an.sub == nil || an.sub.LastID != 42 {
		t.Errorf("beside the header: %+v %s", an.sub, an.body)
	}
}

// A value that can't be is refused with a text that names the parameter, the value and what is
// allowed, in each way to send it.
func TestBadParametersAreRefusedByName(t *testing.T) {
	a := start(t, func(o *Options) { o.MinInterval = 10 * time.Millisecond })
	const truth, intervals, rewinds = "true or false", "from 10ms (--min-interval) to 1h, or 0", "a number of events (1 to 1000000000), a duration (30s, 5m), all, or live (0)"
	for _, c := range []struct{ name, value, takes string }{
		{"mode", "newest", "all or latest"}, {"mode", "", "all or latest"}, {"mode", "Latest", "all or latest"},
		{"interval", "9ms", intervals}, {"interval", "1ns", intervals}, {"interval", "-1s", intervals}, {"interval", "61m", intervals}, {"interval", "250", intervals},
		{"interval", "", intervals}, {"interval", "fast", intervals}, {"interval", "99999999999999h", intervals},
		{"onlag", "drop", "gap, latest or close"}, {"onlag", "", "gap, latest or close"},
		{"snapshot", "1", truth}, {"snapshot", "", truth}, {"snapshot", "yes", truth},
		{"rewind", "", rewinds}, {"rewind", "-1", rewinds}, {"rewind", "-1s", rewinds}, {"rewind", "1000000001", rewinds}, {"rewind", "99999999999999999999", rewinds},
		{"rewind", "010", rewinds}, {"rewind", "00", rewinds}, {"rewind", "1.5", rewinds}, {"rewind", "ten", rewinds}, {"rewind", "All", rewinds}, {"rewind", "10 ", rewinds},
		{"name", "id", "type or topic"}, {"name", "", "type or topic"},
		{"envelope", "json", truth}, {"heartbeat", "never", "comment or event"}, {"hello", "world", truth},
	} {
		an := asked(t, a, [][2]string{{"topic", "a"}, {c.name, c.value}})
		if an.status != 400 {
			t.Errorf("%s=%q: %d %+v, want 400", c.name, c.value, an.status, an.sub)
			continue
		}
		if text := an.text(t); !strings.Contains(text, "parameter "+c.name+":") || !strings.Contains(text, quote(c.value)) || !strings.Contains(text, c.takes) {
			t.Errorf("%s=%q: %q does not name parameter, value and %q", c.name, c.value, text, c.takes)
		}
	}
	for _, c := range []struct {
		parameters [][2]string
		status     int
		words      []string
	}{
		{[][2]string{{"topic", "a"}, {"mode", "all"}, {"mode", "all"}}, 400, []string{"mode", "twice"}},
		{[][2]string{{"topic", "a"}, {"hello", "true"}, {"mode", "all"}, {"hello", "false"}}, 400, []string{"hello", "twice"}},
		{[][2]string{{"topic", "a"}, {"lastEventId", ""}, {"last_event_id", "1"}}, 400, []string{"last_event_id", "twice"}},
		{[][2]string{{"topic", "a"}, {"filter", "x"}}, 400, []string{"filter", "unknown", "mode", "rewind", "hello"}},
		{[][2]string{{"topic", "a"}, {"Mode", "all"}}, 400, []string{"Mode", "unknown"}},
		{[][2]string{{"mode", "all"}}, 400, []string{"no topic", "/events/{topic}", "POST"}},
		{[][2]string{{"topic", "a"}, {"name", "topic"}, {"envelope", "true"}}, 400, []string{"name=topic", "envelope=true", "leave one"}},
		{[][2]string{{"topic", "stocks.A*"}}, 400, []string{"stocks.A*", "byte 8", "whole token"}},
		{[][2]string{{"topic", "a.>.b"}}, 400, []string{"a.>.b", "byte 2", "last token"}},
		{[][2]string{{"topic", "**.b"}}, 400, []string{"**.b", "last token"}},
		{[][2]string{{"topic", "a.***"}}, 400, []string{"a.***"}},
		{[][2]string{{"topic", "a..*"}}, 400, []string{"empty token"}},
		{[][2]string{{"topic", "*,,a"}}, 400, []string{"empty"}},
		{[][2]string{{"topic", "*" + strings.Repeat(".x", 128)}}, 400, []string{"255"}},
		{[][2]string{{"topic", "a,b,c,d.*,e.>,f"}}, 400, []string{"6 topics", "at most 5", "patterns", "--max-topics-per-subscriber"}},
	} {
		an := asked(t, a, c.parameters)
		an.want(t, fmt.Sprint(c.parameters), c.status, c.words...)
	}
}

// Patterns are told from topics, sorted, and counted once; a last ** is the same as >.
func TestPatternsAreToldFromTopics(t *testing.T) {
	a := start(t)
	for _, c := range []struct {
		request  string
		topics   []string
		patterns []string
	}{
		{"/events/stocks.*", nil, []string{"stocks.*"}},
		{"/events/%3E", nil, []string{">"}},
		{"/events/**", nil, []string{">"}},
		{"/events?topic=stocks.**&topic=stocks.%3E,a,*", []string{"a"}, []string{"*", "stocks.>"}},
		{"/events/fx.*.USD,b?topic=*.x.**,fx.*.USD,b", []string{"b"}, []string{"*.x.>", "fx.*.USD"}},
		{"/events/$penstock.>", nil, []string{"$penstock.>"}},
	} {
		an, _ := short(t, a, raw("GET "+c.request))
		if an.sub == nil {
			t.Errorf("%s: %d %s", c.request, an.status, an.body)
			continue
		}
		var patterns []string
		for _, p := range an.sub.Patterns {
			if p.Plain() {
				t.Errorf("%s: %s is no pattern", c.request, p)
			}
			patterns = append(patterns, p.String())
		}
		if !reflect.DeepEqual(an.sub.Topics, c.topics) || !reflect.DeepEqual(patterns, c.patterns) {
			t.Errorf("%s: topics %q, patterns %q; want %q, %q", c.request, an.sub.Topics, patterns, c.topics, c.patterns)
		}
	}
}

// The server's own topics are hidden from strangers as patterns too; a wildcard in first place
// does not match them and is nobody's secret.
func TestPatternsOfOwnTopicsKeepTheirRule(t *testing.T) {
	a := start(t, func(o *Options) { o.Loopback = []bool{false} })
	for _, p := range []string{"$penstock.>", "$penstock.*", "$x.*.y", "a,$penstock.**"} {
		an := asked(t, a, [][2]string{{"topic", p}})
		an.want(t, p, 403, "pattern", "$", "loopback")
	}
	for _, p := range []string{">", "*", "*.stats", "**"} {
		if an := asked(t, a, [][2]string{{"topic", p}}); an.sub == nil {
			t.Errorf("%s: %d %s", p, an.status, an.body)
		}
	}
}

// A body says more than text can: arrays of topics, numbers, booleans. What it can't be is
// refused, and says where.
func TestBodyOfARequestForAStream(t *testing.T) {
	a := start(t, func(o *Options) { o.MinInterval = 10 * time.Millisecond })
	type S = fanout.Subscription
	for _, c := range []struct {
		target, body string
		want         S
	}{
		{"/events", `{"topic":["a","b.c,d"],"mode":"latest"}`, S{Topics: []string{"a", "b.c", "d"}, Latest: true}},
		{"/events", " {\n\t\"topic\" : [ \"\\u0061\" ] , \"snapshot\" : true , \"hello\":false, \"rewind\":10,\r\n \"interval\":0 } \n", S{Topics: []string{"a"}, Snapshot: true, Rewind: fanout.Rewind{Count: 10}}},
		{"/events/a?mode=latest", `{"topic":[],"lastEventId":1763670000000042}`, S{Topics: []string{"a"}, Latest: true, Resume: true, LastID: 1763670000000042}},
		{"/events/a", `{}`, S{Topics: []string{"a"}}},
		{"/events/a", ``, S{Topics: []string{"a"}}},
		{"/events/c", `{"topic":"b","topic":["a"]}`, S{Topics: []string{"a", "b", "c"}}},
		{"/events/a", `{"_":{"x":[1,null]},"_y":null,"_z":"x"}`, S{Topics: []string{"a"}}},
	} {
		an := ask(t, a, withBody("POST "+c.target, c.body, jsonBody))
		if an.sub == nil || !reflect.DeepEqual(*an.sub, c.want) {
			t.Errorf("%s %s: %+v %s, want %+v", c.target, c.body, an.sub, an.body, c.want)
		}
	}
	long := `{"topic":["` + strings.Repeat("x", 64<<10) + `"]}`
	for _, c := range []struct {
		target, body string
		lines        []string
		status       int
		words        []string
	}{
		{"/events", `["a"]`, nil, 400, []string{"body", `\"[\"`, "byte 1", "object"}},
		{"/events", `a=1`, nil, 400, []string{"body", "object"}},
		{"/events/a", ` `, nil, 400, []string{"ends", "object"}},
		{"/events", `{"topic":"a"`, nil, 400, []string{"body", "ends", "brace"}},
		{"/events", `{"topic":"a"}}`, nil, 400, []string{"byte 14", "behind"}},
		{"/events", `{"topic":"a",}`, nil, 400, []string{"byte 14", "name"}},
		{"/events", `{"topic" "a"}`, nil, 400, []string{"byte 10", "colon"}},
		{"/events", `{"topic":["a" "b"]}`, nil, 400, []string{"topic", "byte 15", "bracket"}},
		{"/events", `{"topic":["a",]}`, nil, 400, []string{"topic", "byte 15", "quotes"}},
		{"/events", `{"topic":[1]}`, nil, 400, []string{"topic", "byte 11"}},
		{"/events", `{"topic":["a","b c"]}`, nil, 400, []string{"b c", "byte 1"}},
		{"/events", `{"topic":5}`, nil, 400, []string{"topic", "string or an array"}},
		{"/events", `{"topic":null}`, nil, 400, []string{"topic", "string or an array"}},
		{"/events", `{"topic":"\ud83d"}`, nil, 400, []string{"topic", "d83d", "half"}},
		{"/events/a", `{"mode":["latest"]}`, nil, 400, []string{"mode", "byte 9", "a string, a number, true or false"}},
		{"/events/a", `{"mode":null}`, nil, 400, []string{"mode", "a string, a number"}},
		{"/events/a", `{"mode":{}}`, nil, 400, []string{"mode", "a string, a number"}},
		{"/events/a", `{"snapshot":1}`, nil, 400, []string{"snapshot", `\"1\"`, "true or false"}},
		{"/events/a", `{"snapshot":tru}`, nil, 400, []string{"snapshot", "byte"}},
		{"/events/a", `{"interval":250}`, nil, 400, []string{"interval", "250", "250ms"}},
		{"/events/a?mode=all", `{"mode":"all"}`, nil, 400, []string{"mode", "twice"}},
		{"/events/a", `{"mode":"all","mode":"all"}`, nil, 400, []string{"mode", "twice"}},
		{"/events/a", `{"\u006dode":"all","mode":"all"}`, nil, 400, []string{"mode", "twice"}},
		{"/events/a", `{"filter":[1]}`, nil, 400, []string{"filter", "unknown"}},
		{"/events/a", "{\"_\":\"\xff\"}", nil, 400, []string{"UTF-8"}},
		{"/events", long, nil, 413, []string{"65550", "65536", "--max-topics-per-subscriber"}},
		{"/events/a", `{}`, []string{"Content-Type: text/plain;charset=UTF-8"}, 400, []string{"Content-Type", "text/plain", "application/json", "x-www-form-urlencoded"}},
		{"/events/a", `{}`, []string{"X: y"}, 400, []string{"Content-Type", "application/json"}},
		{"/events/a", `{}`, []string{jsonBody, "Content-Encoding: gzip"}, 400, []string{"Content-Encoding", "gzip"}},
		{"/events/a", `{}`, []string{jsonBody, "Accept: text/html"}, 406, []string{"text/event-stream"}},
		{"/events", `topic=a%zz`, []string{"Content-Type: application/x-www-form-urlencoded"}, 400, []string{"form", "escape"}},
	} {
		if c.lines == nil {
			c.lines = []string{jsonBody}
		}
		for _, method := range []string{"POST", "QUERY"} {
			an := ask(t, a, withBody(method+" "+c.target, c.body, c.lines...))
			an.want(t, fmt.Sprintf("%s %s %.50s", method, c.target, c.body), c.status, c.words...)
		}
	}
	// As many topics of full length as a stream may have fit.
	many := start(t, func(o *Options) { o.MaxTopicsPerSubscriber = 1000 })
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("%0255d", i))
	}
	body, _ := json.Marshal(map[string]any{"topic": topics})
	if an := ask(t, many, withBody("POST /events", string(body), jsonBody)); an.sub == nil || !reflect.DeepEqual(an.sub.Topics, topics) {
		t.Errorf("1000 topics of 255 bytes: %d %.200s", an.status, an.body)
	}
}

// A POST for which there is no room is told to come back as a GET is; its body is not asked for.
func TestBusyKnowsARequestForAStreamByItsHead(t *testing.T) {
	a := start(t)
	id := publishOne(t, a, "a", "x")
	request := raw("POST /events", jsonBody, "Content-Length: 100", "Accept: text/event-stream", "Last-Event-ID: "+idText(id))
	if b := string(a.Busy(nil, head(t, request), from, accept.FullConnections)); !strings.HasPrefix(b, "HTTP/1.1 200") || !strings.HasSuffix(b, "\nid: "+idText(id)+"\n\n") {
		t.Errorf("%q", b)
	}
	an := parse(t, a.Busy(nil, head(t, raw("POST /events?mode=x", "Content-Length: 2")), from, accept.FullConnections), false)
	an.want(t, "a bad one", 400, "mode")
	an = parse(t, a.Busy(nil, head(t, raw("POST /events", "Content-Length: 2")), from, accept.FullConnections), false)
	an.want(t, "one that is not an EventSource", 503)
}

// slowAsk reads the JSON form with encoding/json: names and values in order.
func slowAsk(text []byte) (all [][2][]byte, err error) {
	if !json.Valid(text) {
		return nil, fmt.Errorf("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("not an object")
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := []byte(token.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		switch {
		case ignored(name):
			// Whatever it is, it is JSON.
		case string(name) == "topic" && value[0] == '[':
			var list []json.RawMessage
			if err := json.Unmarshal(value, &list); err != nil {
				return nil, err
			}
			for _, one := range list {
				s, err := slowText(one)
				if err != nil {
					return nil, err
				}
				all = append(all, [2][]byte{name, s})
			}
		case value[0] == '"':
			s, err := slowText(value)
			if err != nil {
				return nil, err
			}
			all = append(all, [2][]byte{name, s})
		case string(name) == "topic" || strings.IndexByte("[{n", value[0]) >= 0:
			return nil, fmt.Errorf("%s is %s", name, value)
		default:
			all = append(all, [2][]byte{name, value})
		}
	}
	return all, nil
}

// A JSON object of parameters is taken or refused as with encoding/json, and asks for the same.
func FuzzAskAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range ndjsonSeeds {
		f.Add([]byte(s))
		f.Add([]byte(strings.NewReplacer("data", "topic", "event", "mode", "trade", "latest").Replace(s)))
	}
	for _, s := range []string{
		`{"topic":["a","b"],"mode":"latest"}`, `{"topic":["a","\u0062.*"],"_":{"a":[1,{}]}}`, `{"topic":[],"snapshot":true,"rewind":10,"interval":"250ms","onlag":"close"}`,
		`{"topic":["a",]}`, `{"topic":[1]}`, `{"topic":[["a"]]}`, `{"lastEventId":17,"name":"topic"}`, `{"LASTEVENTID":1.5e3}`, `{"hello":false,"hello":true}`, `{"_x":null}`, `{"topic":null}`, `{"mode":null}`,
		`{"topic":"a","heartbeat":"event","envelope":true} `, `{"topic":["\ud83d"]}`, `{"_":"\ud83d"}`, `{"rewind":-0}`, `{"rewind":1e1}`, `{"\u005f":1}`,
	} {
		f.Add([]byte(s))
	}
	a := start(f, func(o *Options) { o.MinInterval = 10 * time.Millisecond })
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // refused before it gets here
		}
		fast := asking{a: a, sub: new(fanout.Subscription)}
		fastFailure := fast.readJSON(text)
		slow := asking{a: a, sub: new(fanout.Subscription)}
		all, slowErr := slowAsk(text)
		for _, p := range all {
			if f := slow.set(p[0], p[1]); f != nil && slowErr == nil {
				slowErr = fmt.Errorf("%s", f.text)
			}
		}
		if (fastFailure == nil) != (slowErr == nil) {
			t.Fatalf("%q: %+v; with encoding/json: %v", text, fastFailure, slowErr)
		}
		if fastFailure == nil && (!reflect.DeepEqual(*fast.sub, *slow.sub) || !bytes.Equal(fast.id, slow.id) || fast.seen != slow.seen || fast.byTopic != slow.byTopic || fast.envelope != slow.envelope) {
			t.Fatalf("%q: %+v %+v; with encoding/json: %+v %+v", text, fast, *fast.sub, slow, *slow.sub)
		}
	})
}
