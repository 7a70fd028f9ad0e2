// Link measures what flags for sockets do where loopback can't show it: on a wire that takes its
// time, is narrow, loses packets or breaks. It makes the wire itself, of two network namespaces and
// TUN devices, and runs each trial with each choice of flags, one after the other.
//
//	make link                                  # or, as root:
//	go run ./bench/link [-penstock bin/penstock] [-run regexp]
//
// It takes root (CAP_NET_ADMIN and CAP_SYS_ADMIN) and says so where it is not.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"
)

func main() {
	program := flag.String("penstock", "bin/penstock", "the `program` to measure")
	only := flag.String("run", "", "a `regexp` that a trial's name has to match")
	flag.Parse()
	if err := measure(*program, regexp.MustCompile(*only)); err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(1)
	}
}

func measure(program string, only *regexp.Regexp) error {
	for i := range trials {
		t := &trials[i]
		if !only.MatchString(t.name) {
			continue
		}
		fmt.Printf("%s: %s\n", t.name, t.what)
		for _, flags := range t.flags {
			b, err := newBench(program, &t.wire, flags)
			if err != nil {
				return err
			}
			before := b.cpu()
			result, err := t.run(b)
			result += fmt.Sprintf(", server %d ms of CPU", (b.cpu() - before).Milliseconds())
			b.close()
			if err != nil {
				return fmt.Errorf("%s with %q: %w", t.name, flags, err)
			}
			name := fmt.Sprint(flags)
			if len(flags) == 0 {
				name = "[defaults]"
			}
			fmt.Printf("  %-50s %s\n", name, result)
		}
	}
	return nil
}

// A trial is something to be seen on a wire, with several choices of flags.
type trial struct {
	name, what string
	wire       wire
	flags      [][]string
	run        func(*bench) (string, error)
}

const ms = time.Millisecond

var trials = []trial{
	{
		name: "latest", what: "mode=latest, 1 Mbit/s, twice as much published: the age of what arrives",
		wire:  wire{delay: 20 * ms, rate: 125_000, queue: 100 * ms},
		flags: [][]string{{"--notsent-lowat=0"}, {}, {"--notsent-lowat=64KiB"}, {"--notsent-lowat=16KiB"}, {"--notsent-lowat=4KiB"}, {"--send-buffer=64KiB"}, {"--send-buffer=16KiB"}},
		run: func(b *bench) (string, error) {
			c, err := b.subscribe(1, "/events/t?mode=latest")
			if err != nil {
				return "", err
			}
			err = b.publish(125, 2000, 6*time.Second)
			return c.ages(), err
		},
	},
	{
		name: "fat", what: "100 Mbit/s, 100 ms there and back, 40 Mbit/s published: what arrives",
		wire:  wire{delay: 50 * ms, rate: 12_500_000, queue: 100 * ms},
		flags: [][]string{{"--notsent-lowat=0"}, {}, {"--notsent-lowat=16KiB"}, {"--send-buffer=1MiB"}, {"--send-buffer=64KiB"}},
		run: func(b *bench) (string, error) {
			c, err := b.subscribe(1, "/events/t")
			if err != nil {
				return "", err
			}
			err = b.publish(500, 10_000, 5*time.Second)
			return c.ages(), err
		},
	},
	{
		name: "loss", what: "1% lost, 50 Mbit/s, 60 ms there and back, 3 Mbit/s to each of 4: the age of what arrives",
		wire:  wire{delay: 30 * ms, rate: 6_250_000, queue: 100 * ms, loss: 0.01},
		flags: [][]string{{"--congestion=cubic"}, {"--congestion=bbr"}, {"--congestion=cubic"}, {"--congestion=bbr"}, {"--congestion=reno"}},
		run: func(b *bench) (string, error) {
			c, err := b.subscribe(4, "/events/t")
			if err != nil {
				return "", err
			}
			err = b.publish(125, 3000, 6*time.Second)
			return c.ages(), err
		},
	},
	{
		name: "small", what: "100 small events a second, 50 ms there and back",
		wire:  wire{delay: 25 * ms},
		flags: [][]string{{}, {"--nodelay=false"}},
		run: func(b *bench) (string, error) {
			c, err := b.subscribe(4, "/events/t")
			if err != nil {
				return "", err
			}
			before := b.wire.packets.Load()
			err = b.publish(100, 100, 5*time.Second)
			return fmt.Sprintf("%s, %d packets", c.ages(), b.wire.packets.Load()-before), err
		},
	},
	{
		name: "open", what: "from connect to a stream's first byte, 50 ms there and back",
		wire:  wire{delay: 25 * ms},
		flags: [][]string{{}, {"--fastopen=64"}, {"--defer-accept=0s"}, {"--fastopen=64", "--defer-accept=0s"}},
		run:   func(b *bench) (string, error) { return b.open(40) },
	},
	{
		name: "late", what: "1,000 streams whose request comes half a second after they have connected",
		flags: [][]string{{}, {"--defer-accept=0s"}},
		run: func(b *bench) (string, error) {
			var all []*peer
			for range 1000 {
				p, err := dial(b.clients, serverIP+":8080")
				if err != nil {
					return "", err
				}
				all = append(all, p)
			}
			time.Sleep(500 * ms)
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.program.Process.Pid))
			if err != nil {
				return "", err
			}
			for _, p := range all {
				if _, err := p.ask("GET", "/events/t", nil); err != nil {
					return "", err
				}
			}
			return fmt.Sprintf("meanwhile the server had %d descriptors open", len(open)), nil
		},
	},
	{
		name: "dead", what: "the wire breaks under 10 streams: how long until the server has given them up, at most 25 s",
		wire: wire{delay: 5 * ms},
		flags: [][]string{
			{"--heartbeat=5s", "--user-timeout=5s"}, {"--heartbeat=5m", "--user-timeout=5s"}, {"--heartbeat=5m", "--user-timeout=5s", "--keepalive=5s"}, {"--heartbeat=5m", "--keepalive=5s"},
		},
		run: func(b *bench) (string, error) {
			if _, err := b.subscribe(10, "/events/t"); err != nil {
				return "", err
			}
			b.wire.down.Store(true)
			began := time.Now()
			for time.Since(began) < 25*time.Second {
				n, err := b.live()
				if err != nil {
					return "", err
				}
				if n == 0 {
					return fmt.Sprintf("%.1f s", time.Since(began).Seconds()), nil
				}
				time.Sleep(100 * ms)
			}
			return "not in time", nil
		},
	},
	{
		name: "upload", what: "a publish of 8 MB, 100 Mbit/s, 100 ms there and back",
		wire:  wire{delay: 50 * ms, rate: 12_500_000, queue: 100 * ms},
		flags: [][]string{{}, {"--recv-buffer=1MiB"}, {"--recv-buffer=64KiB"}},
		run:   func(b *bench) (string, error) { return b.upload(8 << 20) },
	},
}
