package main

// The health command: one request to /healthz, for images and units that have no curl.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"penstock/server"
)

type healthCmd struct {
	URL     string        `arg:"" optional:"" help:"The server, as http://host:port. Default: the first address of PENSTOCK_LISTEN, a unix socket as well, else http://127.0.0.1:8080."`
	Ready   bool          `help:"Ask /readyz in place of /healthz: a server that drains is healthy, but not ready."`
	Timeout time.Duration `default:"3s" placeholder:"DURATION" help:"Give up after this long."`
}

// Run answers nil when the server says that it is well; otherwise the error says what it said.
func (c *healthCmd) Run(rc *runContext) error {
	if c.Timeout <= 0 {
		return usagef("--timeout %s: it takes a duration above 0s", c.Timeout)
	}
	target, socket, err := c.target()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(rc.Ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return usagef("health: %w", err)
	}
	// No proxy of the environment: the question is about the machine it is asked on.
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	client := http.Client{Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s: %s: %s", target, resp.Status, text)
	}
	_, err = fmt.Fprintln(rc.Stdout, text)
	return err
}

// target is the URL to ask, and the path of the unix socket to ask it by, if it is one.
func (c *healthCmd) target() (target, socket string, err error) {
	path := "/healthz"
	if c.Ready {
		path = "/readyz"
	}
	base := c.URL
	if base == "" {
		address, _, _ := strings.Cut(os.Getenv("PENSTOCK_LISTEN"), ",")
		if address == "" {
			address = "127.0.0.1:8080"
		}
		if socket, ok := server.UnixPath(address); ok {
			return "http://localhost" + path, socket, nil
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", "", usagef("PENSTOCK_LISTEN=%q: %w; it takes host:port, or unix:PATH", address, err)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1" // listening everywhere includes here
		}
		base = "http://" + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", "", usagef("health: %q is no address of a server; it takes http://host:port", base)
	}
	return strings.TrimRight(base, "/") + path, "", nil
}
