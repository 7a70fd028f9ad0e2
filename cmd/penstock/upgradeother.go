package main

// serve --upgrade: tells the server that listens on --listen to hand over, and waits until it has.
// It finds it by the kernel's table of sockets, so that no file with a process's number is needed.
// The main goroutine.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// upgradeOther sends SIGUSR2 to the server of the settings' first address and waits for the process
// that takes its place.
func (c *serveCmd) upgradeOther(rc *runContext) error {
	address := c.Settings.Listen[0]
	sockets, err := listening(address)
	if err != nil {
		return err
	}
	old, err := holder(sockets, 0)
	if err != nil {
		return fmt.Errorf("upgrade of the server at %s: %w", address, err)
	}
	if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("upgrade of the server at %s: process %d: %w", address, old, err)
	}
	// Two phases, each of which may take its time, and the time to say so.
	late := time.After(2*c.Settings.UpgradeTimeout + 5*time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-rc.Ctx.Done():
			return context.Cause(rc.Ctx)
		case <-late:
			return fmt.Errorf("upgrade of the server at %s: process %d has not handed over; its log says why, and it goes on", address, old)
		case <-again.C:
		}
		// While both have it, the new one may still fail.
		if _, err := holderOnly(sockets, old); err == nil {
			continue
		}
		if now, err := holder(sockets, old); err == nil {
			fmt.Fprintf(rc.Stdout, "process %d has handed over to process %d\n", old, now)
			return nil
		}
		return fmt.Errorf("upgrade of the server at %s: process %d has ended, and nobody has taken over", address, old)
	}
}

// listening returns the inodes of the sockets that listen on an address.
func listening(address string) (inodes []string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return lookInto("/proc/net/unix", func(f []string) (string, bool) {
			return at(f, 6), at(f, 7) == path && at(f, 5) == "01" && at(f, 3) == "00010000"
		})
	}
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", address, err)
	}
	if tcp.Port == 0 {
		return nil, usagef("--upgrade finds the server by --listen, which has the port %s: any", address)
	}
	port := fmt.Sprintf(":%04X", tcp.Port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		some, err := lookInto(table, func(f []string) (string, bool) {
			return at(f, 9), strings.HasSuffix(at(f, 1), port) && at(f, 3) == "0A"
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		inodes = append(inodes, some...)
	}
	return inodes, nil
}

func at(fields []string, i int) string {
	if i < len(fields) {
		return fields[i]
	}
	return ""
}

// lookInto picks inodes from a table of sockets.
func lookInto(table string, pick func(fields []string) (inode string, ok bool)) (inodes []string, err error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if inode, ok := pick(strings.Fields(lines.Text())); ok {
			inodes = append(inodes, inode)
		}
	}
	return inodes, nil
}

var errNobody = errors.New("no process of this user's listens there")

// holder returns the process that has one of the sockets, another one than that.
func holder(inodes []string, but int) (pid int, err error) {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if n, _ := strconv.Atoi(strings.Split(file, "/")[2]); n != but && has(file, inodes) {
			return n, nil
		}
	}
	return 0, errNobody
}

// holderOnly returns the process, if it has one of the sockets.
func holderOnly(inodes []string, pid int) (int, error) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, file := range files {
		if has(file, inodes) {
			return pid, nil
		}
	}
	return 0, errNobody
}

func has(file string, inodes []string) bool {
	target, err := os.Readlink(file)
	inode, ok := strings.CutPrefix(target, "socket:[")
	return err == nil && ok && slices.Contains(inodes, strings.TrimSuffix(inode, "]"))
}
