package server

// The settings: each one once, with everything there is to say about it.
//
// The fields' tags are the only place where a setting's name, default, unit, bounds, group and
// help stand. The command line, the environment (PENSTOCK_ and the name in capitals), the YAML
// file (the name is the key) and --help are made from them. cmd/penstock reads the same tags by
// way of kong; nothing here knows kong. Plain data: any goroutine that owns the Config.

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/encode"
	"penstock/server/accept"
	"penstock/server/api"
	"penstock/server/auth"
)

// Config holds every setting of a server. DefaultConfig fills in the defaults; Check says what is
// wrong with it.
//
// Tags: name is the flag and the YAML key; default, unit and help are for people; min and max (in
// the unit) and oneof are what Check allows; live says that Reload may change it.
type Config struct {
	Listen      []string `name:"listen" group:"Addresses" default:"127.0.0.1:8080" unit:"address, repeatable" help:"Where streams and publishers are served: host:port, port 0 for any free one, or unix:PATH. An address that is not loopback needs a token for publishing (or --insecure-publish), and a unix socket is no loopback address: it is a proxy's way in."`
	SocketMode  string   `name:"socket-mode" group:"Addresses" default:"0660" unit:"octal mode" help:"Permissions of unix sockets: who may connect. The group is the server's own, or that of a directory with the setgid bit."`
	AdminListen string   `name:"admin-listen" group:"Addresses" default:"auto" unit:"host:port, auto or none" help:"Where the page, topics, streams, stats and metrics are served. auto: on those main addresses that are loopback; where none is, on 127.0.0.1:8081."`
	Debug       string   `name:"debug" group:"Addresses" default:"" unit:"host:port, loopback only" help:"Opens the debug door there: Go's profiles and the shards at work."`
	Backlog     int      `name:"backlog" group:"Addresses" default:"4096" min:"1" max:"1048576" unit:"connections" help:"How many connections may wait to be accepted; the kernel takes net.core.somaxconn if that is less."`

	InsecurePublish  bool     `name:"insecure-publish" live:"yes" group:"Access" default:"false" help:"Anybody who reaches the server may publish."`
	PublishTokenFile string   `name:"publish-token-file" live:"yes" group:"Access" default:"" unit:"path" help:"A file with the tokens that publishers send as Authorization: Bearer TOKEN, one a line; # begins a comment. It is read again when it changes."`
	CORSOrigin       []string `name:"cors-origin" live:"yes" group:"Access" default:"" unit:"origin, repeatable" help:"A web page's origin that may use the server from browsers: https://app.example.com, or https://*.example.com for one or more labels. Without any: the same origin only."`

	MaxConnections         int           `name:"max-connections" live:"yes" group:"Limits" default:"0" min:"0" max:"100000000" unit:"connections, 0: as many as descriptors and memory allow" help:"Connections held at once, streams among them. More than the limit of open files: as many shards as it takes, each with a descriptor table of its own."`
	MaxConnectionsPerIP    int           `name:"max-connections-per-ip" live:"yes" group:"Limits" default:"0" min:"0" max:"100000000" unit:"connections, 0: no limit" help:"Connections of one address at once, streams among them; an IPv6 /64 counts as one address. Behind a proxy all clients have the proxy's address: leave it off there, and limit in the proxy. One more gets 429, an EventSource the order to come back later."`
	AcceptRate             int           `name:"accept-rate" live:"yes" group:"Limits" default:"0" min:"0" max:"1000000" unit:"connections a second, 0: no limit" help:"How fast connections are taken. Faster ones wait in the kernel's queue (--backlog) and are served later; what that has no room for tries again by itself. So does a health check: ask the admin address."`
	MaxSubscribersPerTopic int           `name:"max-subscribers-per-topic" live:"yes" group:"Limits" default:"0" min:"0" max:"100000000" unit:"subscribers, 0: no limit" help:"Streams that name one topic; patterns are not counted, and streams that begin in the same moment may all get in. One more gets 503, an EventSource the order to come back later."`
	MaxRequests            int           `name:"max-requests" live:"yes" group:"Limits" default:"4096" min:"2" max:"1000000" unit:"requests" help:"Requests in hand at once; half of them may wait for shards to keep up. One more gets 503."`
	HandshakeTimeout       time.Duration `name:"handshake-timeout" group:"Limits" default:"10s" min:"10ms" max:"1h" unit:"duration" help:"A request's head has to arrive within this time."`
	MaxTopics              int           `name:"max-topics" group:"Limits" default:"1000000" min:"1" max:"1000000000" unit:"topics" help:"Topics known at once. Over it, the one without subscribers that is longest unpublished goes."`
	MaxTopicsPerSubscriber int           `name:"max-topics-per-subscriber" live:"yes" group:"Limits" default:"1000" min:"1" max:"1000000" unit:"topics" help:"Topics and patterns that one stream may ask for."`
	MinInterval            time.Duration `name:"min-interval" live:"yes" group:"Limits" default:"10ms" min:"0s" max:"1h" unit:"duration" help:"Shortest interval between two flushes that a subscriber may ask for, beside none."`
	MaxEventSize           Size          `name:"max-event-size" group:"Limits" default:"1MiB" min:"64" max:"16MiB" unit:"size" help:"Largest frame: an event as it is sent. At most 16MiB and a quarter of --ring-size."`
	MaxBatchSize           Size          `name:"max-batch-size" group:"Limits" default:"16MiB" min:"64" max:"1GiB" unit:"size" help:"Largest body of a publish."`

	MemoryLimit Size          `name:"memory-limit" live:"yes" group:"Memory" default:"0" min:"0" max:"16TiB" unit:"size, 0: nine tenths of what the control group or the machine has" help:"Memory of the process (RSS) from which on new streams and publishes get 503; those who are in are served on. At least what --ring-size, --keep-size and --lag-memory take."`
	BodyMemory  Size          `name:"body-memory" live:"yes" group:"Memory" default:"256MiB" min:"64KiB" max:"1TiB" unit:"size" help:"Bound of the bodies of requests in hand together, those of up to 64 KiB left out, and of what packed ones grow to. At least --max-batch-size. One more gets 503."`
	RingSize    Size          `name:"ring-size" group:"Memory" default:"256MiB" min:"64KiB" max:"1TiB" unit:"size" help:"The ring: the newest events of all topics, kept for those who resume or lag."`
	Keep        int           `name:"keep" group:"Memory" default:"1" min:"0" max:"1000" unit:"events" help:"Newest events of each topic that outlive the ring."`
	KeepSize    Size          `name:"keep-size" group:"Memory" default:"64MiB" min:"4KiB" max:"1TiB" unit:"size" help:"Bound of what --keep holds; the longest unpublished topics' go first."`
	EndedKeep   time.Duration `name:"ended-keep" group:"Memory" default:"10m" min:"0s" max:"24h" unit:"duration" help:"For how long an ended topic is not forgotten for another one, so that whoever comes back hears that it is over."`
	LagMemory   Size          `name:"lag-memory" live:"yes" group:"Memory" default:"64MiB" min:"64KiB" max:"1TiB" unit:"size" help:"Bound of the batches held for subscribers that lag; over it the one furthest behind is cut, with those who share its batch, and may resume."`

	DeferAccept  time.Duration `name:"defer-accept" group:"Sockets" default:"1s" min:"0s" max:"1m" unit:"duration in whole seconds, 0s: off" help:"A connection is taken when its first byte is there, or about this long after it has begun (TCP_DEFER_ACCEPT)."`
	FastOpen     int           `name:"fastopen" group:"Sockets" default:"0" min:"0" max:"1048576" unit:"connections, 0: off" help:"How many connections may wait whose first packet has brought their request (TCP_FASTOPEN): a round trip less for clients that do so. It takes the sysctl net.ipv4.tcp_fastopen=2 or 3."`
	SendBuffer   Size          `name:"send-buffer" group:"Sockets" default:"0" min:"0" max:"1GiB" unit:"size, 0: as the kernel finds best" help:"What the kernel holds for a connection, sent and not acknowledged or not sent (SO_SNDBUF): a hard bound of its memory, and of the rate over long ways."`
	RecvBuffer   Size          `name:"recv-buffer" group:"Sockets" default:"0" min:"0" max:"1GiB" unit:"size, 0: as the kernel finds best" help:"What the kernel holds of what a client sends and nobody reads (SO_RCVBUF); small ones make large publishes over long ways slow."`
	NotSentLowat Size          `name:"notsent-lowat" group:"Sockets" default:"128KiB" min:"0" max:"1GiB" unit:"size, 0: no bound" help:"What the kernel takes for a subscriber beyond what is on its way to it (TCP_NOTSENT_LOWAT). What is more waits in the ring, which all share."`
	UserTimeout  time.Duration `name:"user-timeout" group:"Sockets" default:"60s" min:"1s" max:"24h" unit:"duration" help:"A subscriber whose kernel acknowledges nothing for this long is dropped (TCP_USER_TIMEOUT), and so is one whose full socket takes not one byte, a quarter later at the most."`
	KeepAlive    time.Duration `name:"keepalive" group:"Sockets" default:"0s" min:"0s" max:"9h" unit:"duration in whole seconds, 0s: off" help:"After this long a silence the kernel asks whether the other end is there (SO_KEEPALIVE); --user-timeout later it is given up. Heartbeats do the same; this is for those who make them rare."`
	NoDelay      bool          `name:"nodelay" group:"Sockets" default:"true" help:"Small events are sent at once (TCP_NODELAY), as is the default, or else held back until what was sent before is acknowledged."`
	Congestion   string        `name:"congestion" group:"Sockets" default:"" unit:"name, the kernel's choice without one" help:"Congestion control (TCP_CONGESTION), one of the sysctl net.ipv4.tcp_available_congestion_control: bbr, cubic."`

	Shards        int           `name:"shards" group:"Streams" default:"0" min:"0" max:"1024" unit:"threads, 0: half the cores" help:"Threads that send events to subscribers."`
	FlushInterval time.Duration `name:"flush-interval" group:"Streams" default:"10ms" min:"0s" max:"10s" unit:"duration" help:"Longest rest of a shard between two passes. A lone event waits for nothing; under load events wait up to this long and leave together."`
	FlushMaxBytes Size          `name:"flush-max-bytes" group:"Streams" default:"64KiB" min:"1KiB" max:"16MiB" unit:"size" help:"A batch of this size is sent and the next one begun."`
	Pin           bool          `name:"pin" group:"Streams" default:"false" help:"Each shard's thread stays on one core, the last one first."`
	Heartbeat     time.Duration `name:"heartbeat" group:"Streams" default:"15s" min:"1s" max:"24h" unit:"duration" help:"A stream that is idle for this long gets a heartbeat. Keep it below the idle limit of every proxy on the way."`
	MaxLag        Size          `name:"max-lag" live:"yes" group:"Streams" default:"0" min:"0" max:"1TiB" unit:"size, 0: only the ring bounds it" help:"How far behind a subscriber may be, in bytes of the ring (all topics' events): it then loses what is further behind, as if the ring had, and is told so (gap, or as onlag says). What a resume, rewind or snapshot reads from before its stream began does not count. At least --max-event-size."`
	MaxAge        time.Duration `name:"max-age" live:"yes" group:"Streams" default:"0s" min:"0s" max:"8760h" unit:"duration, 0: for ever" help:"A stream is ended at a frame's border when it is so old, a tenth more or less and up to --heartbeat later; its subscriber comes back by --retry-min and --retry-max, elsewhere if a balancer says so, and resumes."`
	RetryMin      time.Duration `name:"retry-min" live:"yes" group:"Streams" default:"2s" min:"1ms" max:"1h" unit:"duration" help:"Shortest reconnection time told to a subscriber; each gets a random one."`
	RetryMax      time.Duration `name:"retry-max" live:"yes" group:"Streams" default:"5s" min:"1ms" max:"1h" unit:"duration" help:"Longest reconnection time told to a subscriber."`

	Compress      string `name:"compress" group:"Compression" default:"gzip" oneof:"gzip,off" unit:"gzip or off" help:"What streams are compressed with, for those who accept it: made once for all who receive the same. See docs/security.md for when to switch it off."`
	CompressShare int    `name:"compress-share" group:"Compression" default:"8" min:"1" max:"1000000" unit:"subscribers" help:"From so many subscribers of the same on, 8 KiB of what they received last are kept, and new events refer to them."`
	CompressLevel string `name:"compress-level" group:"Compression" default:"best" oneof:"fast,good,best" unit:"fast, good or best" help:"The most that compressing may cost. The server takes less by itself where few receive the same, and under overload where it takes time."`

	Overload    string        `name:"overload" group:"Publishing" default:"wait" oneof:"wait,shed" unit:"wait or shed" help:"What publishers get that outrun the shards: wait makes them wait up to --publish-wait, shed refuses at once with 503."`
	MaxKeys     int           `name:"max-keys" group:"Publishing" default:"1000000" min:"1" max:"1000000000" unit:"keys" help:"Keys of idempotent publishes (key, Idempotency-Key) that are remembered at most, each for two minutes. A key takes about 80 bytes."`
	PublishRate int           `name:"publish-rate" live:"yes" group:"Publishing" default:"0" min:"0" max:"100000000" unit:"events a second, 0: no limit" help:"How fast one publisher may publish: one token, or one address (an IPv6 /64) where none is asked for. A second's worth may come at once; a larger batch is taken as a whole and paid off. Faster ones get 429. What all publishers together may do the subscribers' shards decide (--overload)."`
	PublishWait time.Duration `name:"publish-wait" group:"Publishing" default:"10s" min:"1ms" max:"1h" unit:"duration" help:"Longest wait of a publish for shards to keep up; then 503, and nothing was published."`

	Nats              []string      `name:"nats" group:"More machines" default:"" unit:"url, repeatable" help:"NATS servers whose JetStream carries the events between nodes: nats://host:4222, tls://host:4222. Without any, and without --nats-embedded, this machine is alone."`
	NatsStream        string        `name:"nats-stream" group:"More machines" default:"PENSTOCK" unit:"name" help:"The stream that holds the events; their ids are its sequence. Where it is missing it is made, if this user may."`
	NatsSubjectPrefix string        `name:"nats-subject-prefix" group:"More machines" default:"auto" unit:"tokens, auto or none" help:"What stands before the topic in a subject. auto: penstock, but none for a stream that is there and has other subjects."`
	NatsCreds         string        `name:"nats-creds" group:"More machines" default:"" unit:"path" help:"A file with a NATS user's JWT and seed (.creds)."`
	NatsNKey          string        `name:"nats-nkey" group:"More machines" default:"" unit:"path" help:"A file with an nkey's seed."`
	NatsTLSCA         string        `name:"nats-tls-ca" group:"More machines" default:"" unit:"path" help:"A file with the certificates (PEM) that NATS servers are trusted by, instead of the system's."`
	NatsTLSCert       string        `name:"nats-tls-cert" group:"More machines" default:"" unit:"path" help:"A file with this node's certificate for NATS (PEM); with --nats-tls-key."`
	NatsTLSKey        string        `name:"nats-tls-key" group:"More machines" default:"" unit:"path" help:"A file with the key of --nats-tls-cert (PEM)."`
	NatsEmbedded      string        `name:"nats-embedded" group:"More machines" default:"" unit:"directory" help:"Runs a NATS server with JetStream in this process and keeps the stream in the directory: events and ids survive a restart."`
	NatsListen        string        `name:"nats-listen" group:"More machines" default:"" unit:"host:port" help:"Where other nodes reach the embedded NATS server, which asks nobody who they are. Without it only this process does."`
	NatsSync          time.Duration `name:"nats-sync" group:"More machines" default:"2m" min:"0s" max:"1h" unit:"duration, 0s: for each event" help:"How often the embedded NATS server makes sure that events are on the disk and not only with the kernel: what a power cut may cost."`
	NatsMaxBehind     time.Duration `name:"nats-max-behind" group:"More machines" default:"500ms" min:"0s" max:"1h" unit:"duration, 0s: no matter" help:"How far this node may be behind its stream before publishers here wait, or are refused, as for shards (--overload, --publish-wait)."`
	PublishTimeout    time.Duration `name:"publish-timeout" group:"More machines" default:"5s" min:"10ms" max:"1h" unit:"duration" help:"How long a publish waits for NATS; then 503. So does the start of a node."`
	HistoryStreams    int           `name:"history-streams" group:"More machines" default:"64" min:"1" max:"100000" unit:"subscribers" help:"How many subscribers at once are given history older than the ring, up to 1 MiB each at a time; more are told to come back."`

	GoMaxProcs int    `name:"gomaxprocs" group:"Runtime" default:"0" min:"0" max:"1024" unit:"threads, 0: as GOMAXPROCS says, else as many as cores" help:"Threads that run Go at once."`
	GoGC       string `name:"gogc" group:"Runtime" default:"auto" unit:"percent, auto or off" help:"How much garbage may lie about before it is collected, in percent of what is alive. auto: paced so that the ring is not paid for twice, unless GOGC or GOMEMLIMIT is set."`
	GoMemLimit Size   `name:"gomemlimit" group:"Runtime" default:"0" min:"0" max:"1TiB" unit:"size, 0: as GOMEMLIMIT says, else none" help:"The collector works harder from here on, in place of taking more memory."`

	UpgradeTimeout time.Duration `name:"upgrade-timeout" live:"yes" group:"Running" default:"10s" min:"100ms" max:"10m" unit:"duration" help:"At SIGUSR2 another process takes over. Where it takes longer than this to get ready, or streams would have to wait longer for it, this one goes on as if nothing had been."`
	DrainTime      time.Duration `name:"drain-time" live:"yes" group:"Running" default:"5s" min:"0s" max:"24h" unit:"duration" help:"At SIGTERM streams are ended one after the other over this time, so that their subscribers do not all come back at once."`
	StateFile      string        `name:"state-file" group:"Running" default:"" unit:"path" help:"Keeps the newest id over restarts, so that ids never run backwards, even if the clock does. It is written every few seconds, some ahead. Not with --nats or --nats-embedded, whose stream gives the ids."`
	Demo           bool          `name:"demo" group:"Running" default:"false" help:"Publishes the demo feeds: recorded earthquakes, simulated stocks."`
	LogLevel       string        `name:"log-level" live:"yes" group:"Running" default:"info" oneof:"debug,info,warn,error" unit:"debug, info, warn or error" help:"What is logged, to standard error."`
	LogFormat      string        `name:"log-format" group:"Running" default:"auto" oneof:"auto,text,json" unit:"auto, text or json" help:"auto: text on a terminal, else JSON."`
}

// A Size is a number of bytes. As text it is a number alone or with KiB, MiB, GiB or TiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a size: 65536, 64KiB, 1.5GiB. Units are case-insensitive and B alone may follow
// a number. Units of 1,000 (kB, MB) are refused, so that nobody gets 5% less than meant.
func ParseSize(text string) (Size, error) {
	s := strings.TrimSpace(text)
	number, factor := s, int64(1)
	for _, u := range sizeUnits {
		if n := len(s) - len(u.name); n >= 0 && strings.EqualFold(s[n:], u.name) {
			number, factor = strings.TrimSpace(s[:n]), u.bytes
		}
	}
	if factor == 1 {
		number = strings.TrimSuffix(s, "B")
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= (1<<62)/factor {
		return Size(n * factor), nil
	}
	if f, err := strconv.ParseFloat(number, 64); err == nil && factor > 1 && f >= 0 && f*float64(factor) < 1<<62 && number[0] != '+' {
		return Size(f * float64(factor)), nil
	}
	return 0, fmt.Errorf("size %q: want a number of bytes, alone or with KiB, MiB, GiB or TiB: 65536, 64KiB, 1.5GiB", text)
}

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// String writes the size in the largest unit that divides it: 256MiB, 1000.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseDuration reads a duration in Go's form and says what that is when it can't.
func ParseDuration(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(strings.TrimSpace(text)); err == nil {
		return d, nil
	}
	return 0, fmt.Errorf("duration %q: want a number with ns, us, ms, s, m or h: 250ms, 15s, 1h30m", text)
}

// ParseCount reads a whole number; its digits may be grouped by _ or , (1_000_000).
func ParseCount(text string) (int, error) {
	if n, err := strconv.Atoi(strings.NewReplacer("_", "", ",", "").Replace(strings.TrimSpace(text))); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("number %q: want a whole number: 1000, 1_000_000", text)
}

// A Setting is what there is to say about one field of Config.
type Setting struct {
	Name    string // the flag without its dashes, and the key in the YAML file
	Env     string // PENSTOCK_ and the name in capitals
	Group   string
	Default string
	Unit    string // what a value is; "" for a switch
	Help    string
	Min     string // allowed values, "" where there is no bound
	Max     string
	OneOf   []string
	Live    bool // may change while the server runs (Server.Reload)
	index   int
}

// Settings returns every setting, in the order of Config's fields.
func Settings() []Setting {
	t := reflect.TypeFor[Config]()
	all := make([]Setting, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		s := Setting{
			Name: tag.Get("name"), Env: EnvName(tag.Get("name")), Group: tag.Get("group"), Default: tag.Get("default"),
			Unit: tag.Get("unit"), Help: tag.Get("help"), Min: tag.Get("min"), Max: tag.Get("max"), Live: tag.Get("live") != "", index: i,
		}
		if list := tag.Get("oneof"); list != "" {
			s.OneOf = strings.Split(list, ",")
		}
		all = append(all, s)
	}
	return all
}

// EnvName returns the environment variable of the setting of that name: PENSTOCK_RING_SIZE for
// ring-size.
func EnvName(name string) string {
	return "PENSTOCK_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// DefaultConfig returns the settings of a server that was told nothing.
func DefaultConfig() Config {
	var c Config
	v := reflect.ValueOf(&c).Elem()
	for _, s := range Settings() {
		if err := setText(v.Field(s.index), s.Default); err != nil {
			panic(fmt.Sprintf("server: default of --%s: %v", s.Name, err))
		}
	}
	return c
}

// setText puts a value's text into a field of Config.
func setText(field reflect.Value, text string) error {
	switch p := field.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		*p = text == "true"
	case *[]string:
		*p = nil
		if text != "" {
			*p = strings.Split(text, ",")
		}
	case *int:
		n, err := ParseCount(text)
		*p = n
		return err
	case *time.Duration:
		d, err := ParseDuration(text)
		*p = d
		return err
	case *Size:
		return p.UnmarshalText([]byte(text))
	default:
		panic("server: a setting of type " + field.Type().String() + " has no text form")
	}
	return nil
}

// Check returns the first thing that is wrong: which setting, its value and what is allowed. It
// opens no socket, but reads the token file: a server must not start without the token that it was
// told to ask for.
func (c *Config) Check() error {
	v := reflect.ValueOf(c).Elem()
	for _, s := range Settings() {
		if err := s.checkBounds(v.Field(s.index)); err != nil {
			return err
		}
	}
	if err := c.checkListen(); err != nil {
		return err
	}
	if c.AdminListen != "auto" && c.AdminListen != "none" {
		if err := checkAddress("admin-listen", c.AdminListen); err != nil {
			return fmt.Errorf("%w, auto or none", err)
		}
	}
	if c.Debug != "" {
		if err := checkAddress("debug", c.Debug); err != nil {
			return err
		}
		if !IsLoopback(c.Debug) {
			return fmt.Errorf("--debug %s: allowed are loopback addresses only: profiles are nobody else's business; use 127.0.0.1:6060 and a tunnel", c.Debug)
		}
	}
	if c.MaxEventSize > c.RingSize/4 {
		return fmt.Errorf("--max-event-size %s: allowed is at most a quarter of --ring-size %s, which is %s", c.MaxEventSize, c.RingSize, c.RingSize/4)
	}
	if c.StateFile != "" && c.hasNats() {
		return fmt.Errorf("--state-file %q: allowed is none beside --nats and --nats-embedded, for ids are the stream's", c.StateFile)
	}
	if c.MaxLag > 0 && c.MaxLag < c.MaxEventSize {
		return fmt.Errorf("--max-lag %s: allowed is 0, or at least --max-event-size %s", c.MaxLag, c.MaxEventSize)
	}
	if least := c.memoryBound(); c.MemoryLimit > 0 && int64(c.MemoryLimit) < least {
		return fmt.Errorf("--memory-limit %s: allowed is 0, or at least %dMiB, which --ring-size %s, --keep-size %s and --lag-memory %s may take", c.MemoryLimit, least>>20+1, c.RingSize, c.KeepSize, c.LagMemory)
	}
	if c.BodyMemory < c.MaxBatchSize {
		return fmt.Errorf("--body-memory %s: allowed is at least --max-batch-size %s", c.BodyMemory, c.MaxBatchSize)
	}
	if percent, err := parseGC(c.GoGC); err != nil {
		return err
	} else if percent == noCollector && c.GoMemLimit == 0 {
		return fmt.Errorf("--gogc off: allowed is it with --gomemlimit alone, or memory would never be given back")
	}
	if least := c.RingSize + c.RingSize/4 + 32<<20; c.GoMemLimit > 0 && c.GoMemLimit < least {
		return fmt.Errorf("--gomemlimit %s: allowed is at least %s, a quarter and 32MiB more than --ring-size %s, or the collector would never rest", c.GoMemLimit, least, c.RingSize)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"defer-accept", c.DeferAccept}, {"keepalive", c.KeepAlive}} {
		if d.value%time.Second != 0 {
			return fmt.Errorf("--%s %s: allowed are whole seconds, which is what the kernel takes", d.name, d.value)
		}
	}
	if c.RetryMin > c.RetryMax {
		return fmt.Errorf("--retry-min %s: allowed is at most --retry-max %s", c.RetryMin, c.RetryMax)
	}
	if _, err := auth.New(c.policy()); err != nil {
		return err
	}
	if err := c.checkNats(); err != nil {
		return err
	}
	for _, origin := range c.CORSOrigin {
		if err := api.CheckOrigin(origin); err != nil {
			return err
		}
	}
	return nil
}

// checkBounds holds a field against its tags min, max and oneof.
func (s *Setting) checkBounds(field reflect.Value) error {
	value := fmt.Sprint(field.Interface())
	if len(s.OneOf) > 0 {
		for _, allowed := range s.OneOf {
			if value == allowed {
				return nil
			}
		}
		return fmt.Errorf("--%s %q: allowed are %s", s.Name, value, strings.Join(s.OneOf, ", "))
	}
	if s.Min == "" {
		return nil
	}
	low, high := reflect.New(field.Type()).Elem(), reflect.New(field.Type()).Elem()
	if err := setText(low, s.Min); err != nil {
		panic(fmt.Sprintf("server: min of --%s: %v", s.Name, err))
	}
	if err := setText(high, s.Max); err != nil {
		panic(fmt.Sprintf("server: max of --%s: %v", s.Name, err))
	}
	if n := field.Int(); n < low.Int() || n > high.Int() {
		return fmt.Errorf("--%s %s: allowed are %s to %s", s.Name, value, s.Min, s.Max)
	}
	return nil
}

// checkListen looks at the main addresses, and the mode of their unix sockets.
func (c *Config) checkListen() error {
	if n := len(c.Listen); n == 0 || n > accept.MostListeners {
		return fmt.Errorf("--listen: %d addresses; allowed are 1 to %d", n, accept.MostListeners)
	}
	for _, address := range c.Listen {
		if path, ok := accept.UnixPath(address); ok {
			if err := accept.CheckUnixPath(path); err != nil {
				return fmt.Errorf("--listen %s: %w", address, err)
			}
		} else if err := checkAddress("listen", address); err != nil {
			return fmt.Errorf("%w, or unix:PATH", err)
		}
	}
	if _, err := parseMode(c.SocketMode); err != nil {
		return fmt.Errorf("--socket-mode %q: allowed are octal permissions, 0600 to 0777", c.SocketMode)
	}
	return nil
}

// parseMode reads permissions; without those of its owner a socket would be of no use to its own
// server's proxy, and to nobody else either.
func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err == nil && (n&^0o777 != 0 || n&0o600 != 0o600) {
		err = strconv.ErrRange
	}
	return fs.FileMode(n), err
}

// checkAddress wants host:port with a numeric port; the host may be empty, a name or an address.
func checkAddress(name, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		if _, err = strconv.ParseUint(port, 10, 16); err == nil {
			return nil
		}
	}
	return fmt.Errorf("--%s %q: allowed are host:port, port 0 for any free one", name, address)
}

// sockets is what the kernel is told of TCP's sockets.
func (c *Config) sockets() accept.Sockets {
	return accept.Sockets{
		DeferAccept: c.DeferAccept,
		FastOpen:    c.FastOpen,
		SendBuffer:  int(c.SendBuffer),
		RecvBuffer:  int(c.RecvBuffer),
		NotSent:     int(c.NotSentLowat),
		UserTimeout: c.UserTimeout,
		KeepAlive:   c.KeepAlive,
		NoDelay:     c.NoDelay,
		Congestion:  c.Congestion,
	}
}

// policy is what auth is told.
func (c *Config) policy() auth.Options {
	return auth.Options{TokenFile: c.PublishTokenFile, Insecure: c.InsecurePublish}
}

// compressLevels are the values of --compress-level.
var compressLevels = map[string]encode.Level{"fast": encode.Fast, "good": encode.Good, "best": encode.Best}

// codings are what --compress offers.
func (c *Config) codings() []encode.Coding {
	if coding, err := encode.ParseCoding(c.Compress); err == nil {
		return []encode.Coding{coding}
	}
	return nil
}

// IsLoopback tells whether a listening address can be reached from this machine alone. A name
// other than localhost is taken as reachable from elsewhere: what it resolves to may change. So is
// a unix socket: it is there for a proxy, which brings everybody.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// UnixPath returns the path of a listening address that is a unix socket: unix:PATH.
func UnixPath(address string) (path string, ok bool) { return accept.UnixPath(address) }

// adminAddress is where the admin listener goes, or "" for none: the rule of the contract's "Look".
func (c *Config) adminAddress() string {
	switch c.AdminListen {
	case "none":
		return ""
	case "auto":
		if slices.ContainsFunc(c.Listen, IsLoopback) {
			return ""
		}
		return "127.0.0.1:8081"
	}
	return c.AdminListen
}
