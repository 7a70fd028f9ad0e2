package main

// The version command.

import (
	"fmt"

	"penstock/server"
)

type versionCmd struct{}

// Run prints one line: version, commit where the build knows it, Go release and platform.
func (c *versionCmd) Run(rc *runContext) error {
	_, err := fmt.Fprintln(rc.Stdout, "penstock", server.BuildInfo())
	return err
}
