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
	Config   string        `name:"config" default:"" unit:"path" help:"A YAML file with settings: the flags below without their dashes are its keys. A flag beats the environment, the environment the file. SIGHUP reads it again, and the publish tokens: what is marked so changes, what is not is named in the log."`
	Upgrade  bool          `name:"upgrade" help:"Serves nothing, but tells the server that listens on the first --listen to hand over to the program as it is installed now (SIGUSR2), and waits until it has."`
	Settings server.Config `embed:""`
}

// Run serves until the context ends, then drains. Wrong settings are a usage error.
func (c *serveCmd) Run(rc *runContext) error {
	if err := c.Settings.Check(); err != nil {
		return usageError{err}
	}
	if c.Upgrade {
		return c.upgradeOther(rc)
	}
	text := c.Settings.LogFormat == "text" || c.Settings.LogFormat == "auto" && isTerminal(rc.Stderr)
	// Go ends a process whose standard output or error nobody reads any more. Ours serves others.
	signal.Ignore(syscall.SIGPIPE)
	var level slog.LevelVar
	level.Set(levelOf(c.Settings.LogLevel))
	log := newLogger(rc.Stderr, text, &level)
	defer c.Settings.SetRuntime()()
	orders := make(chan os.Signal, 1)
	signal.Notify(orders, syscall.SIGUSR2)
	defer signal.Stop(orders)
	// Before anybody can know that the server is up: a SIGHUP that nobody waits for ends the process.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	srv, ready, err := c.open(log)
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
	defer onHangUp(hangUps, func() { c.reload(rc, srv, log, &level) })()
	notify(log, ready)
	upgrades, stop := context.WithCancel(rc.Ctx)
	defer stop()
	go c.upgradeAt(upgrades, orders, srv, log)
	defer context.AfterFunc(rc.Ctx, func() { notify(log, daemon.SdNotifyStopping) })()
	return srv.Run(rc.Ctx)
}

// onHangUp calls do at each SIGHUP, one after the other, until stop is called.
func onHangUp(hangUps chan os.Signal, do func()) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangUps:
				do()
			case <-stopped:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangUps)
		close(stopped)
	}
}

// reload reads the configuration again, as the process was started: the same flags, the same
// environment, the file as it is now. What is wrong with it goes to the log, and nothing changes.
func (c *serveCmd) reload(rc *runContext, srv *server.Server, log *slog.Logger, level *slog.LevelVar) {
	var again app
	_, err := parse(rc, &again, rc.Args)
	if err == nil {
		err = srv.Reload(again.Serve.Settings)
	}
	if err != nil {
		log.Error("the configuration was read again and can't be taken: nothing has changed", "error", err)
		return
	}
	level.Set(levelOf(again.Serve.Settings.LogLevel))
	log.Info("the configuration was read again")
}

// levelOf is --log-level's, which has passed its check.
func levelOf(text string) (level slog.Level) {
	if err := level.UnmarshalText([]byte(text)); err != nil {
		panic("penstock: --log-level passed its check: " + err.Error())
	}
	return level
}

// newLogger makes the logger of --log-format and --log-level.
func newLogger(w io.Writer, text bool, least slog.Leveler) *slog.Logger {
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
