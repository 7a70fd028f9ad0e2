package accept

// What a stream's beginning costs the server, beside a bare loop of accept4, epoll_ctl, recv and
// send in the same run. The clients are in a process of their own, so that the CPU time is the
// server's; what the kernel does in the receiving half of loopback is in all figures alike.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"penstock/server/fanout"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

const (
	benchClientEnv = "PENSTOCK_ACCEPT_BENCH_CLIENT"

	benchRound = 1000 // streams at once
	benchStorm = 50   // streams that begin at once
	benchKept  = 8    // connections that requests are sent over
)

// benchClient is the other process: for each line "n address path" it opens n streams there,
// benchStorm at a time, reads each one's first bytes and writes a line; the next line closes them.
// Where the path is /echo it sends n requests over benchKept connections instead.
func benchClient() {
	runtime.LockOSThread()
	in := bufio.NewScanner(os.Stdin)
	var fds []int
	check := func(what string, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, what, err)
			os.Exit(1)
		}
	}
	connect := func(to netip.AddrPort) int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		check("socket", err)
		check("connect", unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
		return fd
	}
	publish := func(n int, to netip.AddrPort) {
		var all sync.WaitGroup
		request := []byte(post("/echo", 100, "User-Agent: curl/8.5.0\r\nContent-Type: text/plain\r\n") + strings.Repeat("x", 100))
		for range benchKept {
			all.Go(func() {
				fd := connect(to)
				defer unix.Close(fd)
				buf := make([]byte, 1024)
				for range n / benchKept {
					_, err := unix.Write(fd, request)
					check("write", err)
					got, err := unix.Read(fd, buf)
					check("read", err)
					if got < 12 || string(buf[9:12]) != "200" {
						check("publish", fmt.Errorf("got %q", buf[:got]))
					}
				}
			})
		}
		all.Wait()
	}
	for in.Scan() {
		for _, fd := range fds {
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(fd)
		}
		fds = fds[:0]
		var n int
		var to netip.AddrPort
		var address, path string
		fmt.Sscan(in.Text(), &n, &address, &path)
		to = netip.MustParseAddrPort(address)
		if path == "/echo" {
			publish(n, to)
			fmt.Println("published")
			continue
		}
		request := []byte("GET " + path + " HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: text/event-stream\r\n\r\n")
		buf := make([]byte, 256)
		for len(fds) < n {
			storm := len(fds)
			for range min(benchStorm, n-len(fds)) {
				fds = append(fds, connect(to))
			}
			for _, fd := range fds[storm:] {
				_, err := unix.Write(fd, request)
				check("write", err)
			}
			for _, fd := range fds[storm:] {
				_, err := unix.Read(fd, buf)
				check("read", err)
			}
		}
		fmt.Println("open")
	}
}

// clients are a benchClient under control.
type clients struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func startClients(b *testing.B) *clients {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), benchClientEnv+"=1")
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	return &clients{in, bufio.NewScanner(out)}
}

func (c *clients) open(b *testing.B, n int, to net.Addr, path string) {
	fmt.Fprintln(c.in, n, to, path)
	if !c.out.Scan() {
		b.Fatal("the clients' process has ended")
	}
}

// cpu is the process's CPU time.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure opens b.N streams in rounds and reports the server's CPU time and allocations for one.
func measure(b *testing.B, to net.Addr, path string, closeAll func()) {
	c := startClients(b)
	c.open(b, 50, to, path) // warm
	closeAll()
	used, allocated := int64(0), uint64(0)
	var before, after runtime.MemStats
	for left := b.N; left > 0; left -= benchRound {
		n := min(left, benchRound)
		runtime.ReadMemStats(&before)
		began := cpu(b)
		c.open(b, n, to, path)
		used += cpu(b) - began
		runtime.ReadMemStats(&after)
		allocated += after.Mallocs - before.Mallocs
		c.open(b, 0, to, path)
		closeAll()
	}
	b.ReportMetric(float64(used)/float64(b.N)/1000, "us-cpu/stream")
	b.ReportMetric(float64(allocated)/float64(b.N), "mallocs/stream")
	b.ReportMetric(0, "ns/op")
}

var benchAnswer = []byte(streamHead + "\r\n10\r\nretry: 3000\n\n")

// asServed is what a server's sockets have.
var asServed = Sockets{DeferAccept: time.Second, NoDelay: true, UserTimeout: time.Minute, NotSent: 128 << 10}

// BenchmarkBareLoop is the floor.
func BenchmarkBareLoop(b *testing.B) {
	o := Options{Sockets: asServed}
	o.fill()
	fd, to, err := listenTCP("127.0.0.1:0", &o)
	if err != nil {
		b.Fatal(err)
	}
	set, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	stop, _ := unix.Eventfd(0, unix.EFD_CLOEXEC)
	epoll(set).add(int32(fd), unix.EPOLLIN, -1)
	epoll(set).add(int32(stop), unix.EPOLLIN, -2)
	var fds []int32
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		var events [128]unix.EpollEvent
		var buf [4096]byte
		for {
			n := epoll(set).wait(events[:], -1)
			for _, ev := range events[:n] {
				switch ev.Fd {
				case -2:
					return
				case -1:
					for {
						r, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, newSocket, 0, 0)
						if errno != 0 {
							break
						}
						epoll(set).add(int32(r), unix.EPOLLRDHUP|unix.EPOLLET, int32(r))
						syscall.RawSyscall6(unix.SYS_RECVFROM, r, uintptr(unsafe.Pointer(&buf)), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
						send(int32(r), benchAnswer)
						mu.Lock()
						fds = append(fds, int32(r))
						mu.Unlock()
					}
				}
			}
		}
	}()
	measure(b, to, "/events/a", func() {
		mu.Lock()
		defer mu.Unlock()
		for _, fd := range fds {
			closeSocket(fd)
		}
		fds = fds[:0]
	})
	ring(stop)
	<-done
	unix.Close(fd)
	unix.Close(set)
	unix.Close(stop)
}

// watcher is a Joiner that does what a bare loop does with a stream, at once.
type watcher struct {
	set epoll
	mu  sync.Mutex
	fds []int32
}

func (w *watcher) Join(fd int, _ *fanout.Subscription) error {
	w.set.add(int32(fd), unix.EPOLLRDHUP|unix.EPOLLET, int32(fd))
	send(int32(fd), benchAnswer)
	w.mu.Lock()
	w.fds = append(w.fds, int32(fd))
	w.mu.Unlock()
	return nil
}

func (w *watcher) Enlist(fd int, sub *fanout.Subscription) error { return w.Join(fd, sub) }

func (w *watcher) HandOver() {}

func (w *watcher) Enlisted() int { return 0 }

func (w *watcher) Streams() int { return 0 }

func (w *watcher) closeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fd := range w.fds {
		closeSocket(fd)
	}
	w.fds = w.fds[:0]
}

// shortest is a Handler that spends nothing on a stream but its subscription.
type shortest struct{ *house }

func (shortest) Short(dst []byte, h *fasthttp.RequestHeader, _ From) (*fanout.Subscription, []byte, bool) {
	if string(h.RequestURI()) == "/events/long" {
		return nil, dst, true
	}
	return &fanout.Subscription{}, dst, false
}

func (shortest) Serve(ctx *fasthttp.RequestCtx) { Stream(ctx, &fanout.Subscription{}) }

func benchmarkWay(b *testing.B, path string) {
	set, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	defer unix.Close(set)
	w := &watcher{set: epoll(set)}
	a, err := Listen(Options{Listen: []string{"127.0.0.1:0"}, Sockets: asServed, Handler: shortest{newHouse()}, Shards: w, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	measure(b, a.Addr(), path, w.closeAll)
}

// BenchmarkShortWay is a stream by the short way.
func BenchmarkShortWay(b *testing.B) { benchmarkWay(b, "/events/a") }

// BenchmarkLongWay is the same on the long way.
func BenchmarkLongWay(b *testing.B) { benchmarkWay(b, "/events/long") }

// measureRequests sends b.N requests and reports the server's CPU time and allocations for one.
func measureRequests(b *testing.B, to net.Addr) {
	c := startClients(b)
	c.open(b, 100*benchKept, to, "/echo") // warm
	n := max(b.N, 100*benchKept)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpu(b)
	b.ResetTimer()
	c.open(b, n, to, "/echo")
	b.StopTimer()
	used := cpu(b) - began
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(used)/float64(n)/1000, "us-cpu/request")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(n), "mallocs/request")
}

// taken is a Handler that answers at once.
type taken struct{ *house }

func (taken) Serve(ctx *fasthttp.RequestCtx) { ctx.Write(takenAnswer) }

func (taken) Quick(*fasthttp.RequestCtx) Quickness { return NotQuick }

// takenQuickly is one on the quick way.
type takenQuickly struct{ taken }

func (t takenQuickly) Quick(ctx *fasthttp.RequestCtx) Quickness {
	t.Serve(ctx)
	return Answered
}

var takenAnswer = []byte(`{"id":"1763670000000042"}`)

// BenchmarkRequest is a small publish over kept connections on the long way, without what api does
// with it.
func BenchmarkRequest(b *testing.B) { benchmarkRequest(b, taken{newHouse()}) }

// BenchmarkQuickRequest is the same on the quick way.
func BenchmarkQuickRequest(b *testing.B) { benchmarkRequest(b, takenQuickly{taken{newHouse()}}) }

func benchmarkRequest(b *testing.B, h Handler) {
	a, err := Listen(Options{Listen: []string{"127.0.0.1:0"}, Sockets: asServed, Handler: h, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	measureRequests(b, a.Addr())
}

// bareConn is the least that fasthttp's ServeConn needs to be called by netpoll: no goroutine
// between requests, and nothing else.
type bareConn struct {
	netpoll.Connection
	idle bool
}

func (c *bareConn) Read(p []byte) (int, error) {
	if c.idle && c.Connection.Reader().Len() == 0 {
		return 0, io.EOF
	}
	return c.Connection.Read(p)
}

func (c *bareConn) Close() error { return nil }

// BenchmarkBareFasthttp is the same on netpoll and fasthttp without anything of ours.
func BenchmarkBareFasthttp(b *testing.B) {
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) { ctx.Write(takenAnswer) },
		ConnState: func(c net.Conn, s fasthttp.ConnState) {
			c.(*bareConn).idle = s == fasthttp.StateIdle
		},
	}
	listener, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	type key struct{}
	loop, err := netpoll.NewEventLoop(func(ctx context.Context, _ netpoll.Connection) error {
		return server.ServeConn(ctx.Value(key{}).(*bareConn))
	}, netpoll.WithOnPrepare(func(c netpoll.Connection) context.Context {
		return context.WithValue(context.Background(), key{}, &bareConn{Connection: c})
	}))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { loop.Serve(listener); close(done) }()
	measureRequests(b, listener.Addr())
	loop.Shutdown(context.Background())
	<-done
}
