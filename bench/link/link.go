package main

// A link: two network namespaces, and between them a wire that takes its time and loses packets.
// Where the kernel has no netem, or nobody may load it, a pair of TUN devices and two goroutines do.
// Linux, root. Everything is gone when the process ends.

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A space is a network namespace: a thread that is in it, and does there what it is told.
type space struct{ do chan func() }

// newSpace makes a namespace with its loopback up.
func newSpace() (*space, error) {
	s := &space{make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread is not fit for anything else any more
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range s.do {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("a network namespace of its own (it takes root): %w", err)
	}
	return s, s.run(func() error { return up("lo", "127.0.0.1") })
}

// run does f in the namespace: what it opens there stays there.
func (s *space) run(f func() error) (err error) {
	done := make(chan struct{})
	s.do <- func() { err = f(); close(done) }
	<-done
	return err
}

// up gives a device an address, in a network of 256, and starts it.
func up(device, address string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(what uint, change func(*unix.Ifreq) error) {
		r, e := unix.NewIfreq(device)
		if e == nil {
			e = change(r)
		}
		if e == nil {
			e = unix.IoctlIfreq(fd, what, r)
		}
		if e != nil && err == nil {
			err = fmt.Errorf("%s %s: %w", device, address, e)
		}
	}
	ip := [4]byte{}
	fmt.Sscanf(address, "%d.%d.%d.%d", &ip[0], &ip[1], &ip[2], &ip[3])
	set(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) })
	set(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) })
	set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	return err
}

// A wire is what a link's packets go through, in both directions alike.
type wire struct {
	delay time.Duration // of a packet
	loss  float64       // of 1
	rate  float64       // bytes a second; 0 for no bound
	queue time.Duration // how long a packet may wait for its turn; longer, and it is lost

	down    atomic.Bool   // all are lost
	packets atomic.Uint64 // from the server
}

// addresses of a link's ends.
const (
	serverIP = "10.9.0.1"
	clientIP = "10.9.0.2"
)

// join puts a wire between the server's namespace and the clients'. Its descriptors are open as
// long as the process runs.
func (w *wire) join(server, clients *space) error {
	var ends [2]*os.File
	for i, s := range []*space{server, clients} {
		err := s.run(func() (err error) {
			if ends[i], err = tun(); err != nil {
				return err
			}
			return up("wire", []string{serverIP, clientIP}[i])
		})
		if err != nil {
			return err
		}
	}
	go w.carry(ends[0], ends[1], &w.packets)
	go w.carry(ends[1], ends[0], new(atomic.Uint64))
	return nil
}

// tun makes a device in the thread's namespace whose packets are read from and written to a file.
func tun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	r, err := unix.NewIfreq("wire")
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "wire"), nil
}

// carry takes packets from one end to the other.
func (w *wire) carry(from, to *os.File, count *atomic.Uint64) {
	type packet struct {
		bytes []byte
		at    time.Time
	}
	way := make(chan packet, 1<<16)
	go func() {
		for p := range way {
			time.Sleep(time.Until(p.at))
			if !w.down.Load() {
				_, _ = to.Write(p.bytes)
			}
		}
	}()
	buf := make([]byte, 64<<10)
	var free time.Time // when the wire has sent what was given to it
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		count.Add(1)
		now := time.Now()
		free = later(free, now)
		if w.down.Load() || rand.Float64() < w.loss || w.rate > 0 && free.Sub(now) > w.queue {
			continue
		}
		if w.rate > 0 {
			free = free.Add(time.Duration(float64(n) / w.rate * float64(time.Second)))
		}
		way <- packet{append([]byte(nil), buf[:n]...), free.Add(w.delay)}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sysctl sets one of the thread's namespace.
func sysctl(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }
