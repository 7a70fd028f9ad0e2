package accept

// netpoll writes lines to stderr by itself, mostly about connections that have gone. They go to
// the log's debug level.

import (
	"bytes"
	"log/slog"
	"sync/atomic"

	"github.com/cloudwego/netpoll"
)

type netpollLog struct{ to atomic.Pointer[slog.Logger] }

var logs netpollLog

// netpoll reads its logger without a lock: it is set once, before there is a connection.
func init() { netpoll.SetLoggerOutput(&logs) }

func (n *netpollLog) use(to *slog.Logger) { n.to.Store(to) }

// Write takes a line of netpoll's.
func (n *netpollLog) Write(p []byte) (int, error) {
	if to := n.to.Load(); to != nil {
		to.Debug("netpoll", "line", string(bytes.TrimSpace(p)))
	}
	return len(p), nil
}
