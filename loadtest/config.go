package loadtest

// What a run is told, and what is allowed.

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"penstock/encode"
)

// A Rate is events a second, of all publishers together. AsAcknowledged publishes the next event
// as soon as the one before it is answered.
type Rate float64

// AsAcknowledged is the rate "max": a closed loop.
const AsAcknowledged = Rate(-1)

// UnmarshalText reads events a second, or "max".
func (r *Rate) UnmarshalText(b []byte) error {
	if string(b) == "max" {
		*r = AsAcknowledged
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > 1e8 {
		return fmt.Errorf("rate %q: events a second, 0 to 100000000, or max are allowed", b)
	}
	*r = Rate(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	if r == AsAcknowledged {
		return "max"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64)
}

// A Config is everything a run is told. Scenario gives a whole one; a YAML file's keys are those
// in the tags, which are the flags of penstock loadtest.
type Config struct {
	URL      string `yaml:"url" json:"url"`           // a Penstock (http://host:port, with a query: of its streams), or any stream's URL with {topic}
	Scenario string `yaml:"scenario" json:"scenario"` // its name

	Subscribers int           `yaml:"subscribers" json:"subscribers"`
	Topics      int           `yaml:"topics" json:"topics"`
	Watch       int           `yaml:"watch" json:"watch"`               // topics of each subscriber
	WatchEvenly bool          `yaml:"watch-evenly" json:"watch-evenly"` // every topic is as popular as any other, however busy it is; else busy ones are
	Rate        Rate          `yaml:"rate" json:"rate"`
	Duration    time.Duration `yaml:"duration" json:"duration"` // of the measured part
	Events      uint64        `yaml:"events" json:"events"`     // the measured part ends after so many, if not by time; 0: by time alone
	Size        int           `yaml:"size" json:"size"`         // of an event's data, in bytes
	Zipf        float64       `yaml:"zipf" json:"zipf"`         // topic k is k^zipf times less busy than the first; 0: all alike
	Bursts      bool          `yaml:"bursts" json:"bursts"`     // events come in bursts like trades do; else evenly

	ChurnRate  float64       `yaml:"churn-rate" json:"churn-rate"`   // subscribers that leave, a second
	Away       time.Duration `yaml:"away" json:"away"`               // how long one that left stays away
	Storm      bool          `yaml:"storm" json:"storm"`             // all leave at once after a third of the time, and come back
	StormShare float64       `yaml:"storm-share" json:"storm-share"` // of subscribers that leave in a storm, 0 to 1; 0: all. Latency is that of the others
	SlowShare  float64       `yaml:"slow-share" json:"slow-share"`   // of subscribers that read slowly, 0 to 1
	SlowRate   int           `yaml:"slow-rate" json:"slow-rate"`     // bytes a second that such a one reads; 0: none until the end nears
	TopicName  string        `yaml:"topic-name" json:"topic-name"`   // what names of topics begin with; "": load. and the run's number
	SubscribeH []string      `yaml:"header" json:"header,omitempty"` // of requests for streams, "Name: value"
	Coding     encode.Coding `yaml:"coding" json:"coding"`           // that requests for streams ask for
	CheckShare float64       `yaml:"check-share" json:"check-share"` // of subscribers whose streams are read event by event, 0 to 1; of the others bytes are counted. 0: all

	Publishers  int      `yaml:"publishers" json:"publishers"` // connections
	Batch       int      `yaml:"publish-batch" json:"publish-batch"`
	PublishURL  string   `yaml:"publish-url" json:"publish-url,omitempty"`
	PublishBody string   `yaml:"publish-body" json:"publish-body,omitempty"`
	Method      string   `yaml:"publish-method" json:"publish-method,omitempty"`
	PublishH    []string `yaml:"publish-header" json:"publish-header,omitempty"`

	ConnectRate int           `yaml:"connect-rate" json:"connect-rate"` // new streams a second
	Source      string        `yaml:"source" json:"source,omitempty"`   // addresses to connect from, as a prefix
	Processes   int           `yaml:"processes" json:"processes"`       // 0: as many as descriptors call for
	Threads     int           `yaml:"threads" json:"threads"`           // of each process; 0: one for two cores
	Timeout     time.Duration `yaml:"timeout" json:"timeout"`           // for a stream to begin, a publish to be answered
	Grace       time.Duration `yaml:"grace" json:"grace"`               // how long the last events may take after the measured part
	PID         int           `yaml:"pid" json:"pid,omitempty"`         // of the server; 0: found by itself where it is on this machine
	Seed        uint64        `yaml:"seed" json:"seed"`

	FailIf  []string `yaml:"fail-if" json:"fail-if,omitempty"`
	Command []string `yaml:"-" json:"command"` // what makes this run again
	Version string   `yaml:"-" json:"version"`
}

// Limits. They keep memory bounded and numbers inside of their types.
const (
	maxSubscribers = 10_000_000
	maxTopics      = 1_000_000
	maxWatch       = 10_000
	maxPublishers  = 10_000
	maxBatch       = 10_000
	maxDuration    = 30 * 24 * time.Hour
)

// Check says what is wrong with a Config, naming the flag, the value and what is allowed; nil
// when nothing is.
func (c *Config) Check() error {
	var errs []error
	between := func(flag string, v, least, most int) {
		if v < least || v > most {
			errs = append(errs, fmt.Errorf("--%s %d: %d to %d are allowed", flag, v, least, most))
		}
	}
	time := func(flag string, v, least, most time.Duration) {
		if v < least || v > most {
			errs = append(errs, fmt.Errorf("--%s %v: %v to %v are allowed", flag, v, least, most))
		}
	}
	share := func(flag string, v, most float64) {
		if math.IsNaN(v) || v < 0 || v > most {
			errs = append(errs, fmt.Errorf("--%s %v: 0 to %v are allowed", flag, v, most))
		}
	}
	if c.URL == "" {
		errs = append(errs, errors.New("no URL: give the server's, like http://127.0.0.1:8080"))
	}
	between("subscribers", c.Subscribers, 0, maxSubscribers)
	between("topics", c.Topics, 1, maxTopics)
	between("watch", c.Watch, 1, min(maxWatch, max(1, c.Topics)))
	between("size", c.Size, MinSize, MaxSize)
	between("publishers", c.Publishers, 1, maxPublishers)
	between("publish-batch", c.Batch, 1, maxBatch)
	between("connect-rate", c.ConnectRate, 1, 10_000_000)
	between("processes", c.Processes, 0, 1000)
	between("threads", c.Threads, 0, 1000)
	between("slow-rate", c.SlowRate, 0, 1<<30)
	between("pid", c.PID, 0, 1<<30)
	time("duration", c.Duration, 100*ms, maxDuration)
	time("timeout", c.Timeout, 100*ms, 10*60*sec)
	time("grace", c.Grace, 0, 10*60*sec)
	time("away", c.Away, 0, 60*60*sec)
	share("churn-rate", c.ChurnRate, 1e6)
	share("slow-share", c.SlowShare, 1)
	share("storm-share", c.StormShare, 1)
	share("check-share", c.CheckShare, 1)
	if c.CheckShare != 0 && c.CheckShare < 1 && c.returns() {
		errs = append(errs, fmt.Errorf("--check-share %v with subscribers that come back (--churn-rate, --storm, --slow-share): one that is not checked has no id to come back with", c.CheckShare))
	}
	share("zipf", c.Zipf, 10)
	if c.Rate < 0 && c.Rate != AsAcknowledged || math.IsNaN(float64(c.Rate)) || c.Rate > 1e8 {
		errs = append(errs, fmt.Errorf("--rate %v: 0 to 100000000, or max are allowed", float64(c.Rate)))
	}
	if c.Rate == AsAcknowledged && c.Bursts {
		errs = append(errs, errors.New("--rate max with --bursts: bursts need a rate in events a second"))
	}
	if c.Source != "" {
		if p, err := netip.ParsePrefix(c.Source); err != nil {
			errs = append(errs, fmt.Errorf("--source %q: %w; it takes a prefix like 127.0.0.0/28", c.Source, err))
		} else if p.Addr().BitLen()-p.Bits() > 16 {
			errs = append(errs, fmt.Errorf("--source %q: more than 65,536 addresses; /16 is the widest for IPv4", c.Source))
		}
	}
	for i := 0; i < len(c.TopicName); i++ {
		b := c.TopicName[i]
		if b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9' || b == '.' || b == '-' || b == '_' || b == '~' {
			continue
		}
		errs = append(errs, fmt.Errorf("--topic-name %q: byte %#02x at %d; letters, digits and . - _ ~ are allowed", c.TopicName, b, i))
		break
	}
	if len(c.TopicName) > 100 {
		errs = append(errs, fmt.Errorf("--topic-name of %d bytes: 100 are allowed", len(c.TopicName)))
	}
	for _, h := range c.SubscribeH {
		if err := checkHeader("--header", h); err != nil {
			errs = append(errs, err)
		}
		if name, _, _ := strings.Cut(h, ":"); strings.EqualFold(name, "Accept-Encoding") {
			errs = append(errs, fmt.Errorf("--header %q: --coding says what streams ask for", h))
		}
	}
	for _, h := range c.PublishH {
		if err := checkHeader("--publish-header", h); err != nil {
			errs = append(errs, err)
		}
	}
	if strings.Trim(c.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		errs = append(errs, fmt.Errorf("--publish-method %q: capital letters are allowed, like POST", c.Method))
	}
	if c.PublishURL == "" && c.PublishBody != "" {
		errs = append(errs, errors.New("--publish-body without --publish-url: say where it goes"))
	}
	for _, f := range c.FailIf {
		if _, err := parseCondition(f); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// returns says whether streams that ended are begun again.
func (c *Config) returns() bool { return c.ChurnRate > 0 || c.Storm || c.SlowShare > 0 }

const (
	ms  = time.Millisecond
	sec = time.Second
)
