package accept

// The strict look the slow way: lines by strings.Split, grammar by regular expressions written
// from the RFCs' rules. It judges head.go.

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

var (
	slowRequestLine = regexp.MustCompile(`^([!#$%&'*+\-.^_` + "`" + `|~0-9A-Za-z]{1,32}) ([!-"$-~\x80-\xff]+) HTTP/1\.([01])$`)
	slowField       = regexp.MustCompile(`^([!#$%&'*+\-.^_` + "`" + `|~0-9A-Za-z]+):[ \t]*((?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)[ \t]*$`)
	slowHost        = regexp.MustCompile(`^[A-Za-z0-9\-._~!$&'()*+;=:\[\]%]*$`)
	slowAbsolute    = regexp.MustCompile(`^(?i:https?)://([^/?]+)(.*)$`)
)

// slowHead is what slowLook found.
type slowHead struct {
	size                              int
	method, target, host, path        string
	length                            int64
	http10, chunked, expects, closing bool
}

// slowLook reads a whole head. ok is false when it is not one, or is not there yet.
func slowLook(p []byte) (h slowHead, ok bool) {
	blanks := 0
	for bytes.HasPrefix(p[blanks:], []byte("\r\n")) {
		blanks += 2
	}
	if blanks > blankMost {
		return h, false
	}
	end := bytes.Index(p[blanks:], []byte("\r\n\r\n"))
	if end < 0 {
		return h, false
	}
	h.size = blanks + end + 4
	lines := strings.Split(latin1(p[blanks:blanks+end]), "\r\n")
	m := slowRequestLine.FindStringSubmatch(lines[0])
	if m == nil || len(m[2]) > 2*targetMost {
		return h, false
	}
	h.method, h.target, h.http10 = m[1], m[2], m[3] == "0"
	if len(unlatin1(h.target)) > targetMost {
		return h, false
	}
	if h.size-blanks-len(unlatin1(lines[0]))-2 > fieldsMost {
		return h, false
	}
	fields := map[string][]string{}
	for _, line := range lines[1:] {
		m := slowField.FindStringSubmatch(line)
		if m == nil {
			return h, false
		}
		name := strings.ToLower(m[1])
		fields[name] = append(fields[name], m[2])
	}
	hosts := fields["host"]
	if len(hosts) > 1 || !h.http10 && (len(hosts) == 0 || hosts[0] == "") {
		return h, false
	}
	if len(hosts) == 1 {
		if h.host = hosts[0]; !slowHost.MatchString(h.host) {
			return h, false
		}
	}
	h.length = -1
	if lengths := fields["content-length"]; len(lengths) > 1 {
		return h, false
	} else if len(lengths) == 1 {
		if !regexp.MustCompile(`^[0-9]+$`).MatchString(lengths[0]) {
			return h, false
		}
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if err != nil || n > 1<<58 {
			n = 1 << 58
		}
		h.length = n
	}
	if codings := fields["transfer-encoding"]; len(codings) > 0 {
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || h.length >= 0 || h.http10 {
			return h, false
		}
		h.chunked = true
	}
	for _, e := range fields["expect"] {
		if !strings.EqualFold(e, "100-continue") {
			return h, false
		}
		h.expects = !h.http10
	}
	for _, list := range fields["connection"] {
		for _, e := range strings.Split(list, ",") {
			h.closing = h.closing || strings.EqualFold(strings.Trim(e, " \t"), "close")
		}
	}
	h.path, _, _ = strings.Cut(h.target, "?")
	switch {
	case h.target[0] == '/':
	case h.target == "*" && h.method == "OPTIONS":
	default:
		m := slowAbsolute.FindStringSubmatch(h.target)
		if m == nil || !slowHost.MatchString(m[1]) || len(hosts) == 1 && !strings.EqualFold(m[1], h.host) {
			return h, false
		}
		h.path, _, _ = strings.Cut(m[2], "?")
	}
	return h, true
}

// latin1 makes each byte a rune, so that regular expressions see bytes.
func latin1(p []byte) string {
	r := make([]rune, len(p))
	for i, c := range p {
		r[i] = rune(c)
	}
	return string(r)
}

func unlatin1(s string) string {
	var p []byte
	for _, r := range s {
		p = append(p, byte(r))
	}
	return string(p)
}
