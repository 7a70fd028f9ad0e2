package encode

// Slow twins: the same things done naively, to judge the fast ways by.

import (
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A seen is a Decoded that was copied.
type seen struct {
	Type, Data, ID string
	HasData, HasID bool
	Retry          int
	Comments       int
}

// slowDecode reads a whole stream as WHATWG HTML 9.2.6 tells it, one sentence
// after the other. id is the last event id at its end; open tells that something
// was thrown away there.
func slowDecode(stream string) (blocks []seen, id string, open bool) {
	// "Streams must be decoded using the UTF-8 decode algorithm", which strips one
	// leading byte order mark, if any.
	stream = strings.TrimPrefix(stream, "\xef\xbb\xbf")

	// "Lines must be separated by either a CRLF pair, a single LF, or a single CR."
	lines := strings.Split(normal(stream), "\n")
	unfinished := lines[len(lines)-1]
	lines = lines[:len(lines)-1]

	data, eventType, lastID := "", "", "" // the standard's three buffers
	block := seen{Retry: -1}
	for _, line := range lines {
		open = line != ""
		if line == "" { // "Dispatch the event"
			id = lastID
			block.ID, block.Type = lastID, eventType
			if eventType == "" {
				block.Type = "message"
			}
			if data != "" {
				block.HasData = true
				block.Data = strings.TrimSuffix(data, "\n")
			}
			if block.HasData || block.HasID || block.Retry >= 0 || block.Comments > 0 {
				blocks = append(blocks, block)
			}
			data, eventType, block = "", "", seen{Retry: -1}
			continue
		}
		if strings.HasPrefix(line, ":") { // "Ignore the line"
			block.Comments++
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			eventType = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				lastID = value
				block.HasID = true
			}
		case "retry":
			if n, ok := new(big.Int).SetString(value, 10); ok && strings.Trim(value, "0123456789") == "" {
				block.Retry = MaxRetry
				if n.Cmp(big.NewInt(MaxRetry)) < 0 {
					block.Retry = int(n.Int64())
				}
			}
		}
	}
	return blocks, id, open || unfinished != ""
}

// slowFrame makes a frame by splitting the data with a regular expression.
func slowFrame(e *Event, id uint64) string {
	var s strings.Builder
	if e.Type != "" {
		s.WriteString("event: " + e.Type + "\n")
	}
	for _, line := range regexp.MustCompile(`\r\n|\r|\n`).Split(string(e.Data), -1) {
		s.WriteString("data: " + line + "\n")
	}
	if e.Retry != 0 {
		s.WriteString("retry: " + strconv.Itoa(e.Retry) + "\n")
	}
	return s.String() + "id: " + strconv.FormatUint(id, 10) + "\n\n"
}

// normal is data as a client sees them.
func normal(data string) string {
	return strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
}

var (
	slowSizeLine = regexp.MustCompile(`^([0-9A-Fa-f]{1,16})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n`)
	slowTrailer  = regexp.MustCompile("^([-!#$%&'*+.^_`|~0-9A-Za-z]+:[\\t\\x20-\\x7e\\x80-\\xff]*\r\n)*\r\n")
)

// slowDechunk reads a chunked body by the grammar of RFC 9112 7.1. ok tells that
// body begins with a whole one; rest is what follows it. It has no bound for what
// a Dechunker skips.
func slowDechunk(body string) (payload, rest string, ok bool) {
	for {
		line := slowSizeLine.FindStringSubmatch(latin1(body))
		if line == nil {
			return payload, "", false
		}
		body = body[utf8.RuneCountInString(line[0]):]
		size, err := strconv.ParseInt(line[1], 16, 64)
		if err != nil {
			return payload, "", false
		}
		if size == 0 {
			break
		}
		if size > int64(len(body)) {
			return payload + body, "", false
		}
		payload += body[:size]
		body, ok = strings.CutPrefix(body[size:], "\r\n")
		if !ok {
			return payload, "", false
		}
	}
	trailer := slowTrailer.FindString(latin1(body))
	if trailer == "" {
		return payload, "", false
	}
	return payload, body[utf8.RuneCountInString(trailer):], true
}

// latin1 makes a character of each byte, for regular expressions match those.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

// slowWeighted is an element of Accept-Encoding (RFC 9110 12.5.3, 12.4.2, 5.6.2).
var slowWeighted = regexp.MustCompile(`^[ \t]*([-!#$%&'*+.^_\x60|~0-9A-Za-z]+)([ \t]*;[ \t]*[qQ]=(0(\.[0-9]{0,3})?|1(\.0{0,3})?))?[ \t]*$`)

// slowChoose gives every coding that could be chosen its weight and sorts them.
func slowChoose(accept string, offered []Coding) Coding {
	named := make(map[string][]float64)
	for _, element := range strings.Split(accept, ",") {
		m := slowWeighted.FindStringSubmatch(latin1(element))
		if m == nil {
			continue
		}
		weight := 1.0
		if m[3] != "" {
			weight, _ = strconv.ParseFloat(strings.TrimSuffix(m[3], "."), 64)
		}
		name := strings.ToLower(m[1])
		if name == "x-gzip" {
			name = "gzip"
		}
		named[name] = append(named[name], weight)
	}
	type candidate struct {
		coding Coding
		weight float64
	}
	var all []candidate
	for _, c := range append(slices.Clone(offered), Identity) {
		weights := named[c.String()]
		if weights == nil {
			weights = named["*"]
		}
		switch {
		case weights != nil:
			all = append(all, candidate{c, slices.Min(weights)})
		case c == Identity:
			all = append(all, candidate{c, 1e-9}) // less than any weight
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return int(1e9*b.weight) - int(1e9*a.weight) })
	if len(all) == 0 || all[0].weight == 0 {
		return Identity
	}
	return all[0].coding
}
