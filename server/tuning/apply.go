package tuning

// Setting what can be set: the kernel's settings, by way of /proc/sys. Only when told to. Any
// goroutine, one at a time.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A Change is a setting that Apply has made, or tried to.
type Change struct {
	Key   string `json:"key"`
	Was   string `json:"was"`
	Value string `json:"value"`
	Error string `json:"error,omitempty"`
}

// String is a line for people.
func (c Change) String() string {
	if c.Error != "" {
		return fmt.Sprintf("not set: %s = %s: %s", c.Key, c.Value, c.Error)
	}
	return fmt.Sprintf("set: %s = %s (was %s)", c.Key, c.Value, c.Was)
}

// Apply sets what a report says has to change (fails and slows, no advice), as long as the machine
// is up. It answers what it did, and what it could not and why.
func Apply(m *Machine, r Report) (changes []Change) {
	for _, f := range r.Worst(Slows) {
		for _, s := range f.Sysctl {
			changes = append(changes, m.set(s))
		}
	}
	return changes
}

func (m *Machine) set(s Sysctl) Change {
	path := filepath.Join("proc/sys", strings.ReplaceAll(s.Key, ".", "/"))
	c := Change{Key: s.Key, Value: s.Value}
	c.Was, _ = m.text(path)
	c.Was = strings.Join(strings.Fields(c.Was), " ")
	err := write(filepath.Join(m.root, path), s.Value)
	var because string
	switch {
	case err == nil:
		got, _ := m.text(path)
		if got = strings.Join(strings.Fields(got), " "); got != s.Value {
			because = "the kernel made " + got + " of it"
		}
	case errors.Is(err, fs.ErrPermission):
		because = "not allowed; it takes root, on the host for all but net.*"
	case errors.Is(err, syscall.EROFS):
		because = "read-only here; set it on the host, or with docker run --sysctl or the pod's securityContext.sysctls"
	case errors.Is(err, syscall.EINVAL):
		because = "the kernel refuses this value"
	default:
		because = err.Error()
	}
	c.Error = because
	return c
}

// write writes to a file that exists.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}
