package server

// More machines: what of the settings is NATS's, and how what comes from there reaches the ring and
// the shards. The calls of sink are the backplane's goroutine's.

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"penstock/server/api"
	"penstock/server/backplane"
	"penstock/server/fanout"
	"penstock/server/topic"
)

// fillTime is how long a node may take to read the stream's newest part at its start.
const fillTime = 2 * time.Minute

// hasNats tells whether there is a backplane.
func (c *Config) hasNats() bool { return len(c.Nats) > 0 || c.NatsEmbedded != "" }

// checkNats holds the settings of NATS against each other.
func (c *Config) checkNats() error {
	if !c.hasNats() {
		for _, s := range []struct{ name, value string }{
			{"nats-creds", c.NatsCreds}, {"nats-nkey", c.NatsNKey}, {"nats-tls-ca", c.NatsTLSCA}, {"nats-tls-cert", c.NatsTLSCert},
			{"nats-tls-key", c.NatsTLSKey}, {"nats-listen", c.NatsListen},
		} {
			if s.value != "" {
				return fmt.Errorf("--%s %s: allowed only with --nats or --nats-embedded", s.name, s.value)
			}
		}
		return nil
	}
	if len(c.Nats) > 0 && c.NatsEmbedded != "" {
		return fmt.Errorf("--nats %s and --nats-embedded %s: allowed is one of the two", strings.Join(c.Nats, ","), c.NatsEmbedded)
	}
	for _, text := range c.Nats {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			return fmt.Errorf("--nats %q: allowed are nats://host:port, tls://host:port and the same with ws or wss", text)
		}
		if u.User != nil {
			return fmt.Errorf("--nats %s: a user in the URL is seen by everybody who lists processes; use --nats-creds or --nats-nkey", u.Redacted())
		}
	}
	if c.NatsStream == "" || strings.ContainsAny(c.NatsStream, " .*>/\\\t\r\n") {
		return fmt.Errorf("--nats-stream %q: allowed are names without spaces, dots, *, > and slashes", c.NatsStream)
	}
	if p := c.NatsSubjectPrefix; p != "auto" && p != "none" {
		if _, err := topic.ParseName(p); err != nil {
			return fmt.Errorf("--nats-subject-prefix: %w; allowed are tokens joined by dots, auto and none", err)
		}
	}
	if c.NatsCreds != "" && c.NatsNKey != "" {
		return fmt.Errorf("--nats-creds %s and --nats-nkey %s: allowed is one of the two", c.NatsCreds, c.NatsNKey)
	}
	if (c.NatsTLSCert == "") != (c.NatsTLSKey == "") {
		return errors.New("--nats-tls-cert and --nats-tls-key: allowed are both or none")
	}
	if c.NatsListen != "" {
		if c.NatsEmbedded == "" {
			return fmt.Errorf("--nats-listen %s: allowed only with --nats-embedded", c.NatsListen)
		}
		return checkAddress("nats-listen", c.NatsListen)
	}
	return nil
}

// natsOptions are what the backplane is told.
func (s *Server) natsOptions() backplane.Options {
	c := &s.config
	return backplane.Options{
		Servers: c.Nats, Stream: c.NatsStream, Prefix: c.NatsSubjectPrefix,
		Creds: c.NatsCreds, NKey: c.NatsNKey, CA: c.NatsTLSCA, Cert: c.NatsTLSCert, Key: c.NatsTLSKey,
		Embedded: c.NatsEmbedded, EmbeddedListen: c.NatsListen, Sync: c.NatsSync,
		PublishTimeout: c.PublishTimeout, MaxEventSize: int(c.MaxEventSize), RingSize: int(c.RingSize),
		Recall: c.Keep > 0, MaxBehind: c.NatsMaxBehind, History: c.HistoryStreams, Log: s.log,
	}
}

// InspectStream says of each setting of the stream that a server with these settings would stand on
// whether it is well. It changes nothing. Any goroutine; it waits for NATS.
func InspectStream(c Config) ([]backplane.Finding, error) {
	if len(c.Nats) == 0 {
		return nil, errors.New("--nats: it takes the URL of a NATS server")
	}
	if err := c.checkNats(); err != nil {
		return nil, err
	}
	s := Server{config: c}
	return backplane.Inspect(s.natsOptions())
}

// carrier is the backplane as api sees it, nil where there is none.
func (s *Server) carrier() api.Backplane {
	if s.backplane == nil {
		return nil
	}
	return s.backplane
}

// carriedBy is what carries the events, as another process would know it again; "" where nothing does.
func (s *Server) carriedBy() string {
	if s.backplane == nil {
		return ""
	}
	return s.backplane.Name()
}

var errEmbedded = errors.New("with --nats-embedded the NATS server is in this process, and two can't have its directory: drain (SIGTERM) and start anew; its events and ids are on the disk, and streams go on with their last id")

// connect opens the backplane for a process that goes on for another one, before that stops for it, and
// refuses where their events are not the same.
func (s *Server) connect(carrier string) (err error) {
	c := &s.config
	switch {
	case c.NatsEmbedded != "":
		return errEmbedded
	case c.hasNats() && carrier == "":
		return errors.New("--nats: the other process is without, and its ids are not those of a stream: drain it (SIGTERM) and start anew")
	case !c.hasNats() && carrier != "":
		return fmt.Errorf("the other process stands on the stream %s, and here is no --nats: drain it (SIGTERM) and start anew", carrier)
	case !c.hasNats():
		return nil
	}
	if s.backplane, err = backplane.Open(s.natsOptions()); err != nil {
		return err
	}
	if here := s.carriedBy(); here != carrier {
		return fmt.Errorf("the other process stands on the stream %s, and this one would on %s: drain it (SIGTERM) and start anew", carrier, here)
	}
	return nil
}

// nodeName is what this node is called among the others: its machine and where it listens.
func (s *Server) nodeName() string {
	host, _ := os.Hostname()
	return host + " " + strings.Join(s.config.Listen, ",")
}

// fill reads the stream's newest part into the ring, and goes on reading.
func (s *Server) fill() error {
	s.backplane.Start(false)
	late := time.NewTimer(fillTime)
	defer late.Stop()
	began := time.Now()
	select {
	case <-s.backplane.Filled():
	case <-late.C:
		return fmt.Errorf("--nats-stream %s: it could not be read to its end within %s", s.config.NatsStream, fillTime)
	}
	st := s.backplane.Stats()
	s.log.Info("the stream is read", "stream", st.Stream, "subjects", st.Prefix+">", "events", st.Read, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// sink brings what the backplane reads to the ring and the shards.
type sink struct {
	sequencer *topic.Sequencer
	shards    *fanout.Shards
}

func (k *sink) Append(arrivals []topic.Arrival) error { return k.sequencer.Append(arrivals) }

func (k *sink) Begin(since uint64, newest bool) {
	// Nobody subscribes yet: shards have nothing to do with what was before.
	k.sequencer.Change(func() { k.shards.Break(true, func() { k.sequencer.Begin(since, newest) }) })
}

func (k *sink) Lose(id, reached uint64) {
	k.sequencer.Change(func() { k.shards.Break(false, func() { k.sequencer.Lose(id, reached) }) })
}

func (k *sink) Restart(after uint64) {
	k.sequencer.Change(func() { k.shards.Break(true, func() { k.sequencer.Restart(after) }) })
}
