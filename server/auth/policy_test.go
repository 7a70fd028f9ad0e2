package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/server/topic"
)

// tokenFile writes a token file and returns its path.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	rewrite(t, path, text)
	return path
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// may asks whether a token may publish.
func may(p *Policy, token string) error {
	_, err := p.Publisher([]byte("Bearer "+token), false)
	return err
}

// A file has one token a line, comments and empty lines aside; all of them publish.
func TestTokenFileHasATokenALine(t *testing.T) {
	p, err := New(Options{TokenFile: tokenFile(t, "# the old one\r\none\r\n\n  two==  \nthree/+-._~")})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "two==", "three/+-._~"} {
		if err := may(p, token); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	for _, token := range []string{"", "on", "onee", "# the old one", "one\r", " "} {
		if err := may(p, token); err == nil {
			t.Errorf("%q may publish", token)
		}
	}
	for text, words := range map[string]string{
		"":             "none",
		"# only this":  "none",
		"good\nb d":    "line 2",
		"good\nb\"d":   "line 2",
		"gööd":         "line 1",
		"Bearer token": "line 1",
	} {
		if _, err := New(Options{TokenFile: tokenFile(t, text)}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want an error that says %q", text, err, words)
		}
	}
	if _, err := New(Options{TokenFile: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "--publish-token-file") {
		t.Errorf("no file: %v", err)
	}
	if _, err := New(Options{TokenFile: "x", Insecure: true}); err == nil || !strings.Contains(err.Error(), "--insecure-publish") {
		t.Errorf("both: %v", err)
	}
}

// A file that has changed counts without a restart; one that can't be read changes nothing.
func TestTokenFileIsReadAgainWhenItHasChanged(t *testing.T) {
	path := tokenFile(t, "old")
	p, err := New(Options{TokenFile: path, Recheck: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, "new")
	if err := may(p, "new"); err != nil {
		t.Errorf("the new token: %v", err)
	}
	if err := may(p, "old"); !errors.Is(err, ErrBadToken) {
		t.Errorf("the old token: %v", err)
	}
	rewrite(t, path, "")
	if err := may(p, "new"); err != nil {
		t.Errorf("the new token, from a file just emptied: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := may(p, "new"); err != nil {
		t.Errorf("the new token, the file gone: %v", err)
	}
	rewrite(t, path, "newer")
	if err := may(p, "newer"); err != nil {
		t.Errorf("the newer token: %v", err)
	}
	if err := (&Policy{}).Reload(); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

// A file that stays the same is not looked at for every publish.
func TestTokenFileIsNotLookedAtForEveryPublish(t *testing.T) {
	path := tokenFile(t, "old")
	p, err := New(Options{TokenFile: path, Recheck: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, "new")
	if err := may(p, "old"); err != nil {
		t.Error(err)
	}
}

// The table of who may publish, by what is configured and what a request brings.
func TestWhoMayPublish(t *testing.T) {
	none, _ := New(Options{})
	insecure, _ := New(Options{Insecure: true})
	token, err := New(Options{TokenFile: tokenFile(t, "s3cret")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p             *Policy
		authorization string
		local         bool
		want          error
	}{
		{none, "", true, nil}, {none, "", false, ErrNotLocal}, {none, "Bearer x", false, ErrNotLocal}, {none, "Bearer x", true, nil},
		{insecure, "", false, nil}, {insecure, "Bearer x", false, nil},
		{token, "", true, ErrNoToken}, {token, "", false, ErrNoToken}, {token, "Basic s3cret", true, ErrNoToken}, {token, "Bearers3cret", true, ErrNoToken},
		{token, "Bearer   ", true, ErrNoToken}, {token, "Bearer x", true, ErrBadToken}, {token, "BEARER s3cret", false, nil}, {token, "Bearer s3cret", true, nil},
	} {
		who, err := c.p.Publisher([]byte(c.authorization), c.local)
		if !errors.Is(err, c.want) {
			t.Errorf("%q, local %v: %v, want %v", c.authorization, c.local, err, c.want)
		}
		if err == nil {
			if err := who.MayPublish("a.b"); err != nil {
				t.Error(err)
			}
			if err := who.MayPublish("$a"); !errors.Is(err, topic.ErrOwnTopic) {
				t.Errorf("an own topic: %v", err)
			}
		}
	}
	if err := none.Subscriber(false).MaySubscribe("$a"); !errors.Is(err, ErrHidden) {
		t.Errorf("an own topic from elsewhere: %v", err)
	}
	if err := none.Subscriber(true).MaySubscribe("$a"); err != nil {
		t.Errorf("an own topic from here: %v", err)
	}
	if err := none.Subscriber(false).MaySubscribe("a"); err != nil {
		t.Errorf("a topic from elsewhere: %v", err)
	}
}

// Only names that stand for this machine alone are local.
func TestLocalHostsAreThisMachinesOwnNames(t *testing.T) {
	for host, local := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost:8080": true, "127.0.0.1": true, "127.0.0.1:1": true, "[::1]": true, "[::1]:80": true, "localhost:": true,
		"": false, ":80": false, "127.0.0.2": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false, "evil.example": false, "localhost:x": false,
		"localhost:8080:1": false, "::1": false, "[::2]": false, "[::1": false, "localhost.": false, "user@localhost": false, " localhost": false,
	} {
		if got := LocalHost([]byte(host)); got != local {
			t.Errorf("%q: local %v, want %v", host, got, local)
		}
	}
	for name, proxy := range map[string]bool{
		"Forwarded": true, "forwarded": true, "Via": true, "X-Forwarded-For": true, "x-forwarded-proto": true,
		"X-Forwarded-": false, "X-Forwarded": false, "Host": false, "Forwarded-For": false, "": false,
	} {
		if got := ProxyHeader([]byte(name)); got != proxy {
			t.Errorf("%q: a proxy's %v, want %v", name, got, proxy)
		}
	}
}
