package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"penstock/cmd/penstock/internal/answer"
	"penstock/encode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is what a server does with one request after the other; the last step is repeated.
type script struct {
	*httptest.Server
	mu    sync.Mutex
	steps []http.HandlerFunc
	ids   []string // Last-Event-ID of each request, "none" without
	heads []http.Header
}

func play(t *testing.T, steps ...http.HandlerFunc) *script {
	t.Helper()
	s := &script{steps: steps}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		id := "none"
		if ids, ok := r.Header["Last-Event-Id"]; ok {
			id = strings.Join(ids, "|")
		}
		s.ids = append(s.ids, id)
		s.heads = append(s.heads, r.Header)
		step := s.steps[min(len(s.ids), len(s.steps))-1]
		s.mu.Unlock()
		step(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// stream answers with an event stream and ends it cleanly.
func stream(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream;charset=utf-8")
		io.WriteString(w, text)
	}
}

// cut answers with an event stream that breaks off.
func cut(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream(text)(w, r)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int, text string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, text)
	}
}

// A reader follows a script to its end and remembers what it saw.
type reader struct {
	data  []string
	waits []time.Duration
	notes []string
}

func (r *reader) follow(t *testing.T, s *script, change ...func(*Options)) error {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true} // or it tries again by itself
	t.Cleanup(transport.CloseIdleConnections)
	o := Options{
		URL: s.URL, Transport: transport,
		Wait:   func(ctx context.Context, d time.Duration) error { r.waits = append(r.waits, d); return ctx.Err() },
		Random: func() float64 { return 0 },
		Note:   func(line string) { r.notes = append(r.notes, line) },
	}
	for _, c := range change {
		c(&o)
	}
	return New(o).Run(t.Context(), func(d *encode.Decoded) error {
		if d.HasData {
			r.data = append(r.data, string(d.Data))
		}
		return nil
	}, func() error { return nil })
}

var done = status(204, "")

// After a cut and after a clean end alike the stream goes on after the last id, at the time that
// it has set itself; half an event is thrown away. At 204 it is over, without an error.
func TestComesBackAndResumes(t *testing.T) {
	s := play(t,
		cut("retry: 2500\nid: 5\n\ndata: six\nid: 6\n\ndata: half"),
		stream("data: seven\nid: 7\n\n:\n\n"),
		stream("id: 9\n\n"),
		cut("data: ten\n\n"), // no id: 9 stays
		done)
	var r reader
	if err := r.follow(t, s, func(o *Options) { o.LastID = "3" }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"six", "seven", "ten"}; !slices.Equal(r.data, want) {
		t.Errorf("data %q, want %q", r.data, want)
	}
	if want := []string{"3", "6", "7", "9", "9"}; !slices.Equal(s.ids, want) {
		t.Errorf("asked after %q, want %q", s.ids, want)
	}
	for _, w := range r.waits {
		if w != 2500*time.Millisecond {
			t.Errorf("waited %v, want what retry says", r.waits)
			break
		}
	}
	if len(r.notes) != 5 || !strings.HasPrefix(r.notes[0], "unexpected EOF; trying again in 2.5s") || r.notes[4] != "the server has no more (204)" {
		t.Errorf("told %q", r.notes)
	}
}

// Without an id none is sent; Accept is what makes a busy Penstock say "later" in a way that
// EventSource survives.
func TestRequest(t *testing.T) {
	s := play(t, done)
	var r reader
	if err := r.follow(t, s, func(o *Options) { o.Header = http.Header{"Authorization": {"Bearer x"}} }); err != nil {
		t.Fatal(err)
	}
	h := s.heads[0]
	if s.ids[0] != "none" || h.Get("Accept") != "text/event-stream" || h.Get("Authorization") != "Bearer x" || h.Get("Accept-Encoding") != "" {
		t.Errorf("sent %v", h)
	}
}

// Failures make the wait longer, up to a minute, with jitter; a connection makes it short again.
func TestBackoff(t *testing.T) {
	refuse := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	s := play(t, refuse, refuse, refuse, refuse, refuse, refuse, stream("retry: 1\n\n"), refuse, done)
	var r reader
	if err := r.follow(t, s, func(o *Options) { o.Random = func() float64 { return 0.5 } }); err != nil {
		t.Fatal(err)
	}
	want := []time.Duration{3, 6, 12, 24, 48, 60, 0, 0}
	for i := range want {
		want[i] = want[i] * time.Second * 5 / 4
		if want[i] == 0 {
			want[i] = leastRetry * 5 / 4
		}
	}
	if !slices.Equal(r.waits, want) {
		t.Errorf("waited %v, want %v", r.waits, want)
	}
}

// Answers at which EventSource gives up end it with their reason, unless it shall not.
func TestRefusalsEndIt(t *testing.T) {
	for _, c := range []struct {
		step http.HandlerFunc
		want string
	}{
		{status(401, `{"error":"a token is\nneeded"}`), "401 Unauthorized: a token is needed"},
		{status(404, "not here\x1b[2J"), `404 Not Found: not here\x1b[2J`},
		{status(500, "<html>sorry"), "500 Internal Server Error"},
		{status(503, "", "Retry-After", "20"), "503 Service Unavailable"},
		{status(200, "<html>", "Content-Type", "text/html; charset=utf-8"), "200 OK"},
	} {
		s := play(t, c.step, done)
		var r reader
		err := r.follow(t, s)
		if _, ok := errors.AsType[*answer.Error](err); !ok || err.Error() != c.want || len(s.ids) != 1 {
			t.Errorf("%v after %d requests, want %s", err, len(s.ids), c.want)
		}
		s, r = play(t, c.step, done), reader{}
		err = r.follow(t, s, func(o *Options) { o.RetryAll = true })
		if err != nil || len(s.ids) != 2 || !strings.HasPrefix(r.notes[0], c.want) {
			t.Errorf("with RetryAll: %v after %d requests, told %q", err, len(s.ids), r.notes)
		}
		if c.want == "503 Service Unavailable" && r.waits[0] != 20*time.Second {
			t.Errorf("waited %v, want what Retry-After says", r.waits)
		}
	}
}

// A stream that says nothing for too long is asked for again.
func TestSilentStreamIsLeft(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") == "1" {
			done(w, r)
			return
		}
		stream("data: x\nid: 1\n\n")(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	// On a busy machine the event itself may come too late, and is asked for again.
	s := play(t, silent)
	var r reader
	if err := r.follow(t, s, func(o *Options) { o.Idle = 100 * time.Millisecond }); err != nil {
		t.Fatal(err)
	}
	if s.ids[0] != "none" || s.ids[len(s.ids)-1] != "1" || r.notes[0] != "silent for 100ms; trying again in 3s" {
		t.Errorf("asked after %q, told %q", s.ids, r.notes)
	}
}

// The context ends it without an error, while it reads and while it waits.
func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := play(t, func(w http.ResponseWriter, r *http.Request) {
		stream("data: x\n\n")(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	err := New(Options{URL: s.URL, Transport: transport}).Run(ctx, func(*encode.Decoded) error { cancel(); return nil }, func() error { return nil })
	if err != nil {
		t.Error(err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	s = play(t, stream(""))
	err = New(Options{URL: s.URL, Transport: transport, Note: func(string) { cancel() }}).Run(ctx, func(*encode.Decoded) error { return nil }, func() error { return nil })
	if err != nil {
		t.Error(err)
	}
}

// What the caller's functions return ends it; nothing after that block counts as seen.
func TestCallerEndsIt(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct{ each, flush, want error }{
		{ErrStop, nil, nil},
		{nil, ErrStop, nil},
		{broken, nil, broken},
		{nil, broken, broken},
		{ErrStop, broken, broken},
	} {
		s := play(t, stream("data: x\nid: 1\n\ndata: y\nid: 2\n\n"))
		transport := &http.Transport{}
		f := New(Options{URL: s.URL, Transport: transport})
		err := f.Run(t.Context(), func(*encode.Decoded) error { return c.each }, func() error { return c.flush })
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("each %v, flush %v: %v", c.each, c.flush, err)
		}
		if c.each != nil && f.lastID != "1" {
			t.Errorf("last id %q, want 1", f.lastID)
		}
		transport.CloseIdleConnections()
	}
}

// A block without an end is refused, and not asked for again and again.
func TestEndlessBlockEndsIt(t *testing.T) {
	s := play(t, func(w http.ResponseWriter, r *http.Request) {
		stream("data: ")(w, r)
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})
	var r reader
	if err := r.follow(t, s); err == nil || !strings.Contains(err.Error(), fmt.Sprint(encode.DefaultMaxBlock)) {
		t.Errorf("%v, want the size that is allowed", err)
	}
}
