// Package answer reads what a server says when it does not do as it was asked: the reason, and
// when to ask again. Any goroutine.
package answer

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	maxBody   = 4 << 10 // bytes of an answer that are read for its reason
	maxReason = 300     // bytes of it that are shown
	maxWait   = time.Hour
)

// An Error is an answer that is not what was asked for.
type Error struct {
	Status     int
	Type       string        // its media type, for answers of the wrong kind
	Reason     string        // what it says, on one line, safe for a terminal; "" where it says nothing
	RetryAfter time.Duration // how long it asks to wait, at most an hour; 0 where it does not say
}

// Error names the status and the reason.
func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Read makes an Error of an answer, and reads its body for that.
func Read(resp *http.Response) *Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return &Error{Status: resp.StatusCode, Type: media, Reason: reason(body), RetryAfter: retryAfter(resp.Header)}
}

// reason is the text of a Penstock's {"error":...}, else the beginning of the body.
func reason(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	text := string(body)
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		text = answer.Error
	} else if strings.HasPrefix(strings.TrimSpace(text), "<") {
		return "" // a page says nothing on a terminal
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return Printable(text)
}

// retryAfter reads Retry-After (RFC 9110 10.2.3), seconds or a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := time.Now()
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date // the server's clock set the time, so it is the one to compare with
	}
	return min(max(at.Sub(now), 0), maxWait)
}

// Printable shows what could move a terminal's cursor, or set its title, as an escape: what
// others sent is other people's text.
func Printable(s string) string {
	const joiner = '\u200d' // emoji are joined by it; nothing else of its class is harmless
	safe := func(r rune) bool { return r == '\t' || r == joiner || unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, func(r rune) bool { return !safe(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case safe(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
