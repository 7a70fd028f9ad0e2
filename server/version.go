package server

// Which build this is. Any goroutine.

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// version is set by the linker (make build): git's description of the commit.
var version string

// Version returns the version of this build: what the linker was told, else the module's
// version, else "devel". Any goroutine.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// BuildInfo returns one line for people: version, commit where the build knows it, Go release and
// platform. Any goroutine.
func BuildInfo() string { return buildInfo() }

var buildInfo = sync.OnceValue(func() string {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				commit = ", commit " + s.Value[:12] + commit
			case s.Key == "vcs.modified" && s.Value == "true":
				commit += " and changes"
			}
		}
	}
	return fmt.Sprintf("%s%s (%s %s/%s)", Version(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
})
