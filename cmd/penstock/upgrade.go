package main

// Upgrades of serve: SIGUSR2 starts the program anew, as the file now is, with the same arguments
// and environment, and hands everything over to it. The server has the substance (server/upgrade.go).

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"penstock/server"
)

// startedAs is the path of the program as it was called, before anybody changes the directory.
var startedAs = func() string {
	if strings.ContainsRune(os.Args[0], '/') {
		if path, err := filepath.Abs(os.Args[0]); err == nil {
			return path
		}
	}
	return os.Args[0]
}()

// newest is the file to start now: links are followed anew, and $PATH is searched anew, so that it
// is what was installed last under the name.
func newest() (string, error) {
	path, err := exec.LookPath(startedAs)
	if err != nil {
		if own, ownErr := os.Executable(); ownErr == nil {
			return own, nil // it was called by another name than its own
		}
	}
	return path, err
}

// open opens a server: one that takes over where this process was started for that. ready is what the
// service manager is told then.
func (c *serveCmd) open(log *slog.Logger) (srv *server.Server, ready string, err error) {
	from, err := server.FromEnvironment()
	if err != nil {
		return nil, "", err
	}
	if from == nil {
		srv, err = server.New(c.Settings, log)
		return srv, daemon.SdNotifyReady, err
	}
	srv, err = server.TakeOver(c.Settings, log, from)
	return srv, fmt.Sprintf("MAINPID=%d\n%s", os.Getpid(), daemon.SdNotifyReady), err
}

// upgradeAt hands over at each signal, until that has come about once, or ctx ends.
func (c *serveCmd) upgradeAt(ctx context.Context, orders <-chan os.Signal, srv *server.Server, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-orders:
		}
		cmd, err := upgrade(ctx, srv, log)
		if err == nil {
			if ctx.Err() != nil {
				_ = cmd.Process.Signal(syscall.SIGTERM) // it came while there were two
			}
			return
		}
		log.Error("the upgrade has failed, and this process goes on", "error", err)
	}
}

func upgrade(ctx context.Context, srv *server.Server, log *slog.Logger) (*exec.Cmd, error) {
	path, err := newest()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	log.Info("upgrading", "program", path)
	return cmd, srv.Upgrade(ctx, cmd, func() { notify(log, fmt.Sprintf("MAINPID=%d", cmd.Process.Pid)) })
}
