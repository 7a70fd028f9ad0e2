package loadtest

// Scenarios: what a run is like, each a few settings of Config. Any goroutine.

import (
	"fmt"
	"strings"
	"time"
)

// A preset is a scenario by name.
type preset struct {
	name, help string
	set        func(*Config)
}

var presets = []preset{
	{"idle", "holds streams; nothing is published", func(c *Config) {
		c.Subscribers, c.Rate = 10_000, 0
	}},
	{"broadcast", "everybody hears every event", func(c *Config) {
		c.Subscribers, c.Rate = 1_000, 100
	}},
	{"ticker", "many topics, a few of them busy, in bursts like trades", func(c *Config) {
		c.Subscribers, c.Topics, c.Rate, c.Publishers = 10_000, 1_000, 2_000, 4
		c.Zipf, c.Bursts = 1, true
	}},
	{"watchlists", "each subscriber has a list of topics of its own", func(c *Config) {
		c.Subscribers, c.Topics, c.Watch, c.Rate, c.Publishers = 2_000, 1_000, 50, 500, 4
		c.Zipf = 1
	}},
	{"churn", "subscribers leave, come back with their last id and must miss nothing", func(c *Config) {
		c.Subscribers, c.Topics, c.Rate, c.ChurnRate, c.Away = 2_000, 50, 500, 200, time.Second
	}},
	{"storm", "all leave at once and come back with their last id", func(c *Config) {
		c.Subscribers, c.Topics, c.Rate, c.Storm, c.Away = 2_000, 50, 200, true, time.Second
	}},
	{"slow", "a share of the subscribers reads slowly or stops", func(c *Config) {
		c.Subscribers, c.Rate, c.Size, c.SlowShare = 1_000, 500, 400, 0.05
	}},
	{"publish", "no subscribers: how fast events are taken", func(c *Config) {
		c.Subscribers, c.Topics, c.Rate, c.Publishers = 0, 8, AsAcknowledged, 8
	}},
	{"mixed", "watchlists, bursts, churn and slow subscribers at once", func(c *Config) {
		c.Subscribers, c.Topics, c.Watch, c.Rate, c.Publishers = 5_000, 500, 5, 1_000, 4
		c.Zipf, c.Bursts, c.ChurnRate, c.Away, c.SlowShare = 1, true, 50, time.Second, 0.01
	}},
}

// Scenarios answers the names of all scenarios, and a line about each.
func Scenarios() (names, help []string) {
	for _, p := range presets {
		names, help = append(names, p.name), append(help, p.help)
	}
	return names, help
}

// Scenario answers the settings of a scenario. The error names those there are.
func Scenario(name string) (Config, error) {
	for _, p := range presets {
		if p.name == name {
			return p.config(), nil
		}
	}
	names, _ := Scenarios()
	return Config{}, fmt.Errorf("--scenario %q: not known; %s are allowed", name, strings.Join(names, ", "))
}

func (p *preset) config() Config {
	c := Config{
		Scenario: p.name, Topics: 1, Watch: 1, Duration: 10 * time.Second, Size: 150,
		Publishers: 1, Batch: 1, ConnectRate: 5_000,
		Timeout: 10 * time.Second, Grace: 5 * time.Second, Seed: 1,
	}
	p.set(&c)
	return c
}
