package main

// A server at one end of a wire, streams at the other. Streams have a goroutine each; the rest is the
// caller's.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take that should take no time.
const patience = 10 * time.Second

// A bench is a server, and a wire from it to its clients.
type bench struct {
	wire    *wire
	server  *space
	clients *space
	program *exec.Cmd
	local   *peer // publishes, and asks for figures, at the server's own end
}

// newBench starts a server with these flags behind a wire of this kind.
func newBench(program string, kind *wire, flags []string) (b *bench, err error) {
	b = &bench{wire: &wire{delay: kind.delay, loss: kind.loss, rate: kind.rate, queue: kind.queue}}
	for _, s := range []**space{&b.server, &b.clients} {
		if *s, err = newSpace(); err != nil {
			return nil, err
		}
		// Both parts of TCP Fast Open, in these namespaces alone; flags that need it ask for it.
		err = (*s).run(func() error { return sysctl("net/ipv4/tcp_fastopen", "3") })
		if err != nil {
			return nil, err
		}
	}
	if err := b.wire.join(b.server, b.clients); err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen=127.0.0.1:8080", "--listen=" + serverIP + ":8080", "--log-level=error", "--ring-size=64MiB", "--insecure-publish", "--compress=off"}
	var said strings.Builder
	b.program = exec.Command(program, append(args, flags...)...)
	b.program.Stderr = &said
	b.program.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.server.run(b.program.Start); err != nil {
		return nil, err
	}
	for began := time.Now(); b.local == nil; time.Sleep(10 * ms) {
		if b.local, err = dial(b.server, "127.0.0.1:8080"); err != nil && time.Since(began) > patience {
			b.close()
			return nil, fmt.Errorf("%w; %s", err, said.String())
		}
	}
	return b, nil
}

func (b *bench) close() {
	_ = b.program.Process.Kill()
	_ = b.program.Wait()
}

// cpu is the time that the server has spent on cores.
func (b *bench) cpu() (all time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", b.program.Process.Pid))
	for _, path := range threads {
		text, _ := os.ReadFile(path)
		first, _, _ := strings.Cut(string(text), " ")
		ns, _ := strconv.ParseInt(first, 10, 64)
		all += time.Duration(ns)
	}
	return all
}

// A peer is a connection to the server.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// dial connects from a namespace.
func dial(from *space, to string) (p *peer, err error) {
	err = from.run(func() error {
		c, err := net.DialTimeout("tcp4", to, patience)
		if err == nil {
			p = &peer{c, bufio.NewReader(c)}
		}
		return err
	})
	return p, err
}

// ask sends a request and reads its answer, up to the body of a stream.
func (p *peer) ask(method, target string, body []byte) (text []byte, err error) {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", method, target, len(body))
	if _, err = p.Write(append([]byte(head), body...)); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(target, "/events") && resp.StatusCode == http.StatusOK {
		return nil, nil
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, target, resp.Status, text)
	}
	return text, err
}

// live is how many streams the server has.
func (b *bench) live() (int, error) {
	text, err := b.local.ask("GET", "/stats", nil)
	var stats struct{ Connections struct{ Streams int } }
	if err == nil {
		err = json.Unmarshal(text, &stats)
	}
	return stats.Connections.Streams, err
}

// publish publishes events that say when that was, so many a second.
func (b *bench) publish(rate, size int, during time.Duration) error {
	began := time.Now()
	pad := strings.Repeat("x", size)
	for n := 0; time.Since(began) < during; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		if _, err := b.local.ask("POST", "/publish/t", fmt.Appendf(nil, "%d %s", time.Now().UnixNano(), pad)); err != nil {
			return err
		}
	}
	return nil
}

// A crowd is some streams' events, by their age at arrival.
type crowd struct {
	mu      sync.Mutex
	streams int
	age     []time.Duration
	bytes   int
	began   time.Time
}

// subscribe opens streams at the other end.
func (b *bench) subscribe(n int, target string) (*crowd, error) {
	c := &crowd{streams: n, began: time.Now()}
	for range n {
		p, err := dial(b.clients, serverIP+":8080")
		if err != nil {
			return nil, err
		}
		if _, err := p.ask("GET", target, nil); err != nil {
			return nil, err
		}
		go c.read(p.r)
	}
	return c, nil
}

func (c *crowd) read(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		now := time.Now().UnixNano()
		c.mu.Lock()
		c.bytes += len(line)
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			stamp, _, _ := strings.Cut(data, " ")
			if at, err := strconv.ParseInt(stamp, 10, 64); err == nil {
				c.age = append(c.age, time.Duration(now-at))
			}
		}
		c.mu.Unlock()
	}
}

// ages says how old events were when they came, and how many came to each stream.
func (c *crowd) ages() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.age) == 0 {
		return "nothing came"
	}
	slices.Sort(c.age)
	at := func(p float64) float64 { return c.age[int(p*float64(len(c.age)-1))].Seconds() * 1000 }
	return fmt.Sprintf("median %5.0f ms, p90 %5.0f ms, p99 %5.0f ms, %d events, %.2f Mbit/s", at(0.5), at(0.9), at(0.99),
		len(c.age)/c.streams, float64(c.bytes)*8/1e6/time.Since(c.began).Seconds()/float64(c.streams))
}

// open measures the time from connect to a stream's first byte, with TCP Fast Open on the client's
// side, several times: the first one fetches the cookie.
func (b *bench) open(times int) (string, error) {
	const request = "GET /events/t HTTP/1.1\r\nHost: localhost\r\n\r\n"
	var all []time.Duration
	for range times {
		var began time.Time
		var p *peer
		err := b.clients.run(func() error {
			d := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
				return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1) }), err)
			}}
			began = time.Now()
			c, err := d.Dial("tcp4", serverIP+":8080")
			if err == nil {
				p = &peer{c, bufio.NewReader(c)}
			}
			return err
		})
		if err != nil {
			return "", err
		}
		if _, err := io.WriteString(p, request); err != nil {
			return "", err
		}
		if _, err := p.r.ReadByte(); err != nil {
			return "", err
		}
		all = append(all, time.Since(began))
		p.Close()
	}
	slices.Sort(all)
	return fmt.Sprintf("median %d ms, least %d ms, most %d ms", all[times/2].Milliseconds(), all[0].Milliseconds(), all[times-1].Milliseconds()), nil
}

// upload measures a publish of a batch from the far end.
func (b *bench) upload(size int) (string, error) {
	p, err := dial(b.clients, serverIP+":8080")
	if err != nil {
		return "", err
	}
	line := `{"data":"` + strings.Repeat("x", 1000) + "\"}\n"
	body := []byte(strings.Repeat(line, size/len(line)))
	began := time.Now()
	head := fmt.Sprintf("POST /publish/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", len(body))
	if _, err := p.Write(append([]byte(head), body...)); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s after %.2f s", resp.Status, time.Since(began).Seconds()), nil
}
