// Command penstock is the server, and what one needs beside it on a command line.
//
// Here: the command line itself (kong's one door), what every command is given, and how an
// error becomes an exit code. A file each for the commands. Everything here runs on the main
// goroutine; serve starts the rest.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// app is the command line: each command is a struct with a Run method, in the file of its name.
type app struct {
	Serve     serveCmd     `cmd:"" help:"Serve streams and publishers until SIGTERM or SIGINT; then drain and exit with 0."`
	Publish   publishCmd   `cmd:"" help:"Publish events from the command line, a file or a pipe to a server."`
	Subscribe subscribeCmd `cmd:"" help:"Write a server's events, or any event stream, to standard output; come back and resume by itself."`
	Loadtest  loadtestCmd  `cmd:"" help:"Hold thousands of streams of any SSE server, publish, and report what arrived, when, and what did not."`
	Part      partCmd      `cmd:"" name:"loadtest-part" hidden:""`
	Tune      tuneCmd      `cmd:"" help:"Say what of this machine is too small for so many streams, why, and how to set it."`
	Version   versionCmd   `cmd:"" help:"Print the version, the commit and the Go release it was built with."`
	Health    healthCmd    `cmd:"" help:"Ask a running server whether it is well: exit code 0 or 1. Made for the health check of an image without a shell."`
}

// A runContext is what a command is given: its streams, and a context that ends at the first
// SIGINT or SIGTERM. A second signal ends the process at once, as if nobody listened.
type runContext struct {
	Ctx    context.Context
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Args   []string // as they were given
}

// Exit codes. Scripts and units may rely on them.
const (
	exitOK    = 0
	exitError = 1 // it was asked for the right thing and could not do it; stderr says why
	exitUsage = 2 // wrong usage or configuration; stderr names the flag and what it allows

	exitSignal = 128 // and the signal's number: the second signal, which ends at once
)

// A usageError is an error of whoever typed the command: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef makes an error that ends the process with exit code 2.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		// The default disposition would do for the second one, but not where the process is the
		// first of a container: there the kernel throws such signals away.
		second := <-signals
		os.Exit(exitSignal + int(second.(syscall.Signal)))
	}()
	os.Exit(run(&runContext{Ctx: ctx, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
}

// run parses the arguments, runs the command they name and answers the exit code.
func run(rc *runContext, args []string) (code int) {
	// kong exits by itself after --help; as a panic that ends here, tests can ask for help too.
	defer func() {
		switch r := recover().(type) {
		case nil:
		case kongExit:
			code = int(r)
		default:
			panic(r)
		}
	}()
	err := parseAndRun(rc, args)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(rc.Stderr, "penstock: %v\n", err)
	if _, ok := errors.AsType[*kong.ParseError](err); ok {
		fmt.Fprintln(rc.Stderr, "penstock --help lists the commands, penstock COMMAND --help what each takes")
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if code, ok := errors.AsType[exitCodeError](err); ok {
		return code.ExitCode()
	}
	return exitError
}

// A kongExit is the exit code that kong wants at once.
type kongExit int

func parseAndRun(rc *runContext, args []string) error {
	var a app
	rc.Args = args
	parsed, err := parse(rc, &a, args)
	if err != nil {
		return err
	}
	return parsed.Run(rc)
}

// parse reads arguments, the environment and the file of --config into a.
func parse(rc *runContext, a *app, args []string) (*kong.Context, error) {
	file := &configFile{}
	parser, err := kong.New(a, append(flagOptions(),
		kong.Name("penstock"),
		kong.Description("Penstock is a Server-Sent Events server: few publishers, many topics, hundreds of thousands of subscribers."),
		kong.Writers(rc.Stdout, rc.Stderr),
		kong.Exit(func(code int) { panic(kongExit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true, Compact: true, WrapUpperBound: 100}),
		kong.WithBeforeResolve(file.open),
		kong.Resolvers(file),
	)...)
	if err != nil {
		panic("penstock: command line: " + err.Error()) // a struct tag of ours is wrong
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case len(args) == 1 && args[0] == "--version": // as most programs are asked
		args = []string{"version"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return nil, usageError{err}
	}
	return parsed, nil
}
