package accept

// What accept4 may answer instead of a connection.

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// A lockedBuffer takes what is logged on any goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Out of descriptors or memory, connections wait in the kernel's queue, the streams there are stay,
// the log is told once, and when there is room again those who waited are served.
func TestFaultsOfAcceptPauseAndPass(t *testing.T) {
	for errno, pauses := range map[syscall.Errno]bool{
		syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOBUFS: true, syscall.ENOMEM: true,
		syscall.EINTR: false, syscall.ECONNABORTED: false, syscall.EPROTO: false,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			var fault, asked atomic.Int32
			var log lockedBuffer
			s := start(t, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				o.refuse = func() syscall.Errno {
					if fault.Load() == 0 {
						return 0
					}
					if asked.Add(1); !pauses && asked.Load() > 3 {
						fault.Store(0) // what concerns one connection passes with it
					}
					return errno
				}
			})
			old := s.dial(t)
			old.send("GET /events/a HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := old.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			fault.Store(int32(errno))
			late := s.dial(t) // the kernel's queue takes it
			late.send("GET /events/b HTTP/1.1\r\nHost: x\r\n\r\n")
			eventually(t, "accept to be asked three times", func() bool { return asked.Load() >= 3 })
			if n := s.shards.Streams(); pauses && n != 1 {
				t.Errorf("%d streams while accept fails, want the 1 there was", n)
			}
			fault.Store(0)
			eventually(t, "the one who waited to be served", func() bool { return s.shards.Streams() == 2 })
			if told := strings.Count(log.String(), "connections have to wait"); told != map[bool]int{true: 1}[pauses] {
				t.Errorf("the log was told %d times:\n%s", told, log.String())
			}
		})
	}
}
