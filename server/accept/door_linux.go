package accept

// Listening sockets: how they are opened, watched and closed. Before the accept thread runs, the
// caller of Listen; then the accept thread.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MostListeners is how many addresses one Acceptor serves at most.
const MostListeners = 64

// A door is a listening socket.
type door struct {
	fd   int
	file *socketFile // of a unix socket; nil for TCP
}

// listen opens all addresses; with an error some may be open.
func (a *Acceptor) listen() error {
	for _, address := range a.o.Listen {
		var d door
		var addr net.Addr
		var err error
		if given, ok := a.o.given(address); ok {
			d, addr, err = takeOver(given, &a.o)
		} else if path, ok := UnixPath(address); ok {
			d, addr, err = listenUnix(path, &a.o)
		} else {
			d.fd, addr, err = listenTCP(address, &a.o)
		}
		if refused := (*SocketError)(nil); errors.As(err, &refused) {
			return refused // whatever the address
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w; --listen takes host:port, port 0 for any free one, or unix:PATH", address, err)
		}
		a.doors, a.addrs = append(a.doors, d), append(a.addrs, addr)
	}
	return nil
}

// given takes the listening socket for an address that another process has handed over.
func (o *Options) given(address string) (fd int32, ok bool) {
	for i := range o.Doors {
		if d := &o.Doors[i]; d.Address == address && d.FD >= 0 {
			fd, d.FD = d.FD, -1
			return fd, true
		}
	}
	return -1, false
}

// takeOver goes on listening on a socket that another process has opened, with the options of
// this one.
func takeOver(given int32, o *Options) (d door, addr net.Addr, err error) {
	d.fd = int(given)
	defer func() {
		if err != nil {
			unix.Close(d.fd)
		}
	}()
	bound, err := unix.Getsockname(d.fd)
	if err != nil {
		return d, nil, os.NewSyscallError("getsockname", err)
	}
	if b, ok := bound.(*unix.SockaddrUnix); ok {
		d.file = &socketFile{path: b.Name}
		var st unix.Stat_t
		if err := unix.Lstat(b.Name, &st); err != nil {
			return d, nil, os.NewSyscallError("lstat", err)
		}
		d.file.dev, d.file.ino = st.Dev, st.Ino
		return d, &net.UnixAddr{Name: b.Name, Net: "unix"}, nil
	}
	if err := o.Sockets.set(d.fd); err != nil {
		return d, nil, err
	}
	return d, tcpAddr(bound, ""), nil
}

// UnixPath returns the path of an address that names a unix socket: unix:PATH. Any goroutine.
func UnixPath(address string) (path string, ok bool) { return strings.CutPrefix(address, "unix:") }

// watchDoors puts the listening sockets into the epoll set; those that are in it stay.
func (a *Acceptor) watchDoors() syscall.Errno {
	for i := range a.doors {
		if errno := a.set.add(int32(a.doors[i].fd), unix.EPOLLIN, doorEvent-int32(i)); errno != 0 && errno != syscall.EEXIST {
			return errno
		}
	}
	return 0
}

// closeDoors closes the listening sockets, which takes them out of the epoll set.
func (a *Acceptor) closeDoors() {
	for i := range a.doors {
		// The file first: whoever finds none is told so at once.
		a.doors[i].file.remove()
		unix.Close(a.doors[i].fd)
	}
	a.doors = nil
}

func listenTCP(address string, o *Options) (int, net.Addr, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return -1, nil, err
	}
	family := unix.AF_INET6
	if at.IP.To4() != nil {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|newSocket, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) && at.IP == nil {
		// Every address of this machine, which has no IPv6.
		family = unix.AF_INET
		fd, err = unix.Socket(family, unix.SOCK_STREAM|newSocket, 0)
	}
	if err != nil {
		return -1, nil, os.NewSyscallError("socket", err)
	}
	addr, err := bind(fd, family, at, o)
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, addr, nil
}

// bind makes fd a listening socket at an address. What is set on it, the accepted sockets inherit.
func bind(fd, family int, at *net.TCPAddr, o *Options) (*net.TCPAddr, error) {
	if err := o.Sockets.set(fd); err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 && at.IP == nil {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(at, family)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, o.Backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	return tcpAddr(bound, at.Zone), nil
}

// tcpAddr is the address that a socket is bound to.
func tcpAddr(bound unix.Sockaddr, zone string) *net.TCPAddr {
	var ip netip.Addr
	var port int
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		ip, port = netip.AddrFrom4(b.Addr), b.Port
	case *unix.SockaddrInet6:
		ip, port = netip.AddrFrom16(b.Addr).WithZone(zone), b.Port
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port)))
}

func sockaddr(at *net.TCPAddr, family int) unix.Sockaddr {
	if family == unix.AF_INET {
		to := &unix.SockaddrInet4{Port: at.Port}
		copy(to.Addr[:], at.IP.To4())
		return to
	}
	to := &unix.SockaddrInet6{Port: at.Port}
	copy(to.Addr[:], at.IP.To16())
	if i, err := net.InterfaceByName(at.Zone); err == nil {
		to.ZoneId = uint32(i.Index)
	}
	return to
}
