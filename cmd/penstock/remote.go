package main

// What publish and subscribe have in common: a server's URL, and the headers that they send.

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// A remote is the server that a command talks to. It is embedded in the command.
type remote struct {
	Header    []string `name:"header" short:"H" sep:"none" placeholder:"NAME:VALUE" help:"Send this header too. May be repeated."`
	TokenFile string   `name:"token-file" placeholder:"PATH" help:"Send the token in this file, as Authorization: Bearer TOKEN."`
}

// headers are those to send with each request.
func (r *remote) headers() (http.Header, error) {
	h := make(http.Header)
	h.Set("User-Agent", "penstock")
	for _, line := range r.Header {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsFunc(name, notToken) || strings.ContainsFunc(value, isControl) {
			return nil, usagef("--header %q: it takes NAME:VALUE, on one line", line)
		}
		h.Add(name, value)
	}
	if r.TokenFile != "" {
		text, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return nil, usagef("--token-file: %w", err)
		}
		token := string(bytes.TrimSpace(text))
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, usagef("--token-file %s: no token there; the file holds one token and nothing else", r.TokenFile)
		}
		h.Set("Authorization", "Bearer "+token)
	}
	return h, nil
}

// notToken tells a character that no header's name has (RFC 9110 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// isControl tells a character that no header's value has (RFC 9110 5.5).
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// parseURL reads a URL that somebody typed.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		u.Fragment = ""
		return u, nil
	}
	if _, e := url.Parse("http://" + text); e == nil && !strings.Contains(text, "://") && !strings.HasPrefix(text, "/") {
		return nil, usagef("URL %q: no http:// or https:// before it; did you mean http://%s?", text, text)
	}
	return nil, usagef("URL %q: it takes http://host:port or https://host, with or without a path", text)
}
