package main

// The serve command: settings to a server, what it says at start, and the service manager's wants.
// The main goroutine; the server has its own.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"penstock/server"
)

type serveCmd struct {
	Config   string        `name:"config" default:"" unit:"path" help:"A YAML file with settings: the flags below without their dashes are its keys. A flag beats the environment, the environment the file."`
	Settings server.Config `embed:""`
}

// Run serves until the context ends, then drains. Wrong settings are a usage error.
func (c *serveCmd) Run(rc *runContext) error {
	if err := c.Settings.Check(); err != nil {
		return usageError{err}
	}
	text := c.Settings.LogFormat == "text" || c.Settings.LogFormat == "auto" && isTerminal(rc.Stderr)
	// Go ends a process whose standard output or error nobody reads any more. Ours serves others.
	signal.Ignore(syscall.SIGPIPE)
	log := newLogger(rc.Stderr, text, c.Settings.LogLevel)
	srv, err := server.New(c.Settings, log)
	if err != nil {
		return err
	}
	defer srv.PaceCollector()()
	if text {
		announce(rc.Stdout, srv.Facts())
	} else {
		var all []any
		for _, f := range srv.Facts() {
			all = append(all, f.Name, f.Value)
		}
		log.Info("serving", all...)
	}
	notify(log, daemon.SdNotifyReady)
	defer context.AfterFunc(rc.Ctx, func() { notify(log, daemon.SdNotifyStopping) })()
	return srv.Run(rc.Ctx)
}

// newLogger makes the logger of --log-format and --log-level.
func newLogger(w io.Writer, text bool, level string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		panic("penstock: --log-level passed its check: " + err.Error())
	}
	if text {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: least}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least}))
}

// isTerminal tells whether somebody is likely to look: a file that is a device of characters.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// announce writes the block that a person reads when the server is up.
func announce(w io.Writer, facts []server.Fact) {
	var b strings.Builder
	fmt.Fprintf(&b, "penstock %s\n\n", server.BuildInfo())
	for _, f := range facts {
		fmt.Fprintf(&b, "  %-11s %s\n", f.Name, f.Value)
	}
	_, _ = fmt.Fprintln(w, b.String())
}

// notify tells systemd, where it runs us (sd_notify(3)); elsewhere it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", "state", state, "error", err)
	}
}
