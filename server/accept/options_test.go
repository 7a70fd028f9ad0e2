package accept

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is set on the listening socket is what each stream's socket has, without a call for it.
func TestStreamsInheritWhatTheListenerHas(t *testing.T) {
	stream := func(t *testing.T, o Sockets) (fd, listener int) {
		s := start(t, func(all *Options) { all.Sockets = o })
		c := s.dial(t)
		c.send(get + "\r\n")
		c.stream("a.b")
		s.shards.mu.Lock()
		defer s.shards.mu.Unlock()
		return s.shards.fds[0], s.doors[0].fd
	}
	for _, c := range []struct {
		flag        string
		o           Sockets
		level, name int
		want        func(int) bool
		off         func(int) bool // without it
	}{
		{"nodelay", Sockets{NoDelay: true}, unix.IPPROTO_TCP, unix.TCP_NODELAY, is(1), is(0)},
		{"user-timeout", Sockets{UserTimeout: 7 * time.Second}, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, is(7000), is(0)},
		{"keepalive", Sockets{KeepAlive: 9 * time.Second}, unix.SOL_SOCKET, unix.SO_KEEPALIVE, is(1), is(0)},
		{"keepalive, first", Sockets{KeepAlive: 9 * time.Second}, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, is(9), not(9)},
		{"keepalive, again", Sockets{KeepAlive: 9 * time.Second}, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, is(9), not(9)},
		{"notsent-lowat", Sockets{NotSent: 12345}, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, is(12345), not(12345)},
		{"send-buffer", Sockets{SendBuffer: 20_000}, unix.SOL_SOCKET, unix.SO_SNDBUF, is(40_000), not(40_000)},
		{"recv-buffer", Sockets{RecvBuffer: 20_000}, unix.SOL_SOCKET, unix.SO_RCVBUF, is(40_000), not(40_000)},
	} {
		fd, _ := stream(t, c.o)
		if has, err := unix.GetsockoptInt(fd, c.level, c.name); err != nil || !c.want(has) {
			t.Errorf("%s: the stream's socket has %d, %v", c.flag, has, err)
		}
		fd, _ = stream(t, Sockets{})
		if has, err := unix.GetsockoptInt(fd, c.level, c.name); err != nil || !c.off(has) {
			t.Errorf("without %s: the stream's socket has %d, %v", c.flag, has, err)
		}
	}

	// This one is the listening socket's own matter. The kernel counts in packets, and rounds.
	for after, want := range map[time.Duration]func(int) bool{0: is(0), time.Second: is(1), 7 * time.Second: func(n int) bool { return n >= 7 && n < 20 }} {
		_, listener := stream(t, Sockets{DeferAccept: after})
		if has, err := unix.GetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT); err != nil || !want(has) {
			t.Errorf("defer-accept %s: the listening socket has %d, %v", after, has, err)
		}
	}
	for _, name := range strings.Fields(read("/proc/sys/net/ipv4/tcp_allowed_congestion_control")) {
		fd, _ := stream(t, Sockets{Congestion: name})
		if has, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil || strings.TrimRight(has, "\x00") != name {
			t.Errorf("congestion: the stream's socket has %q, %v, want %q", has, err, name)
		}
	}
}

func is(want int) func(int) bool  { return func(has int) bool { return has == want } }
func not(want int) func(int) bool { return func(has int) bool { return has != want } }

// onThread runs f on a thread of its own, which is thrown away: whatever f did to it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked
		f()
	}()
	<-done
}

// Where servers may take data with the first packet, the listening socket does; where they may not,
// it is said at the start. It takes root, for a network namespace whose sysctl may be changed.
func TestFastOpenFollowsTheSysctl(t *testing.T) {
	const path = "/proc/sys/net/ipv4/tcp_fastopen"
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Logf("skipped: no network namespace: %v", err)
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		o := Sockets{FastOpen: 10}
		for flags, taken := range map[string]bool{"0": false, "1": false, "2": true, "3": true} {
			if err := os.WriteFile(path, []byte(flags), 0); err != nil {
				t.Logf("skipped: %v", err)
				return
			}
			err := o.set(fd)
			if taken != (err == nil) || err != nil && !strings.HasSuffix(err.Error(), "it is "+flags) {
				t.Errorf("%s=%s: %v", path, flags, err)
			}
			if has, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN); taken && has != 10 {
				t.Errorf("%s=%s: the socket has %d", path, flags, has)
			}
		}
	})
}

// What the kernel does not take ends the start, with the flag, its value, and the sysctl or the
// capability that would do.
func TestRefusedOptionSaysWhatWouldDo(t *testing.T) {
	refused := map[string]Sockets{
		`--congestion none-such: no such file or directory; net.ipv4.tcp_available_congestion_control is `: {Congestion: "none-such"},
	}
	if flags := read("/proc/sys/net/ipv4/tcp_fastopen"); flags == "0" || flags == "1" {
		refused["--fastopen 10: the kernel does not take it; a server takes net.ipv4.tcp_fastopen=2, or 3"] = Sockets{FastOpen: 10}
	}
	for want, o := range refused {
		a, err := Listen(Options{Listen: []string{"127.0.0.1:0"}, Handler: newHouse(), Sockets: o})
		var refusal *SocketError
		if err == nil {
			a.Close()
			t.Errorf("%+v: listens", o)
		} else if !errors.As(err, &refusal) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// Buffers over the sysctl's bound are refused, or had with CAP_NET_ADMIN; never less without a word.
func TestBufferIsWhatWasAskedForOrAnError(t *testing.T) {
	const huge = 1 << 30 // over any sysctl that somebody would set
	set := func(o Sockets) (has int, err error) {
		fd, e := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if e != nil {
			t.Fatal(e)
		}
		defer unix.Close(fd)
		err = o.set(fd)
		if o.SendBuffer > 0 {
			has, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		} else {
			has, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		}
		return has, err
	}
	for _, size := range []int{8 << 10, 64 << 10, huge - 1} {
		for _, o := range []Sockets{{SendBuffer: size}, {RecvBuffer: size}} {
			if has, err := set(o); err == nil && has < 2*size {
				t.Errorf("%+v: no error, and it is %d", o, has)
			}
		}
	}
	onThread(func() {
		var all [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &all[0]); err != nil {
			t.Errorf("give all capabilities up: %v", err)
			return
		}
		for want, o := range map[string]Sockets{
			"--send-buffer 1073741823: the kernel does not take it; the most is net.core.wmem_max=": {SendBuffer: huge - 1},
			"--recv-buffer 1073741823: the kernel does not take it; the most is net.core.rmem_max=": {RecvBuffer: huge - 1},
		} {
			if _, err := set(o); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "CAP_NET_ADMIN") {
				t.Errorf("%v; want %s", err, want)
			}
		}
	})
}
