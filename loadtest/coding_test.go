package loadtest

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"penstock/encode"
)

func zipped(w http.ResponseWriter) io.WriteCloser { return gzip.NewWriter(w) }

// A compressed stream is judged as one that is not: each fault counts, and the
// ratio is that of its bytes.
func TestCompressedStreamsAreJudgedAsOthersAre(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	s.coding = zipped
	s.deliver = func(subscriber, n int, frame string) []string {
		switch n {
		case 50:
			return nil
		case 60:
			return []string{frame, frame}
		case 70:
			return []string{strings.Replace(frame, "~\n", "\n", 1)}
		}
		return []string{frame}
	}
	cfg := quick(s.URL)
	cfg.Coding = encode.Gzip
	r := mustRun(t, cfg)
	got := r.Streams
	if got.Events != 198*10 || got.Lost != 10 || got.Doubled != 10 || got.Torn != 10 || got.Uncoded != 0 || !r.OK() {
		t.Errorf("%+v, errors %v", got, r.Errors)
	}
	if r.Ratio < 1.5 || got.BytesCoded >= got.BytesIn || got.BytesPlain != uint64(float64(got.BytesCoded)*r.Ratio+0.5) {
		t.Errorf("ratio %v of %+v", r.Ratio, got)
	}
	if r.Deliveries != got.Events || len(r.Notes) != 0 {
		t.Errorf("%d deliveries of %d, notes %q", r.Deliveries, got.Events, r.Notes)
	}
}

// The end of a compressed stream is looked at: its trailer, and that it has one.
func TestWrongEndsOfCompressedStreamsAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ wire, want string }{
		"right":              {"", "stream ended by the server"},
		"no trailer":         {"cut", "stream cut: it ended without the trailer of its gzip stream"},
		"a wrong checksum":   {"crc", "not an event stream: gzip stream: CRC-32"},
		"no gzip":            {"plain", "not an event stream: gzip stream: byte 0 of its header"},
		"something after it": {"more", "not an event stream: gzip stream: byte 0 of its header"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFaultyServer(t)
			s.coding = func(w http.ResponseWriter) io.WriteCloser { return &badZipper{gzip.NewWriter(w), w, c.wire} }
			s.deliver = func(subscriber, n int, frame string) []string {
				if n == 20 {
					for _, topic := range s.topics { // the lock is held
						close(topic.listeners[subscriber].end)
					}
				}
				return []string{frame}
			}
			cfg := quick(s.URL)
			cfg.Coding, cfg.Subscribers, cfg.Rate, cfg.Events, cfg.Grace = encode.Gzip, 1, 200, 40, 0
			r := mustRun(t, cfg)
			found := false
			for reason := range r.Errors {
				found = found || strings.HasPrefix(reason, c.want)
			}
			if !found || r.Streams.Ended != 1 {
				t.Errorf("errors %v, %d ended; want %q", r.Errors, r.Streams.Ended, c.want)
			}
		})
	}
}

// A badZipper ends its stream otherwise.
type badZipper struct {
	*gzip.Writer
	w    io.Writer
	kind string
}

func (z *badZipper) Write(p []byte) (int, error) {
	if z.kind == "plain" {
		return z.w.Write(p)
	}
	return z.Writer.Write(p)
}

func (z *badZipper) Flush() error {
	if z.kind == "plain" {
		return nil
	}
	return z.Writer.Flush()
}

func (z *badZipper) Close() error {
	switch z.kind {
	case "cut", "plain":
		return nil
	case "crc":
		_, err := io.WriteString(z.w, "\x03\x00abcdefgh")
		return err
	}
	err := z.Writer.Close()
	if z.kind == "more" {
		_, err = io.WriteString(z.w, "data: x\n\n")
	}
	return err
}

// Where only a share of the streams is checked, deliveries to the others are
// counted by their bytes, and nothing of theirs is lost.
func TestStreamsThatAreNotCheckedAreCounted(t *testing.T) {
	t.Parallel()
	for _, coding := range []encode.Coding{encode.Identity, encode.Gzip} {
		t.Run(coding.String(), func(t *testing.T) {
			t.Parallel()
			s := newFaultyServer(t)
			s.coding = zipped
			s.deliver = func(subscriber, n int, frame string) []string {
				if n == 50 {
					return nil
				}
				return []string{frame}
			}
			cfg := quick(s.URL)
			cfg.Coding, cfg.CheckShare = coding, 0.3
			r := mustRun(t, cfg)
			if r.Streams.Events != 199*3 || r.Streams.Lost != 3 || !r.OK() {
				t.Errorf("%+v, errors %v", r.Streams, r.Errors)
			}
			// The end of the run cuts the streams that are not checked wherever they are.
			if r.Deliveries < 199*9 || r.Deliveries > 199*10+1 {
				t.Errorf("%d deliveries, want some %d", r.Deliveries, 199*10)
			}
			if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "0.3 of the streams") {
				t.Errorf("notes %q", r.Notes)
			}
		})
	}
}

// A server that does not compress is read, and the report says so.
func TestServerThatDoesNotCompressIsSaid(t *testing.T) {
	t.Parallel()
	cfg := quick(newFaultyServer(t).URL)
	cfg.Coding = encode.Gzip
	r := mustRun(t, cfg)
	if r.Streams.Events != 2000 || r.Streams.Uncoded != 10 || r.Ratio != 1 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "10 streams were asked for in gzip and came without") {
		t.Errorf("%+v, notes %q", r.Streams, r.Notes)
	}
}

func TestSettingsOfCodingThatCannotBe(t *testing.T) {
	for want, set := range map[string]func(*Config){
		"--check-share 2: 0 to 1 are allowed":                        func(c *Config) { c.CheckShare = 2 },
		"has no id to come back with":                                func(c *Config) { c.CheckShare, c.ChurnRate = 0.5, 1 },
		`--header "accept-encoding: br": --coding says what streams`: func(c *Config) { c.SubscribeH = []string{"accept-encoding: br"} },
	} {
		cfg := quick("http://127.0.0.1:1")
		set(&cfg)
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	cfg := quick("http://127.0.0.1:1")
	for share, want := range map[float64]int{0: 1000, 1: 1000, 0.5: 500, 0.001: 1, 0.0001: 1} {
		p := &plan{cfg: cfg}
		p.cfg.CheckShare = share
		n := 0
		for i := range 1000 {
			if p.checks(i) {
				n++
			}
		}
		if n != want || !p.checks(0) {
			t.Errorf("share %v: %d of 1,000 are checked, the first: %t", share, n, p.checks(0))
		}
	}
}
