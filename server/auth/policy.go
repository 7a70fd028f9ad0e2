package auth

// The policy: the publish token, and what loopback allows.
//
// Any goroutine. The token file is read again when it has changed, looked at not more often
// than once a second and only while somebody presents a token, by whoever comes first.

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"penstock/server/topic"
)

// What a request lacks. ErrNoToken, ErrBadToken and ErrNotLocal are a 401: with a (better) token
// it might pass. ErrHidden is a 403: nothing that the request could bring would help.
var (
	ErrNoToken  = errors.New("publishing takes a token: send Authorization: Bearer and one of the tokens of --publish-token-file")
	ErrBadToken = errors.New("the token is none of --publish-token-file")
	ErrNotLocal = errors.New("publishing without a token is allowed only on a loopback address, to a Host of localhost, 127.0.0.1 or [::1], and without a proxy; configure --publish-token-file, or --insecure-publish")
	ErrHidden   = errors.New("topics that begin with $ are the server's own: they are seen only on a loopback address, by a Host of localhost, 127.0.0.1 or [::1], and without a proxy")
)

// Options say what the policy rests on.
type Options struct {
	// TokenFile names a file with the tokens that may publish, one a line; empty lines and
	// lines that begin with # are skipped. "" for none: then only loopback may publish.
	TokenFile string
	// Insecure lets everybody publish, from everywhere. It excludes TokenFile.
	Insecure bool
	// Recheck is how long the file's contents are trusted before it is looked at again; 0
	// means a second.
	Recheck time.Duration
}

// A Policy holds the rules. Its methods may be called from any goroutine.
type Policy struct {
	insecure bool
	file     string
	recheck  time.Duration

	tokens atomic.Pointer[tokens] // nil: none configured
	due    atomic.Int64           // when the file is looked at again, nanoseconds since 1970

	reading sync.Mutex // held by the one that looks at the file
	seen    stamp      // under reading
}

// tokens are kept as hashes of equal length, so that comparing tells nothing about them.
type tokens [][sha256.Size]byte

// stamp tells two versions of the file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// New reads the token file, if there is one. It fails where the file cannot be read or holds no
// token, and where the options contradict each other.
func New(o Options) (*Policy, error) {
	if o.Insecure && o.TokenFile != "" {
		return nil, fmt.Errorf("--insecure-publish lets everybody publish, so that --publish-token-file %q would protect nothing; leave one of them out", o.TokenFile)
	}
	p := &Policy{insecure: o.Insecure, file: o.TokenFile, recheck: o.Recheck}
	if p.recheck == 0 {
		p.recheck = time.Second
	}
	if p.file != "" {
		if err := p.Reload(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Reload reads the token file if it has changed. On an error the tokens stay as they were, so
// that a file caught half-written locks nobody out. Any goroutine; without a file it does
// nothing.
func (p *Policy) Reload() error {
	if p.file == "" {
		return nil
	}
	p.reading.Lock()
	defer p.reading.Unlock()
	p.due.Store(time.Now().Add(p.recheck).UnixNano())
	info, err := os.Stat(p.file)
	if err != nil {
		return fmt.Errorf("read the publish tokens: %w; --publish-token-file names a file with one token a line", err)
	}
	now := stamp{info.ModTime(), info.Size()}
	// A file changed within the clock's grain of the last look has the same stamp; one so
	// young is read again anyway.
	if now == p.seen && time.Since(now.modified) > 2*time.Second {
		return nil
	}
	text, err := os.ReadFile(p.file)
	if err != nil {
		return fmt.Errorf("read the publish tokens: %w; --publish-token-file names a file with one token a line", err)
	}
	t, err := parseTokens(string(text))
	if err != nil {
		return fmt.Errorf("publish tokens in %s: %w", p.file, err)
	}
	p.tokens.Store(&t)
	p.seen = now
	return nil
}

// parseTokens reads one token a line. A token is what RFC 6750 section 2.1 lets a Bearer header
// carry.
func parseTokens(text string) (tokens, error) {
	var t tokens
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		for i := range len(line) {
			if !tokenByte(line[i]) {
				return nil, fmt.Errorf("line %d: byte %d is %q; a token is made of letters, digits and -._~+/=", number, i+1, line[i])
			}
		}
		t = append(t, sha256.Sum256([]byte(line)))
	}
	if len(t) == 0 {
		return nil, errors.New("there is none; a token is a line of letters, digits and -._~+/=")
	}
	return t, nil
}

func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/=", c) >= 0
}

// match tells whether token is one of them. It takes equally long wherever they differ.
func (t tokens) match(token []byte) bool {
	sum := sha256.Sum256(token)
	found := 0
	for i := range t {
		found |= subtle.ConstantTimeCompare(t[i][:], sum[:])
	}
	return found == 1
}

// Configured tells whether a token is configured, so that publishing needs one. Any goroutine.
func (p *Policy) Configured() bool { return p.file != "" }

// A Publisher is who may publish: what Policy.Publisher found out about a request.
type Publisher struct{}

// Publisher judges who sent a request. authorization is its Authorization header, empty for
// none; local tells that it came over a loopback listener, to a name of this machine and through
// no proxy (LocalHost, ProxyHeader). A configured token is asked of everybody, local ones too:
// many a proxy on this machine does not say that it is one. The errors are ErrNoToken,
// ErrBadToken and ErrNotLocal. Any goroutine.
func (p *Policy) Publisher(authorization []byte, local bool) (Publisher, error) {
	switch {
	case p.insecure:
		return Publisher{}, nil
	case p.file == "":
		if !local {
			return Publisher{}, ErrNotLocal
		}
		return Publisher{}, nil
	}
	token, ok := bearer(authorization)
	if !ok {
		return Publisher{}, ErrNoToken
	}
	if due := p.due.Load(); time.Now().UnixNano() >= due && p.due.CompareAndSwap(due, time.Now().Add(p.recheck).UnixNano()) {
		// What Reload says is not this publisher's matter: the tokens known so far go on.
		_ = p.Reload()
	}
	if !p.tokens.Load().match(token) {
		return Publisher{}, ErrBadToken
	}
	return Publisher{}, nil
}

// MayPublish tells whether the publisher may publish to a topic, which must be a valid name:
// nil, or topic.ErrOwnTopic. Any goroutine.
func (Publisher) MayPublish(name string) error {
	if topic.IsOwn(name) {
		return topic.ErrOwnTopic
	}
	return nil
}

// A Subscriber is who may subscribe: what Policy.Subscriber found out about a request.
type Subscriber struct{ local bool }

// Subscriber judges who asks for a stream; local as for Publisher. Any goroutine.
func (p *Policy) Subscriber(local bool) Subscriber { return Subscriber{local} }

// MaySubscribe tells whether the subscriber may subscribe to a topic, which must be a valid
// name: nil, or ErrHidden. Any goroutine.
func (s Subscriber) MaySubscribe(name string) error {
	if !s.local && topic.IsOwn(name) {
		return ErrHidden
	}
	return nil
}

// bearer takes the token out of an Authorization header (RFC 6750 section 2.1; the scheme in any
// case, RFC 9110 section 11.1).
func bearer(authorization []byte) ([]byte, bool) {
	const scheme = "bearer "
	if len(authorization) <= len(scheme) || !equalFold(authorization[:len(scheme)], scheme) {
		return nil, false
	}
	token := authorization[len(scheme):]
	for len(token) > 0 && token[0] == ' ' {
		token = token[1:]
	}
	return token, len(token) > 0
}

// LocalHost tells whether a Host header names this machine by a name that no other can stand
// for: localhost, 127.0.0.1 or [::1], with or without a port. A page elsewhere whose name was
// made to point here (DNS rebinding) sends its own name. Any goroutine.
func LocalHost(host []byte) bool {
	name := host
	if i := lastColon(host); i >= 0 {
		name = host[:i]
		for _, c := range host[i+1:] {
			if c < '0' || c > '9' {
				return false
			}
		}
	}
	return string(name) == "127.0.0.1" || string(name) == "[::1]" || equalFold(name, "localhost")
}

// lastColon finds the colon before a port; that of an address in brackets is none.
func lastColon(host []byte) int {
	for i := len(host) - 1; i >= 0 && host[i] != ']'; i-- {
		if host[i] == ':' {
			return i
		}
	}
	return -1
}

// ProxyHeader tells whether a request with this header has come through a proxy: Forwarded
// (RFC 7239), Via (RFC 9110 section 7.6.3) and X-Forwarded-*. Any goroutine.
func ProxyHeader(name []byte) bool {
	switch len(name) {
	case len("via"):
		return equalFold(name, "via")
	case len("forwarded"):
		return equalFold(name, "forwarded")
	}
	const x = "x-forwarded-"
	return len(name) > len(x) && equalFold(name[:len(x)], x)
}

// equalFold compares ASCII without regard to case; lower is lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
