package backplane

// A NATS server inside this process, with its streams on the disk. Any goroutine.

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// embedStart is how long an embedded server may take to read its streams.
const embedStart = 60 * time.Second

// embed starts a server with JetStream in a directory. Unless it is to listen, only this process
// reaches it.
func embed(o *Options, log *slog.Logger) (*server.Server, error) {
	options := &server.Options{
		ServerName: "penstock-embedded",
		JetStream:  true,
		StoreDir:   o.Embedded,
		DontListen: o.EmbeddedListen == "",
		NoSigs:     true,
		MaxPayload: int32(min(max(2*o.MaxEventSize, 1<<20), server.MAX_PAYLOAD_MAX_SIZE)),

		DisableJetStreamBanner: true,
		SyncInterval:           o.Sync,
		SyncAlways:             o.Sync == 0,
	}
	if options.SyncAlways {
		options.SyncInterval = time.Minute
	}
	if o.EmbeddedListen != "" {
		host, port, err := net.SplitHostPort(o.EmbeddedListen)
		if err != nil {
			return nil, fmt.Errorf("--nats-embedded-listen %q: %w", o.EmbeddedListen, err)
		}
		options.Host = host
		if options.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("--nats-embedded-listen %q: %w", o.EmbeddedListen, err)
		}
		if options.Port == 0 {
			options.Port = server.RANDOM_PORT
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("--nats-embedded %s: %w", o.Embedded, err)
	}
	s.SetLoggerV2(&natsLog{log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(embedStart) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("--nats-embedded %s: the server in this process was not ready within %s; its log says why", o.Embedded, embedStart)
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("--nats-embedded %s: JetStream did not start; may this user write there, and does no other process?", o.Embedded)
	}
	return s, nil
}

// natsLog is the embedded server's log. What it says of its start is for who debugs.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) say(level func(string, ...any), format string, v []any) {
	level("nats: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l *natsLog) Noticef(format string, v ...any) { l.say(l.log.Debug, format, v) }
func (l *natsLog) Warnf(format string, v ...any)   { l.say(l.log.Warn, format, v) }
func (l *natsLog) Fatalf(format string, v ...any)  { l.say(l.log.Error, format, v) }
func (l *natsLog) Errorf(format string, v ...any)  { l.say(l.log.Error, format, v) }
func (l *natsLog) Debugf(format string, v ...any)  { l.say(l.log.Debug, format, v) }
func (l *natsLog) Tracef(format string, v ...any)  { l.say(l.log.Debug, format, v) }
