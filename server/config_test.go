package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultsPassTheirOwnCheck(t *testing.T) {
	c := DefaultConfig()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.RingSize != 256<<20 || c.Heartbeat != 15*time.Second || c.MaxTopics != 1_000_000 || !slices.Equal(c.Listen, []string{"127.0.0.1:8080"}) {
		t.Errorf("defaults are %+v", c)
	}
}

// What is refused is refused with the setting's name, its value and what is allowed.
func TestCheckNamesSettingValueAndAllowed(t *testing.T) {
	spaced := filepath.Join(t.TempDir(), "spaced")
	if err := os.WriteFile(spaced, []byte("two words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  func(*Config)
		want []string
	}{
		"address without port":   {func(c *Config) { c.Listen = []string{"localhost"} }, []string{"--listen", `"localhost"`, "host:port"}},
		"port by name":           {func(c *Config) { c.Listen = []string{"localhost:http"} }, []string{"--listen", "host:port"}},
		"port too large":         {func(c *Config) { c.Listen = []string{":8080", ":65536"} }, []string{"--listen", ":65536"}},
		"no address":             {func(c *Config) { c.Listen = nil }, []string{"--listen", "1 to 64"}},
		"no path":                {func(c *Config) { c.Listen = []string{"unix:"} }, []string{"--listen unix:", "no path"}},
		"abstract socket":        {func(c *Config) { c.Listen = []string{"unix:@p"} }, []string{"--listen unix:@p", "permissions"}},
		"long path":              {func(c *Config) { c.Listen = []string{"unix:/" + strings.Repeat("x", 107)} }, []string{"108 bytes", "at most 107"}},
		"mode in decimal":        {func(c *Config) { c.SocketMode = "0680" }, []string{"--socket-mode", "0680", "octal"}},
		"mode without its owner": {func(c *Config) { c.SocketMode = "0066" }, []string{"--socket-mode", "0600 to 0777"}},
		"admin address by path":  {func(c *Config) { c.AdminListen = "unix:/run/a.sock" }, []string{"--admin-listen", "host:port"}},
		"admin address":          {func(c *Config) { c.AdminListen = "8081" }, []string{"--admin-listen", "auto or none"}},
		"debug door to all":      {func(c *Config) { c.Debug = ":6060" }, []string{"--debug", "loopback"}},
		"ring too small":         {func(c *Config) { c.RingSize = 1000 }, []string{"--ring-size 1000", "64KiB", "1TiB"}},
		"event over the quarter": {func(c *Config) { c.RingSize = 1 << 20; c.MaxEventSize = 1 << 20 }, []string{"--max-event-size 1MiB", "quarter", "256KiB"}},
		"negative keep":          {func(c *Config) { c.Keep = -1 }, []string{"--keep -1", "0 to 1000"}},
		"long flush interval":    {func(c *Config) { c.FlushInterval = time.Hour }, []string{"--flush-interval 1h0m0s", "0s to 10s"}},
		"overload":               {func(c *Config) { c.Overload = "drop" }, []string{`--overload "drop"`, "wait, shed"}},
		"log level":              {func(c *Config) { c.LogLevel = "loud" }, []string{"--log-level", "debug, info, warn, error"}},
		"half a second":          {func(c *Config) { c.DeferAccept = 500 * time.Millisecond }, []string{"--defer-accept 500ms", "whole seconds"}},
		"keepalive of 1.5 s":     {func(c *Config) { c.KeepAlive = 1500 * time.Millisecond }, []string{"--keepalive 1.5s", "whole seconds"}},
		"collector at 0":         {func(c *Config) { c.GoGC = "0" }, []string{`--gogc "0"`, "auto, off and 1 to 10000"}},
		"no collector at all":    {func(c *Config) { c.GoGC = "off" }, []string{"--gogc off", "--gomemlimit"}},
		"memory below the ring":  {func(c *Config) { c.GoMemLimit = 256 << 20 }, []string{"--gomemlimit 256MiB", "352MiB", "--ring-size 256MiB"}},
		"retry the wrong way":    {func(c *Config) { c.RetryMin, c.RetryMax = 3*time.Second, time.Second }, []string{"--retry-min 3s", "--retry-max 1s"}},
		"both ways to publish":   {func(c *Config) { c.InsecurePublish = true; c.PublishTokenFile = spaced }, []string{"--insecure-publish", "--publish-token-file"}},
		"no token file":          {func(c *Config) { c.PublishTokenFile = "/nonexistent/token" }, []string{"--publish-token-file", "no such file"}},
		"token with a space":     {func(c *Config) { c.PublishTokenFile = spaced }, []string{spaced, "line 1", "byte"}},
		"origin with a path":     {func(c *Config) { c.CORSOrigin = []string{"https://a.example/"} }, []string{"--cors-origin", "https://a.example/"}},
		"any origin":             {func(c *Config) { c.CORSOrigin = []string{"*"} }, []string{"--cors-origin", `"*"`}},
		"origin of a file":       {func(c *Config) { c.CORSOrigin = []string{"file://x"} }, []string{"--cors-origin"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			c.set(&config)
			err := config.Check()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestSizesAreReadAndWritten(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "65536": 64 << 10, "64KiB": 64 << 10, "64kib": 64 << 10, " 256 MiB ": 256 << 20, "1.5GiB": 3 << 29, "2TiB": 2 << 40, "100B": 100,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "64K", "64KB", "64MB", "-1", "-1KiB", "1e3", "1,5GiB", "9999999TiB", "NaNKiB", "+InfGiB", "0x10", "1.5"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		} else if !strings.Contains(err.Error(), "KiB") {
			t.Errorf("ParseSize(%q): %q does not say what is allowed", text, err)
		}
	}
	for size, want := range map[Size]string{0: "0", 1000: "1000", 64 << 10: "64KiB", 1 << 30: "1GiB", 1<<30 + 1<<20: "1025MiB"} {
		if got := size.String(); got != want {
			t.Errorf("Size(%d) is written %q, want %q", int64(size), got, want)
		}
	}
}

func TestDurationsAndCountsSayWhatTheyWant(t *testing.T) {
	if _, err := ParseDuration("15"); err == nil || !strings.Contains(err.Error(), "15s") {
		t.Errorf("ParseDuration(15): %v", err)
	}
	if n, err := ParseCount("1_000,000"); err != nil || n != 1_000_000 {
		t.Errorf("ParseCount = %d, %v", n, err)
	}
	if _, err := ParseCount("ten"); err == nil || !strings.Contains(err.Error(), "whole number") {
		t.Errorf("ParseCount(ten): %v", err)
	}
}

func TestEverySettingIsWholeAndStandsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Settings() {
		if s.Name == "" || s.Help == "" || s.Group == "" {
			t.Errorf("setting %+v lacks a name, a group or help", s)
		}
		if s.Unit == "" && s.Default != "false" && s.Default != "true" {
			t.Errorf("--%s has no unit and is no switch", s.Name)
		}
		if seen[s.Name] {
			t.Errorf("--%s stands twice", s.Name)
		}
		seen[s.Name] = true
	}
}

// The admin listener's place follows from the main address unless it is named.
func TestAdminAddressFollowsTheMainOne(t *testing.T) {
	for _, c := range []struct{ listen, admin, want string }{
		{"127.0.0.1:8080", "auto", ""},
		{"[::1]:8080", "auto", ""},
		{"localhost:8080", "auto", ""},
		{":8080", "auto", "127.0.0.1:8081"},
		{"0.0.0.0:8080", "auto", "127.0.0.1:8081"},
		{"penstock.example:8080", "auto", "127.0.0.1:8081"},
		{":8080", "none", ""},
		{"unix:/run/penstock.sock", "auto", "127.0.0.1:8081"},
		{"unix:/run/penstock.sock,127.0.0.1:8080", "auto", ""},
		{"127.0.0.1:8080", "127.0.0.1:9000", "127.0.0.1:9000"},
	} {
		config := Config{Listen: strings.Split(c.listen, ","), AdminListen: c.admin}
		if got := config.adminAddress(); got != c.want {
			t.Errorf("listen %s, admin %s: %q, want %q", c.listen, c.admin, got, c.want)
		}
	}
}
