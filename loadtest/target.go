package loadtest

// What is asked of the server: URLs with {topic} and {data} in them, to bytes on the wire.
//
// A target is made once and read by all threads.

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"penstock/encode"
)

// A target is a URL of the server, taken apart.
type target struct {
	host string // as the Host header says it
	addr netip.AddrPort
	path string // with the query; {topic} and {data} not yet replaced
}

// Marks in URLs and bodies.
const (
	markTopic = "{topic}"
	markData  = "{data}"
)

// parseTarget takes apart a URL and looks its host up. flag names it in errors.
func parseTarget(ctx context.Context, flag, raw string) (*target, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	// The braces of a mark are no URL characters.
	u, err := url.Parse(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(raw))
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w; it takes http://host:port/path, with {topic} where the topic stands", flag, raw, err)
	}
	switch {
	case u.Scheme == "https":
		return nil, fmt.Errorf("%s %q: https is not spoken; give the server's http port, or put a proxy that ends TLS before it", flag, raw)
	case u.Scheme != "http":
		return nil, fmt.Errorf("%s %q: scheme %q; http is allowed", flag, raw, u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s %q: no host; it takes http://host:port/path", flag, raw)
	case u.User != nil:
		return nil, fmt.Errorf("%s: a user in the URL; give it as --header 'Authorization: ...'", flag)
	}
	port := uint64(80)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return nil, fmt.Errorf("%s %q: port %q; 1 to 65535 are allowed", flag, raw, p)
		}
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, &unreachableError{fmt.Errorf("%s %q: %w", flag, raw, err)}
	}
	addr := addrs[0].Unmap()
	for _, a := range addrs { // "localhost": most servers listen on 127.0.0.1
		if a.Unmap().Is4() {
			addr = a.Unmap()
			break
		}
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	path = strings.NewReplacer("%7B", "{", "%7D", "}").Replace(path)
	return &target{host: u.Host, addr: netip.AddrPortFrom(addr, uint16(port)), path: path}, nil
}

// An unreachableError is a host that cannot be found: no fault of the command line's form.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// bare says whether the URL names a server and no path: then it is a Penstock, and a query in it is
// that of its streams.
func (t *target) bare() bool {
	return t.path == "/" || strings.HasPrefix(t.path, "/?") && !strings.Contains(t.path, markTopic)
}

// stream answers the target of a bare one's streams.
func (t *target) stream(watch int) *target {
	s := *t
	query := strings.TrimLeft(t.path, "/?")
	if watch == 1 {
		s.path = "/events/" + markTopic
		if query != "" {
			s.path += "?" + query
		}
		return &s
	}
	s.path = "/events?topic=" + markTopic
	if query != "" {
		s.path += "&" + query
	}
	return &s
}

// latest says whether streams ask for no more than the newest event of each topic.
func (t *target) latest() bool {
	_, query, _ := strings.Cut(t.path, "?")
	return slices.Contains(strings.Split(query, "&"), "mode=latest")
}

// withTopics answers the path for a list of topics: joined by commas where {topic} stands in the
// path, and where it is a query's value that parameter for each of them.
func (t *target) withTopics(topics []string) string {
	path := t.path
	i := strings.Index(path, markTopic)
	if i < 0 {
		return path
	}
	rest := path[i+len(markTopic):]
	if q := strings.LastIndexAny(path[:i], "?&"); q >= 0 && path[i-1] == '=' {
		return path[:i] + strings.Join(topics, "&"+path[q+1:i]) + rest
	}
	return path[:i] + strings.Join(topics, ",") + rest
}

// subscribeHead answers a GET for a stream, all but a Last-Event-ID and the empty line at its end.
func (t *target) subscribeHead(path string, coding encode.Coding, headers []string) []byte {
	b := make([]byte, 0, 128+len(path))
	b = append(b, "GET "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, t.host...)
	b = append(b, "\r\nAccept: text/event-stream\r\nUser-Agent: penstock-loadtest\r\n"...)
	if coding != encode.Identity { // which is asked for by saying nothing
		b = append(append(append(b, "Accept-Encoding: "...), coding.String()...), '\r', '\n')
	}
	for _, h := range headers {
		b = append(append(b, h...), '\r', '\n')
	}
	return b
}

// checkHeader refuses what would break a request apart.
func checkHeader(flag, h string) error {
	name, _, ok := strings.Cut(h, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t\r\n") || strings.ContainsAny(h, "\r\n\x00") {
		return fmt.Errorf("%s %q: not a header; it takes 'Name: value' on one line", flag, h)
	}
	return nil
}

// A publication is how events are published: one request for one event or for several lines.
type publication struct {
	target *target
	method string
	head   []byte // headers after the request line, but Content-Length
	body   string // a line, with {topic} and {data}
}

// penstockPublication is Penstock's own way: raw data to the topic's path, or NDJSON.
func penstockPublication(base *target, batch int, headers []string) *publication {
	t := *base
	p := &publication{target: &t, method: "POST", body: markData}
	t.path = "/publish/" + markTopic
	if batch > 1 {
		t.path = "/publish"
		p.body = `{"topic":"` + markTopic + `","data":"` + markData + `"}`
		headers = append([]string{"Content-Type: application/x-ndjson"}, headers...)
	}
	p.head = publishHead(&t, headers)
	return p
}

func publishHead(t *target, headers []string) []byte {
	b := []byte(" HTTP/1.1\r\nHost: " + t.host + "\r\nUser-Agent: penstock-loadtest\r\n")
	for _, h := range headers {
		b = append(append(b, h...), '\r', '\n')
	}
	return b
}

// appendLine appends a template with its marks replaced.
func appendLine(dst []byte, template string, topic string, data []byte) []byte {
	for {
		i := strings.IndexByte(template, '{')
		if i < 0 {
			return append(dst, template...)
		}
		dst = append(dst, template[:i]...)
		template = template[i:]
		switch {
		case strings.HasPrefix(template, markTopic):
			dst = append(dst, topic...)
			template = template[len(markTopic):]
		case strings.HasPrefix(template, markData):
			dst = append(dst, data...)
			template = template[len(markData):]
		default:
			dst = append(dst, '{')
			template = template[1:]
		}
	}
}

// appendRequest appends a request whose body is there.
func (p *publication) appendRequest(dst []byte, topic string, data, body []byte) []byte {
	dst = append(dst, p.method...)
	dst = append(dst, ' ')
	dst = appendLine(dst, p.target.path, topic, data)
	dst = append(dst, p.head...)
	if len(body) > 0 || p.method != http.MethodGet {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(body)), 10)
		dst = append(dst, '\r', '\n')
	}
	dst = append(dst, '\r', '\n')
	return append(dst, body...)
}
