package loadtest

// Parts of a run in processes of their own, for when descriptors run out.
//
// The parent starts itself anew for each part: the board is descriptor 3, what it has to do comes
// on standard input, what its readers tell goes to standard output, a line of JSON each time. A
// part ends with the run, or when its input does: then its parent is gone.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// An errand is what a part has to do.
type errand struct {
	Config  Config
	Run     uint32
	Begin   int64
	Readers int // of the whole run
	Threads int // of this part, beside one for those who stay in a storm
	Index   int // of its first reader
	First   int // subscriber
	Count   int
}

// A tale is a status on its way to the parent.
type tale struct {
	Index, Second    int
	Tally            Tally
	Reasons          Reasons
	Settled, Drained bool
	CPU, Wait        time.Duration
	Histograms       [4][]byte // nil: empty
}

// descriptorsAside is what a process needs beside its streams.
const descriptorsAside = 200

// openMost answers how many streams a process can hold.
func openMost() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 1024 - descriptorsAside
	}
	if lim.Cur < lim.Max {
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) // where it is refused, the next line says what there is
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	}
	return max(1, int(min(lim.Cur, 1<<30))-descriptorsAside)
}

// process starts a part in a process of its own.
func (r *run) process(command []string, e errand) (part, error) {
	input, err := json.Marshal(e)
	if err != nil {
		return part{}, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.ExtraFiles = []*os.File{r.board.file}
	cmd.Stderr = os.Stderr
	// Ctrl-C is for the parent: it ends the parts by the board.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return part{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return part{}, err
	}
	if err := cmd.Start(); err != nil {
		return part{}, fmt.Errorf("start a part of the load test: %w", err)
	}
	r.children = append(r.children, cmd.Process.Pid)
	if _, err := in.Write(append(input, '\n')); err != nil {
		err = fmt.Errorf("start a part of the load test: %w", err)
		return part{}, errors.Join(err, in.Close(), cmd.Wait())
	}
	p := thread(func() error {
		err := r.listen(out)
		if err != nil {
			cmd.Process.Kill()
		}
		return errors.Join(err, cmd.Wait())
	})
	wait := p.wait
	p.wait = func() error {
		defer in.Close()
		return wait()
	}
	return p, nil
}

// listen hands a part's tales to the collector until they end.
func (r *run) listen(out io.Reader) error {
	d := json.NewDecoder(bufio.NewReaderSize(out, 1<<20))
	for {
		var t tale
		if err := d.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("a part of the load test: %w", err)
		}
		s := status{
			index: t.Index, second: t.Second, tally: t.Tally, reasons: t.Reasons,
			settled: t.Settled, drained: t.Drained, cpu: t.CPU, wait: t.Wait,
		}
		for i, h := range []**hdrhistogram.Histogram{&s.latency, &s.connects, &s.firstBytes, &s.resumes} {
			*h = emptyHistogram
			if t.Histograms[i] == nil {
				continue
			}
			var err error
			if *h, err = hdrhistogram.Decode(t.Histograms[i]); err != nil {
				return fmt.Errorf("a part of the load test: %w", err)
			}
		}
		r.collector.tell(&s)
	}
}

// emptyHistogram stands for one that nothing was recorded in. Nobody writes to it.
var emptyHistogram = hdrhistogram.New(1, 2, 1)

// Part is a part's whole life: what the program does that Options.Part names. It reads its errand
// from in and tells the parent on out. The error is the parent's to show.
func Part(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("a part of a load test is started by penstock loadtest alone: %w", err)
	}
	var e errand
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	// When the input ends before the run, the parent is gone, and with it every reason to go on.
	go func() {
		io.Copy(io.Discard, lines)
		os.Exit(1)
	}()
	openMost() // raises the limit
	p, err := newPlan(context.Background(), e.Config, e.Run)
	if err != nil {
		return err
	}
	p.begin, p.readers = e.Begin, e.Readers
	b, err := openBoard(os.NewFile(3, "board"), p.lanes)
	if err != nil {
		return err
	}
	defer b.close()
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	tell := func(s *status) {
		t := tale{s.index, s.second, s.tally, s.reasons, s.settled, s.drained, s.cpu, s.wait, [4][]byte{}}
		for i, h := range []*hdrhistogram.Histogram{s.latency, s.connects, s.firstBytes, s.resumes} {
			if h.TotalCount() > 0 {
				t.Histograms[i], _ = h.Encode(hdrhistogram.V2CompressedEncodingCookieBase) // one of its own kinds: it cannot fail
			}
		}
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(t) // where the parent is gone, the input ends too
	}
	parts, err := startReaders(p, b, tell, e.Index, p.spans(e.First, e.Count, e.Threads))
	for _, r := range parts {
		err = errors.Join(err, r.wait())
	}
	return err
}

// startReaders starts a thread for each span; the first one's number is index. Those that were started
// are answered with an error too.
func startReaders(p *plan, b *board, tell func(*status), index int, spans []span) ([]part, error) {
	var parts []part
	for i, s := range spans {
		r, err := newReader(p, b, index+i, s.first, s.count, tell)
		if err != nil {
			return parts, err
		}
		parts = append(parts, thread(r.run))
	}
	return parts, nil
}
