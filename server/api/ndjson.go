package api

// A line of NDJSON to an event: a scanner by hand (json.go) for the one shape that is taken. Any
// goroutine.
//
// A general parser would build a tree of every line first. This one looks at each byte once
// (compaction, where data has white space, once more) and refers to the body wherever the text
// stands there as it is. Its slow twin in the tests is encoding/json.

import (
	"errors"
	"fmt"

	"penstock/server/topic"
)

// An event is what a line says. Its bytes lie in the line or in the scanner's arena.
type event struct {
	topic    []byte
	data     []byte
	kind     []byte // event, or type
	key      []byte // nil: none
	retry    int
	close    bool // the topic ends with it
	hasTopic bool
}

// The names that a line may have, as bits to find the doubles.
const (
	seenTopic = 1 << iota
	seenData
	seenKind
	seenRetry
	seenID
	seenTime
	seenClose
	seenKey
)

// event reads a line into e; blank tells that there is nothing in it. Whether what it says is
// UTF-8 is not looked at.
func (s *scanner) event(line []byte, e *event) (blank bool, err error) {
	*e = event{}
	i := s.space(line, 0)
	if i == len(line) {
		return true, nil
	}
	if line[i] != '{' {
		return false, fmt.Errorf(`%s at byte %d; an event is an object: {"topic":"...","data":...}`, show(line, i), i+1)
	}
	i = s.space(line, i+1)
	seen := 0
	for first := true; ; first = false {
		if first && i < len(line) && line[i] == '}' {
			break
		}
		if i == len(line) || line[i] != '"' {
			return false, fmt.Errorf("%s at byte %d, where a name in quotes belongs", show(line, i), i+1)
		}
		var name []byte
		at := i
		if name, i, err = s.text(line, i); err != nil {
			return false, err
		}
		i = s.space(line, i)
		if i == len(line) || line[i] != ':' {
			return false, fmt.Errorf("%s at byte %d, where a colon belongs", show(line, i), i+1)
		}
		i = s.space(line, i+1)

		bit := 0
		switch string(name) {
		case "data":
			bit = seenData
			e.data, i, err = s.data(line, i)
		case "topic":
			bit = seenTopic
			e.hasTopic = true
			e.topic, i, err = s.name(line, i, "topic")
		case "event":
			bit = seenKind
			e.kind, i, err = s.name(line, i, "event")
		case "type":
			bit = seenKind
			e.kind, i, err = s.name(line, i, "type")
		case "retry":
			bit = seenRetry
			e.retry, i, err = s.retry(line, i)
		case "id":
			bit = seenID
			i, err = s.value(line, i, 1)
		case "time":
			bit = seenTime
			i, err = s.value(line, i, 1)
		case "close":
			bit = seenClose
			e.close, i, err = s.close(line, i)
		case "key":
			bit = seenKey
			if e.key, i, err = s.name(line, i, "key"); err == nil {
				if err = topic.CheckKey(borrow(e.key)); err != nil {
					err = fmt.Errorf("name %q at byte %d: %w", name, at+1, err)
				}
			}
		default:
			return false, fmt.Errorf("name %s at byte %d is unknown; an event has topic, data, event (or type), retry, key and close, and id and time are ignored", quote(name), at+1)
		}
		if err != nil {
			return false, err
		}
		if seen&bit != 0 {
			return false, fmt.Errorf("name %q at byte %d is there twice", name, at+1)
		}
		seen |= bit

		i = s.space(line, i)
		if i < len(line) && line[i] == ',' {
			i = s.space(line, i+1)
			continue
		}
		if i == len(line) || line[i] != '}' {
			return false, fmt.Errorf("%s at byte %d, where a comma or the closing brace belongs", show(line, i), i+1)
		}
		break
	}
	if i = s.space(line, i+1); i < len(line) {
		return false, fmt.Errorf("%s at byte %d, behind the event; a line is one object", show(line, i), i+1)
	}
	if seen&seenData == 0 && !e.close {
		return false, errors.New(`no "data"; it is required, a string or any other JSON value, unless "close" is true`)
	}
	return false, nil
}

// data reads the value of "data": a string is sent as it is, any other value compacted.
func (s *scanner) data(line []byte, i int) ([]byte, int, error) {
	if i < len(line) && line[i] == '"' {
		return s.text(line, i)
	}
	s.spaced = false
	end, err := s.value(line, i, 1)
	if err != nil {
		return nil, end, err
	}
	if !s.spaced {
		return line[i:end], end, nil
	}
	from := len(s.arena)
	for i < end {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '"':
			// Valid by now: the end alone is wanted.
			next, _, _ := stringEnd(line, i)
			s.arena = append(s.arena, line[i:next]...)
			i = next
		default:
			s.arena = append(s.arena, c)
			i++
		}
	}
	return s.arena[from:len(s.arena):len(s.arena)], end, nil
}

// name reads a string.
func (s *scanner) name(line []byte, i int, what string) ([]byte, int, error) {
	if i == len(line) || line[i] != '"' {
		return nil, i, fmt.Errorf("%s at byte %d; %q is a string", show(line, i), i+1, what)
	}
	return s.text(line, i)
}

// retry reads a whole number of milliseconds.
func (s *scanner) retry(line []byte, i int) (int, int, error) {
	end, err := s.value(line, i, 1)
	if err != nil {
		return 0, end, err
	}
	n, ok := milliseconds(line[i:end])
	if !ok {
		return 0, end, fmt.Errorf("retry %s; it is whole milliseconds, 0 to 2147483647", quote(line[i:end]))
	}
	return n, end, nil
}

// close reads true or false.
func (s *scanner) close(line []byte, i int) (bool, int, error) {
	end, err := s.value(line, i, 1)
	if err != nil {
		return false, end, err
	}
	var is bool
	if !either(line[i:end], "false", "true", &is) {
		return false, end, fmt.Errorf("close %s; it is true or false", quote(line[i:end]))
	}
	return is, end, nil
}
