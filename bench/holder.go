package main

// Holders: processes that hold streams and do little else, so that one may hold as many as it may
// have descriptors. Each connects from two addresses of its own (127.1.0.2 and 127.2.0.2, and so on):
// an address has 28,000 ports towards the server, and the kernel looks for a free one in half of
// them first, which takes it long once that half is used up. One thread, one epoll set; told what to do
// line by line over standard input, and answers each line with a line of JSON.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// held is what a holder answers.
type held struct {
	Streams int            `json:"streams"`
	Failed  int            `json:"failed"`
	Seconds float64        `json:"seconds"` // that opening took
	Reads   int            `json:"reads"`   // since it was told to watch; what a stream begins with left out
	Events  int            `json:"events"`
	First   int64          `json:"first"` // event's arrival since then, in nanoseconds since 1970
	Last    int64          `json:"last"`
	Slots   map[int64]int  `json:"slots"` // reads by tenth of a second
	Errors  map[string]int `json:"errors"`

	Fewest   int       `json:"fewest"`   // events that a stream has had since then, and ...
	Most     int       `json:"most"`     // ... most
	Silences []float64 `json:"silences"` // longest time between two ticks of each stream that has them, in milliseconds
	Astray   int       `json:"astray"`   // ticks missed, doubled or out of order, ever
}

// hold is a holder's process: of the address ADDRESS, from each SOURCE in turn.
func hold(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("hold wants ADDRESS SOURCE..., not %q", args)
	}
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	h := &holder{to: syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}}
	for _, source := range args[1:] {
		from, err := netip.ParseAddr(source)
		if err != nil {
			return err
		}
		h.from = append(h.from, syscall.SockaddrInet4{Addr: from.As4()})
	}
	for i, topics := range []string{scaleTopic, scaleTopic + "," + tickTopic} {
		h.requests[i] = fmt.Appendf(nil, "GET /events/%s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n", topics)
	}
	h.tickers = map[int]*ticker{}
	if h.set, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	h.watch()
	return h.serve(os.Stdin, os.Stdout)
}

// scaleTopic is what all holders' streams ask for.
const scaleTopic = "scale"

type holder struct {
	to       syscall.SockaddrInet4
	from     []syscall.SockaddrInet4
	requests [2][]byte // of a stream, and of one that has ticks too
	every    int       // one of so many streams has ticks; 0: none
	tickers  map[int]*ticker
	counts   []int // events since it was told to watch, by descriptor
	set      int
	states   []holderState // by descriptor
	begun    int           // streams that were tried
	answered int           // of them
	now      held
	buf      [64 << 10]byte
}

type holderState uint8

const (
	connecting holderState = iota + 1
	asked
	streaming
)

// serve obeys until its input ends.
func (h *holder) serve(in io.Reader, out io.Writer) error {
	bell, ring, err := os.Pipe()
	if err != nil {
		return err
	}
	if err := syscall.EpollCtl(h.set, syscall.EPOLL_CTL_ADD, int(bell.Fd()), &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: -1}); err != nil {
		return err
	}
	lines := make(chan string, 1)
	go func() {
		scanner := bufio.NewScanner(in)
		for scanner.Scan() {
			lines <- scanner.Text()
			_, _ = ring.Write([]byte{0})
		}
		close(lines)
		_, _ = ring.Write([]byte{0})
	}()
	answer := json.NewEncoder(out)
	for {
		if told := h.wait(-1); !told {
			continue
		}
		var one [1]byte
		_, _ = bell.Read(one[:])
		line, more := <-lines
		if !more {
			return nil
		}
		word, number, _ := strings.Cut(line, " ")
		switch word {
		case "ticks":
			h.every, _ = strconv.Atoi(number)
		case "open":
			n, _ := strconv.Atoi(number)
			began := time.Now()
			h.open(n)
			h.now.Seconds = time.Since(began).Seconds()
		case "watch":
			h.watch()
		case "tell":
			h.sum()
		}
		if err := answer.Encode(h.now); err != nil {
			return err
		}
	}
}

// watch begins to count anew.
func (h *holder) watch() {
	h.now.Reads, h.now.Events, h.now.First, h.now.Last, h.now.Slots = 0, 0, 0, 0, map[int64]int{}
	if h.now.Errors == nil {
		h.now.Errors = map[string]int{}
	}
	clear(h.counts)
	for _, t := range h.tickers {
		t.last, t.longest = 0, 0
	}
}

// window is how many streams of a holder may be on their way at once.
const window = 128

// open opens n more streams.
func (h *holder) open(n int) {
	until := h.begun + n
	late := time.Now().Add(5 * time.Minute)
	for h.answered < until && time.Now().Before(late) {
		for h.begun < until && h.begun-h.answered < window {
			h.begun++
			if err := h.connect(); err != nil {
				h.fail(-1, err.Error())
			}
		}
		h.wait(1000)
	}
}

func (h *holder) fail(fd int, why string) {
	h.now.Failed++
	h.now.Errors[why]++
	if fd < 0 {
		h.answered++
		return
	}
	if h.states[fd] != streaming {
		h.answered++
	} else {
		h.now.Streams--
	}
	h.states[fd] = 0
	delete(h.tickers, fd)
	syscall.Close(fd)
}

func (h *holder) connect() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The port is chosen when it connects, when the whole pair of addresses is known.
	const bindAddressNoPort = 24
	_ = syscall.SetsockoptInt(fd, syscall.SOL_IP, bindAddressNoPort, 1)
	if err = syscall.Bind(fd, &h.from[h.begun%len(h.from)]); err == nil {
		err = syscall.Connect(fd, &h.to)
	}
	if err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return err
	}
	for len(h.states) <= fd {
		h.states, h.counts = append(h.states, 0), append(h.counts, 0)
	}
	h.states[fd], h.counts[fd] = connecting, 0
	if h.every > 0 && h.begun%h.every == 0 {
		h.tickers[fd] = new(ticker)
	}
	return syscall.EpollCtl(h.set, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31, Fd: int32(fd)}) // 1<<31: EPOLLET
}

// wait serves what happens, and tells whether there is a line to obey.
func (h *holder) wait(ms int) (told bool) {
	var events [512]syscall.EpollEvent
	n, _ := syscall.EpollWait(h.set, events[:], ms)
	for _, ev := range events[:max(n, 0)] {
		fd := int(ev.Fd)
		if fd < 0 {
			told = true
			continue
		}
		if h.states[fd] == connecting && ev.Events&(syscall.EPOLLOUT|syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
			request := h.requests[0]
			if h.tickers[fd] != nil {
				request = h.requests[1]
			}
			if _, err := syscall.Write(fd, request); err != nil {
				h.fail(fd, "ask: "+err.Error())
				continue
			}
			h.states[fd] = asked
		}
		if ev.Events&^syscall.EPOLLOUT != 0 {
			h.read(fd)
		}
	}
	return told
}

// read reads what there is.
func (h *holder) read(fd int) {
	for h.states[fd] != 0 {
		n, err := syscall.Read(fd, h.buf[:])
		switch {
		case err == syscall.EAGAIN:
			return
		case err == syscall.EINTR:
			continue
		case err != nil:
			h.fail(fd, "read: "+err.Error())
			return
		case n == 0:
			h.fail(fd, "ended")
			return
		}
		if h.states[fd] != streaming {
			if !bytes.HasPrefix(h.buf[:n], []byte("HTTP/1.1 200 ")) {
				h.fail(fd, "answer: "+string(h.buf[:min(n, 30)]))
				return
			}
			h.states[fd] = streaming
			h.answered++
			h.now.Streams++
		} else {
			now := time.Now().UnixNano()
			h.now.Reads++
			h.now.Slots[now/int64(100*time.Millisecond)]++
			if t := h.tickers[fd]; t != nil {
				h.now.Astray += t.take(h.buf[:n], now)
			}
			if events := bytes.Count(h.buf[:n], []byte("data: "+scaleData)); events > 0 {
				h.now.Events += events
				h.counts[fd] += events
				if h.now.First == 0 {
					h.now.First = now
				}
				h.now.Last = now
			}
		}
		if n < len(h.buf) {
			return
		}
	}
}

// holders are all of them, as the command sees them.
type holders struct {
	all  []*holding
	each int // streams that one of them may hold
}

// A holding is one holder's process.
type holding struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	begun int
}

// startHolders starts as many as hold so many streams of the server at address.
func startHolders(address string, streams, each int) (*holders, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	hs := &holders{each: each}
	for n := 0; n < streams; n += each {
		cmd := exec.Command(self, "hold", address, fmt.Sprintf("127.1.0.%d", 2+len(hs.all)), fmt.Sprintf("127.2.0.%d", 2+len(hs.all)))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			hs.stop()
			return nil, err
		}
		hs.all = append(hs.all, &holding{cmd: cmd, in: in, out: json.NewDecoder(out)})
	}
	return hs, nil
}

func (h *holding) ask(line string) (answer held, err error) {
	if _, err = io.WriteString(h.in, line+"\n"); err == nil {
		err = h.out.Decode(&answer)
	}
	return answer, err
}

// fill opens streams until there are so many, one holder after the other.
func (hs *holders) fill(streams int) (time.Duration, error) {
	began := time.Now()
	for i, h := range hs.all {
		n := min(hs.each, max(0, streams-i*hs.each)) - h.begun
		if n <= 0 {
			continue
		}
		a, err := h.ask("open " + strconv.Itoa(n))
		if err != nil {
			return 0, err
		}
		if h.begun += n; a.Streams != h.begun {
			return 0, fmt.Errorf("holder %d has %d streams of %d: %v", i, a.Streams, h.begun, a.Errors)
		}
	}
	return time.Since(began), nil
}

// tell asks all, and sums up what they answer.
func (hs *holders) tell(line string) (sum held, err error) {
	sum.Slots, sum.Errors = map[int64]int{}, map[string]int{}
	for i, h := range hs.all {
		a, err := h.ask(line)
		if err != nil {
			return sum, err
		}
		sum.Streams += a.Streams
		sum.Failed += a.Failed
		sum.Reads += a.Reads
		sum.Events += a.Events
		sum.Silences = append(sum.Silences, a.Silences...)
		sum.Astray += a.Astray
		if sum.Most = max(sum.Most, a.Most); i == 0 || a.Fewest < sum.Fewest {
			sum.Fewest = a.Fewest
		}
		if a.First != 0 && (sum.First == 0 || a.First < sum.First) {
			sum.First = a.First
		}
		sum.Last = max(sum.Last, a.Last)
		for at, n := range a.Slots {
			sum.Slots[at] += n
		}
		for why, n := range a.Errors {
			sum.Errors[why] += n
		}
	}
	return sum, nil
}

// stop ends them; their streams are cut.
func (hs *holders) stop() {
	for _, h := range hs.all {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	}
}
