package api

// Slow twins: what the fast readers do, done again with the standard library.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// slowEvent reads a line of NDJSON with encoding/json: token by token where doubles count.
func slowEvent(line []byte) (e event, blank bool, err error) {
	if len(bytes.Trim(line, " \t\r\n")) == 0 {
		return e, true, nil
	}
	if !json.Valid(line) {
		return e, false, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return e, false, errors.New("not an object")
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return e, false, err
		}
		name := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return e, false, err
		}
		field := name
		if field == "type" {
			field = "event"
		}
		if seen[field] {
			return e, false, fmt.Errorf("%s twice", name)
		}
		seen[field] = true
		switch field {
		case "topic":
			e.hasTopic = true
			e.topic, err = slowText(value)
		case "event":
			e.kind, err = slowText(value)
		case "data":
			if value[0] == '"' {
				e.data, err = slowText(value)
			} else {
				var b bytes.Buffer
				err = json.Compact(&b, value)
				e.data = b.Bytes()
			}
		case "retry":
			if strings.ContainsAny(string(value), "-.eE\"{[ntf") {
				return e, false, errors.New("not a whole number")
			}
			e.retry, err = strconv.Atoi(string(value))
			if err == nil && e.retry > 1<<31-1 {
				err = errors.New("too large")
			}
		case "close":
			e.close = string(value) == "true"
			if !e.close && string(value) != "false" {
				err = errors.New("neither true nor false")
			}
		case "id", "time":
		default:
			return e, false, fmt.Errorf("unknown %s", name)
		}
		if err != nil {
			return e, false, err
		}
	}
	if !seen["data"] && !e.close {
		return e, false, errors.New("no data")
	}
	return e, false, nil
}

// slowText decodes a JSON string. encoding/json makes half a surrogate pair U+FFFD in silence;
// here it is an error, so that is looked for first.
func slowText(value []byte) ([]byte, error) {
	if value[0] != '"' {
		return nil, errors.New("not a string")
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	if strings.Count(s, "\ufffd") != strings.Count(string(value), "\ufffd")+strings.Count(strings.ToLower(unslash(value)), `\ufffd`) {
		return nil, errors.New("half a character")
	}
	return []byte(s), nil
}

// unslash takes out escaped backslashes, so that \\ufffd is not taken for an escape.
func unslash(value []byte) string { return strings.ReplaceAll(string(value), `\\`, "") }

// sameEvent compares what two readers made of a line.
func sameEvent(a, b *event) bool {
	return bytes.Equal(a.topic, b.topic) && bytes.Equal(a.data, b.data) && bytes.Equal(a.kind, b.kind) &&
		a.retry == b.retry && a.hasTopic == b.hasTopic && a.close == b.close
}

// slowQuery reads a query with net/url, in order.
func slowQuery(query string) ([][2]string, error) {
	var all [][2]string
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		values, err := url.ParseQuery(pair)
		if err != nil {
			return nil, err
		}
		for name, value := range values {
			all = append(all, [2]string{name, value[0]})
		}
	}
	return all, nil
}

// readPairs reads a query with pairs.
func readPairs(query []byte) ([][2]string, error) {
	var all [][2]string
	p := pairs{text: query}
	for {
		name, value, ok, err := p.next()
		if err != nil || !ok {
			return all, err
		}
		all = append(all, [2]string{string(name), string(value)})
	}
}
