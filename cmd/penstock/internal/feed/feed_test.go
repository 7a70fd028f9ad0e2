package feed

import (
	"bytes"
	"context"
	"encoding/json"
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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server takes batches as POST /publish does, and refuses what its judge says.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	batches [][]string // of each request that was taken, topic: data
	asked   int
	keys    [][]string    // of each request's events
	arrived chan []string // each batch that was taken, too
	// judge answers a status other than 200 to refuse; any goroutine, one at a time.
	judge func(asked int, events []string) (status int, header http.Header, text string)
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{arrived: make(chan []string, 1000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/publish" || r.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s %s, %q, %v", r.Method, r.URL, r.Header.Get("Content-Type"), err)
		}
		var events, keys []string
		for line := range bytes.Lines(body) {
			var e struct{ Topic, Data, Event, Key string }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			events = append(events, e.Topic+": "+e.Data)
			keys = append(keys, e.Key)
		}
		s.asked++
		s.keys = append(s.keys, keys)
		if s.judge != nil {
			if status, header, text := s.judge(s.asked, events); status != 200 {
				for name := range header {
					w.Header()[name] = header[name]
				}
				if status == 0 {
					panic(http.ErrAbortHandler) // cut
				}
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"error":%q}`, text)
				return
			}
		}
		first := 1
		for _, b := range s.batches {
			first += len(b)
		}
		s.batches = append(s.batches, events)
		s.arrived <- events
		fmt.Fprintf(w, `{"count":%d,"firstId":"%d","lastId":"%d"}`, len(events), first, first+len(events)-1)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.batches...)
}

// A desk is a feed's surroundings: its clock goes forward only while it waits.
type desk struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
	notes []string
}

func (d *desk) options(t *testing.T, s *server) Options {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	if d.now.IsZero() {
		d.now = noon
	}
	return Options{
		URL: s.URL + "/publish", Transport: transport,
		Now: func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.now },
		Wait: func(ctx context.Context, w time.Duration) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.now = d.now.Add(w)
			d.waits = append(d.waits, w)
			return ctx.Err()
		},
		Random: func() float64 { return 0 },
		Note:   func(line string) { d.notes = append(d.notes, line) },
	}
}

func (d *desk) run(t *testing.T, s *server, input io.Reader, o ReaderOptions, change ...func(*Options)) (Counts, error) {
	t.Helper()
	options := d.options(t, s)
	for _, c := range change {
		c(&options)
	}
	return New(options).Run(t.Context(), NewReader(input, o))
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

var inTopicT = ReaderOptions{Format: Lines, Topic: "t"}

// All of a file arrives, in order, in batches of a bounded size, and the counts are exact.
func TestFileIsPublishedWholeAndInOrder(t *testing.T) {
	s, d := serve(t), &desk{}
	const n = 10*maxBatch + 1
	counts, err := d.run(t, s, strings.NewReader(numbered(n)), inTopicT)
	if want := (Counts{Published: n, FirstID: "1", LastID: fmt.Sprint(n)}); err != nil || counts != want {
		t.Errorf("%+v, %v, want %+v", counts, err, want)
	}
	for i, e := range s.taken() {
		if want := fmt.Sprint("t: ", i+1); e != want {
			t.Fatalf("event %d is %q, want %q", i, e, want)
		}
	}
	for _, b := range s.batches {
		if len(b) > maxBatch {
			t.Errorf("a batch of %d, want at most %d", len(b), maxBatch)
		}
	}
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	s, d := serve(t), &desk{}
	line := strings.Repeat("x", maxBatchBytes/3) + "\n"
	if _, err := d.run(t, s, strings.NewReader(strings.Repeat(line, 7)), inTopicT); err != nil {
		t.Fatal(err)
	}
	for _, b := range s.batches {
		if len(b) > 4 {
			t.Errorf("%d thirds of the bound in a batch", len(b))
		}
	}
	if n := len(s.taken()); n != 7 {
		t.Errorf("%d events, want 7", n)
	}
}

// A pipe that pauses is not held back: each line is there before the next one is written.
func TestLivePipeIsNotHeldBack(t *testing.T) {
	s, d := serve(t), &desk{}
	in, out := io.Pipe()
	go func() {
		for i := range 20 {
			fmt.Fprintln(out, i)
			<-s.arrived
		}
		out.Close()
	}()
	if counts, err := d.run(t, s, in, inTopicT); err != nil || counts.Published != 20 || len(s.batches) != 20 {
		t.Errorf("%+v in %d batches, %v", counts, len(s.batches), err)
	}
}

// Recorded events are posted when they are due; those that are due together go together.
func TestReplayPostsWhenDue(t *testing.T) {
	s, d := serve(t), &desk{}
	var at []time.Duration
	s.judge = func(int, []string) (int, http.Header, string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		at = append(at, d.now.Sub(noon))
		return 200, nil, ""
	}
	input := `{"t":1000,"data":"a"}
{"t":1010,"data":"b"}
{"t":1010,"data":"c"}
{"t":1090.5,"data":"d"}
`
	// All is read before the first wait ends, or "c" might come too late to go with "b".
	counts, err := d.run(t, s, strings.NewReader(input), ReaderOptions{Format: NDJSON, Topic: "t", TimeField: "t"}, func(o *Options) {
		o.Pace = Pace{Speed: 10}
	})
	if err != nil || counts.Published != 4 {
		t.Fatalf("%+v, %v", counts, err)
	}
	if got := s.taken(); !slices.Equal(got, []string{"t: a", "t: b", "t: c", "t: d"}) {
		t.Errorf("%q", got)
	}
	if at[0] != 0 || at[1] != time.Second || at[len(at)-1] != 9050*time.Millisecond {
		t.Errorf("posted at %v, want 0s, 1s and 9.05s", at)
	}
}

// A server that is busy is asked again when it says, or later each time, and nothing is lost.
func TestBusyServerIsAskedAgain(t *testing.T) {
	s, d := serve(t), &desk{}
	s.judge = func(asked int, events []string) (int, http.Header, string) {
		switch {
		case asked == 1:
			return 503, http.Header{"Retry-After": {"7"}}, "drains"
		case asked == 2:
			return 429, nil, "slow down"
		case asked < 10:
			return 500, nil, ""
		}
		return 200, nil, ""
	}
	counts, err := d.run(t, s, strings.NewReader("a\n"), inTopicT)
	if want := (Counts{Published: 1, Retries: 9, FirstID: "1", LastID: "1"}); err != nil || counts != want {
		t.Errorf("%+v, %v, want %+v", counts, err, want)
	}
	ms := time.Millisecond
	if want := []time.Duration{7000 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 15000 * ms, 15000 * ms, 15000 * ms}; !slices.Equal(d.waits, want) {
		t.Errorf("waited %v, want %v", d.waits, want)
	}
	if len(d.notes) != 9 || d.notes[0] != "503 Service Unavailable: drains; trying again in 7s" {
		t.Errorf("%q", d.notes)
	}
}

// After --retry-for the feed ends and says what is not published.
func TestRetriesEnd(t *testing.T) {
	s, d := serve(t), &desk{}
	s.judge = func(asked int, events []string) (int, http.Header, string) {
		if asked == 1 {
			return 200, nil, ""
		}
		return 503, nil, "drains"
	}
	in, out := io.Pipe()
	go func() {
		fmt.Fprintln(out, "a")
		<-s.arrived
		fmt.Fprintln(out, "b")
		out.Close()
	}()
	counts, err := d.run(t, s, in, inTopicT, func(o *Options) { o.RetryFor = 10 * time.Second })
	if err == nil || !strings.Contains(err.Error(), "gave up on line 2 after 6 tries in 7.75s: 503 Service Unavailable: drains") || counts.Published != 1 || counts.Unread != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// A bad event costs itself alone: its batch is halved until it is alone, and its line is named.
func TestRefusedEventsAreFoundAndNamed(t *testing.T) {
	s, d := serve(t), &desk{}
	bad := []string{"t: 3", "t: 64", "t: 100"}
	s.judge = func(asked int, events []string) (int, http.Header, string) {
		for i, e := range events {
			if slices.Contains(bad, e) {
				return 400, nil, fmt.Sprintf("line %d: %q is no good", i+1, e)
			}
		}
		return 200, nil, ""
	}
	counts, err := d.run(t, s, strings.NewReader(numbered(100)), inTopicT)
	if err != nil || counts.Published != 97 || counts.Refused != 3 || counts.Unread != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
	var want []string
	for i := range 100 {
		if e := fmt.Sprint("t: ", i+1); !slices.Contains(bad, e) {
			want = append(want, e)
		}
	}
	if !slices.Equal(s.taken(), want) {
		t.Errorf("taken %q", s.taken())
	}
	if want := []string{`line 3: 400 Bad Request: "t: 3" is no good`, `line 64: 400 Bad Request: "t: 64" is no good`, `line 100: 400 Bad Request: "t: 100" is no good`}; !slices.Equal(d.notes, want) {
		t.Errorf("told %q", d.notes)
	}
}

// Lines that the server would refuse do not reach it, and only the first are told.
func TestLinesAreJudgedBeforeTheyAreSent(t *testing.T) {
	s, d := serve(t), &desk{}
	counts, err := d.run(t, s, strings.NewReader("{\"data\":1}\n"+strings.Repeat("nonsense\n", 50)+`{"event":"gap","data":"{}"}`), ReaderOptions{Format: NDJSON, Topic: "t"})
	if want := (Counts{Published: 1, Refused: 50, Skipped: 1, FirstID: "1", LastID: "1"}); err != nil || counts != want {
		t.Errorf("%+v, %v, want %+v", counts, err, want)
	}
	if s.asked != 1 || len(d.notes) != maxTold+1 {
		t.Errorf("%d requests, told %d lines", s.asked, len(d.notes))
	}
}

// A topic that may not be published to costs its own events; no token at all ends the feed.
func TestForbiddenAndUnauthorized(t *testing.T) {
	s, d := serve(t), &desk{}
	s.judge = func(asked int, events []string) (int, http.Header, string) {
		for _, e := range events {
			if strings.HasPrefix(e, "$own") {
				return 403, nil, "no"
			}
		}
		return 200, nil, ""
	}
	input := `{"topic":"a","data":"1"}
{"topic":"$own","data":"2"}
{"topic":"$own","data":"3"}
{"topic":"b","data":"4"}
`
	counts, err := d.run(t, s, strings.NewReader(input), ReaderOptions{Format: NDJSON})
	if err != nil || counts.Published != 2 || counts.Refused != 2 || !slices.Equal(s.taken(), []string{"a: 1", "b: 4"}) {
		t.Errorf("%+v, %v, %q", counts, err, s.taken())
	}

	s, d = serve(t), &desk{}
	s.judge = func(int, []string) (int, http.Header, string) { return 401, nil, "a token is needed" }
	counts, err = d.run(t, s, strings.NewReader("1\n2\n"), inTopicT)
	if err == nil || err.Error() != "401 Unauthorized: a token is needed" || counts.Published != 0 || counts.Unread == 0 || s.asked != 1 {
		t.Errorf("%+v, %v after %d requests", counts, err, s.asked)
	}
}

// Where the answer is lost the batch is sent again, and the counts own up to it.
func TestLostAnswerIsCounted(t *testing.T) {
	s, d := serve(t), &desk{}
	s.judge = func(asked int, events []string) (int, http.Header, string) {
		switch asked {
		case 1, 2:
			return 0, nil, ""
		case 3:
			return 504, nil, ""
		}
		return 200, nil, ""
	}
	counts, err := d.run(t, s, strings.NewReader("1\n2\n3\n"), inTopicT)
	if err != nil || counts.Published != 3 || counts.Unsure == 0 || counts.Retries < 3 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// With Once each event has a key of its own, the same at each try, and nothing is unsure.
func TestOnceSendsTheSameKeysAgain(t *testing.T) {
	s, d := serve(t), &desk{}
	s.judge = func(asked int, _ []string) (int, http.Header, string) {
		if asked < 3 {
			return 0, nil, ""
		}
		return 200, nil, ""
	}
	counts, err := d.run(t, s, strings.NewReader(`{"data":1,"key":"mine"}`+"\n"+`{"data":2}`+"\n"+`{"data":3}`), ReaderOptions{Format: NDJSON, Topic: "t"}, func(o *Options) { o.Once = true })
	if err != nil || counts.Published != 3 || counts.Unsure != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
	last := s.keys[len(s.keys)-1]
	if len(last) != 3 || last[0] != "mine" || last[1] == "" || last[1] == last[2] {
		t.Errorf("keys %q: one is given, the others are to be different", last)
	}
	for _, these := range s.keys {
		if !slices.Equal(these, last[:len(these)]) {
			t.Errorf("keys %q at one try, %q at the last", these, last)
		}
	}
}

// A server that is not there yet is waited for; nothing was sent, so nothing is unsure.
func TestServerOutOfReachIsWaitedFor(t *testing.T) {
	s, d := serve(t), &desk{}
	s.Close()
	counts, err := d.run(t, s, strings.NewReader("1\n2\n"), inTopicT, func(o *Options) { o.RetryFor = 5 * time.Second })
	if err == nil || !strings.Contains(err.Error(), "connection refused") || counts.Unsure != 0 || counts.Unread == 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// Something else than a Penstock is not taken for one.
func TestForeignAnswerIsFatal(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<p>Hello") }))
	defer other.Close()
	d := &desk{}
	counts, err := d.run(t, &server{Server: other}, strings.NewReader("1\n"), inTopicT)
	if _, ok := errors.AsType[*FatalError](err); !ok || counts.Published != 0 || counts.Unread != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// An interrupt ends the feed although the input goes on; what was read is published.
func TestInterruptPublishesWhatWasRead(t *testing.T) {
	s, d := serve(t), &desk{}
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	go func() {
		fmt.Fprintln(out, "1")
		<-s.arrived
		cancel()
	}()
	counts, err := New(d.options(t, s)).Run(ctx, NewReader(in, inTopicT))
	if err != nil || counts.Published != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
	out.Close() // lets the reading goroutine go
}

// An interrupt while the server is busy does not wait for it.
func TestInterruptEndsRetries(t *testing.T) {
	s, d := serve(t), &desk{}
	ctx, cancel := context.WithCancel(t.Context())
	s.judge = func(int, []string) (int, http.Header, string) { cancel(); return 503, nil, "busy" }
	counts, err := New(d.options(t, s)).Run(ctx, NewReader(strings.NewReader("1\n"), inTopicT))
	if err == nil || !strings.Contains(err.Error(), "interrupted") || counts.Unread != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
}
