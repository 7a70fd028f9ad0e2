package accept

// What the tests share: a Handler and a Joiner that do little, and clients that speak bytes.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"penstock/server/fanout"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(benchClientEnv) != "" {
		benchClient()
		return
	}
	// netpoll's pollers and fasthttp's clock live as long as the process.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// house is a Handler:
//
//	/events/...   a stream of what the path says (refused: an error)
//	/echo         the body, the method and the path
//	/secret       the same, with Authorization alone
//	/wait         waits until the test lets it go
//	/large/N      N bytes
//	/healthz      ok
type house struct {
	mu      sync.Mutex
	waiting chan struct{} // a request has come to /wait
	goOn    chan struct{} // closed: /wait answers
	froms   []From
	waits   atomic.Bool // Quick would wait
}

func newHouse() *house {
	return &house{waiting: make(chan struct{}, 10000), goOn: make(chan struct{})}
}

func (h *house) Short(dst []byte, head *fasthttp.RequestHeader, from From) (*fanout.Subscription, []byte, bool) {
	path, _, _ := strings.Cut(string(head.RequestURI()), "?")
	if !strings.HasPrefix(path, "/events/") {
		return nil, dst, true
	}
	h.saw(from)
	switch {
	case path == "/events/refused":
		return nil, h.Error(dst, head, 404, "no such topic"), false
	case head.IsHead():
		return nil, append(dst, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"...), false
	}
	return &fanout.Subscription{Topics: []string{path[len("/events/"):]}}, dst, false
}

func (h *house) saw(from From) {
	h.mu.Lock()
	h.froms = append(h.froms, from)
	h.mu.Unlock()
}

func (h *house) Serve(ctx *fasthttp.RequestCtx) {
	h.saw(Source(ctx))
	switch path := string(ctx.Path()); {
	case path == "/events/refused":
		ctx.Error(`{"error":"no such topic"}`, 404)
	case strings.HasPrefix(path, "/events/"):
		if ctx.IsHead() {
			ctx.SetContentType("text/event-stream")
			return
		}
		Stream(ctx, &fanout.Subscription{Topics: []string{path[len("/events/"):]}})
	case path == "/echo", path == "/secret", strings.HasPrefix(path, "/quick"):
		fmt.Fprintf(ctx, "%s %s ", ctx.Method(), ctx.RequestURI())
		ctx.Write(ctx.PostBody())
	case path == "/wait":
		h.waiting <- struct{}{}
		<-h.goOn
		ctx.WriteString("went on")
	case strings.HasPrefix(path, "/large/"):
		n, _ := strconv.Atoi(path[len("/large/"):])
		ctx.Write(bytes.Repeat([]byte("x"), n))
	case path == "/healthz":
		ctx.WriteString("ok")
	default:
		ctx.Error(`{"error":"no such path"}`, 404)
	}
}

// Quick answers /quick alone, as Serve does, unless it is told to wait.
func (h *house) Quick(ctx *fasthttp.RequestCtx) Quickness {
	switch path := string(ctx.Path()); {
	case path == "/quick/mistake":
		panic("a mistake")
	case path != "/quick":
		return NotQuick
	case h.waits.Load():
		return MustWait
	}
	h.Serve(ctx)
	return Answered
}

// Error says back which origin asked, where it is told.
func (h *house) Error(dst []byte, head *fasthttp.RequestHeader, status int, text string) []byte {
	origin := ""
	if head != nil && len(head.Peek("Origin")) > 0 {
		origin = "X-Origin: " + string(head.Peek("Origin")) + "\r\n"
	}
	body := fmt.Sprintf("{\"error\":%q}\n", text)
	return fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), origin, len(body), body)
}

// Admit refuses /secret without Authorization; with it 1,000 bytes may come.
func (h *house) Admit(dst []byte, head *fasthttp.RequestHeader, length int64, _ From) ([]byte, int64) {
	if string(head.RequestURI()) != "/secret" {
		return nil, 1 << 20
	}
	if len(head.Peek("Authorization")) == 0 {
		return h.Error(dst, head, 401, fmt.Sprintf("%d bytes of nobody", length)), 0
	}
	return nil, 1000
}

func (h *house) Busy(dst []byte, head *fasthttp.RequestHeader, _ From, why Full) []byte {
	if why == FullShare || why == FullAddress && (head == nil || string(head.Peek("Accept")) != "text/event-stream") {
		return append(dst, "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"...)
	}
	if head != nil && string(head.Peek("Accept")) == "text/event-stream" {
		return append(dst, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 4000\n\n"...)
	}
	return append(dst, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"...)
}

func (h *house) Room(path []byte) Room {
	switch {
	case string(path) == "/healthz":
		return Health
	case bytes.HasPrefix(path, []byte("/events/")):
		return Streams
	}
	return Shared
}

// shards is a Joiner. It writes a stream's first bytes, as a shard would, and keeps the sockets.
type shards struct {
	mu       sync.Mutex
	fds      []int
	tickets  []uint32
	enlisted []func()
	draining bool
}

var errDraining = errors.New("draining")

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

func (s *shards) Join(fd int, sub *fanout.Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	s.begin(fd, sub)
	return nil
}

func (s *shards) begin(fd int, sub *fanout.Subscription) {
	s.fds, s.tickets = append(s.fds, fd), append(s.tickets, sub.Ticket)
	_, err := unix.Write(fd, []byte(streamHead+": "+sub.Topics[0]+"\n\n"))
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		panic(fmt.Sprintf("accept test: Join got a descriptor that can't be written to: %v", err))
	}
}

// Enlist holds sockets back as shards with descriptor tables of their own do: the first bytes of
// their streams come with HandOver.
func (s *shards) Enlist(fd int, sub *fanout.Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	s.enlisted = append(s.enlisted, func() { s.begin(fd, sub) })
	return nil
}

func (s *shards) HandOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, begin := range s.enlisted {
		begin()
	}
	s.enlisted = nil
}

func (s *shards) Enlisted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.enlisted)
}

func (s *shards) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fds) + len(s.enlisted)
}

// unread is how many bytes wait in all streams' sockets.
func (s *shards) unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, fd := range s.fds {
		n, _ := unix.IoctlGetInt(fd, unix.SIOCINQ)
		all += n
	}
	return all
}

func (s *shards) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds = nil
}

// server is an Acceptor under test. Its end checks that it gave back every descriptor.
type server struct {
	*Acceptor
	house  *house
	shards *shards
}

func start(t testing.TB, change ...func(*Options)) *server {
	t.Helper()
	netpoll.Initialize() // it opens its own descriptors, once
	before := descriptors(t)
	s := &server{house: newHouse(), shards: &shards{}}
	o := Options{
		Listen: []string{"127.0.0.1:0"}, Handler: s.house, Shards: s.shards,
		MaxBodySize: 1 << 20, CloseTimeout: 10 * time.Second,
		Sockets: Sockets{DeferAccept: time.Second, NoDelay: true},
		Log:     slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	a, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Acceptor = a
	t.Cleanup(func() {
		select {
		case <-s.house.goOn:
		default:
			close(s.house.goOn)
		}
		a.Close()
		s.shards.closeAll()
		if t.Failed() {
			return
		}
		if st := a.Stats(); st.Open != 0 || st.InHand != 0 || st.Waiting != 0 || st.Lingering != 0 || a.bodies.Load() != 0 || a.held.Load() != 0 {
			t.Errorf("after Close something is left: %+v, bodies %d, held %d", st, a.bodies.Load(), a.held.Load())
		}
		eventually(t, "all descriptors to be given back", func() bool { return descriptors(t) <= before })
	})
	return s
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	every := time.NewTicker(2 * time.Millisecond)
	defer every.Stop()
	late := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-every.C:
		case <-late:
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

// conn is what TCP connections and unix sockets have in common.
type conn interface {
	net.Conn
	CloseWrite() error
}

// client is a connection that a test speaks bytes on.
type client struct {
	conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, to net.Addr) *client {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{conn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

func (s *server) dial(t testing.TB) *client {
	t.Helper()
	return dial(t, s.Addr())
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer is one response.
type answer struct {
	status int
	header http.Header
	body   string
	close  bool
}

func (c *client) answer() answer {
	c.t.Helper()
	a, err := c.tryAnswer()
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	return a
}

func (c *client) tryAnswer() (answer, error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, close: resp.Close}
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return a, nil
	}
	body, err := io.ReadAll(resp.Body)
	a.body = string(body)
	return a, err
}

// all is everything up to the connection's clean end.
func (c *client) all() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("read to the end: %v after %q", err, b)
	}
	return string(b)
}

// stream reads the beginning of a stream.
func (c *client) stream(topic string) {
	c.t.Helper()
	want := streamHead + ": " + topic + "\n\n"
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		c.t.Fatalf("stream: got %q, %v; want %q", got[:n], err, want)
	}
}

// reset closes the connection with a reset.
func (c *client) reset() {
	c.conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// A way is how a request reaches the server.
type way struct {
	name string
	open func(*testing.T, *server) *client
	kept bool   // open has been answered before
	pad  string // a header line that makes the head too large for the short way
}

// ways are: the short one (for a plain GET), the long one from the beginning, and the long one on
// a connection that has served a request before.
var ways = []way{
	{name: "short", open: func(t *testing.T, s *server) *client { return s.dial(t) }},
	{name: "long", open: func(t *testing.T, s *server) *client { return s.dial(t) }, pad: "X-Pad: " + strings.Repeat("p", shortMost) + "\r\n"},
	{name: "kept", kept: true, open: func(t *testing.T, s *server) *client {
		c := s.dial(t)
		c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst")
		if a := c.answer(); a.status != 200 || a.body != "POST /echo first" || a.close {
			t.Fatalf("first request: %+v", a)
		}
		return c
	}},
	{name: "quick", kept: true, open: func(t *testing.T, s *server) *client {
		c := s.dial(t)
		c.send("POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst")
		if a := c.answer(); a.status != 200 || a.body != "POST /quick first" || a.close {
			t.Fatalf("first request: %+v", a)
		}
		return c
	}},
}

func everyWay(t *testing.T, test func(*testing.T, *server, way), change ...func(*Options)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { test(t, start(t, change...), w) })
	}
}
