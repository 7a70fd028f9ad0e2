package accept

// Unix sockets: the file that they are found by, also when a process has left one behind. The
// caller of Listen; remove also the accept thread.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// pathMost is the longest path of a unix socket, in bytes: sun_path ends with a NUL.
const pathMost = len(unix.RawSockaddrUnix{}.Path) - 1

// A socketFile is the file of a unix socket that is listened on: the one that was made then, not
// any that has taken its name since.
type socketFile struct {
	path     string
	dev, ino uint64
}

// CheckUnixPath tells what is wrong with the path of a unix socket. It looks at no file. Any
// goroutine.
func CheckUnixPath(path string) error {
	switch {
	case path == "":
		return errors.New("no path; unix:/run/penstock.sock has one")
	case path[0] == '@':
		return errors.New("a path that begins with @ is an abstract socket's, which has no permissions; unix:/run/penstock.sock has a file")
	case len(path) > pathMost:
		return fmt.Errorf("a path of %d bytes; a unix socket's has at most %d", len(path), pathMost)
	}
	return nil
}

// listenUnix listens on a unix socket. A file of a socket that nobody listens on any more makes
// place; any other file is an error. Nothing of what is set on TCP's listening sockets is there
// for these, and what is not would not be inherited.
func listenUnix(path string, o *Options) (door, net.Addr, error) {
	none := door{fd: -1}
	if err := CheckUnixPath(path); err != nil {
		return none, nil, err
	}
	if err := removeStale(path); err != nil {
		return none, nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|newSocket, 0)
	if err != nil {
		return none, nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return none, nil, os.NewSyscallError("bind", err)
	}
	d := door{fd: fd, file: &socketFile{path: path}}
	fail := func(err error) (door, net.Addr, error) {
		d.file.remove()
		unix.Close(fd)
		return none, nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fail(os.NewSyscallError("lstat", err))
	}
	d.file.dev, d.file.ino = st.Dev, st.Ino
	// Before listen, which is what lets anybody connect.
	if err := os.Chmod(path, o.SocketMode); err != nil {
		return fail(err)
	}
	if err := unix.Listen(fd, o.Backlog); err != nil {
		return fail(os.NewSyscallError("listen", err))
	}
	return d, &net.UnixAddr{Name: path, Net: "unix"}, nil
}

// removeStale removes the file of a socket that nobody listens on: connecting tells.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return errors.New("there is a file that is no socket, which is left alone")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|newSocket, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case err == syscall.ECONNREFUSED:
		return os.Remove(path)
	case err == nil || err == syscall.EAGAIN:
		return fmt.Errorf("somebody listens there: %w", syscall.EADDRINUSE)
	default:
		return os.NewSyscallError("connect", err)
	}
}

// remove removes the file, where it is still the one that was made. nil has none.
func (f *socketFile) remove() {
	if f == nil {
		return
	}
	var st unix.Stat_t
	if unix.Lstat(f.path, &st) == nil && st.Dev == f.dev && st.Ino == f.ino {
		_ = os.Remove(f.path)
	}
}
