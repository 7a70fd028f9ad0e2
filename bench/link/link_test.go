package main

import (
	"net"
	"os"
	"testing"
	"time"
)

// A wire takes its time in both directions, and a broken one lets nothing through. It takes root.
func TestWireTakesItsTimeAndBreaks(t *testing.T) {
	server, err := newSpace()
	if err != nil {
		t.Skip(err)
	}
	clients, err := newSpace()
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip(err)
	}
	w := &wire{delay: 20 * ms, rate: 1e6, queue: time.Second}
	if err := w.join(server, clients); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := server.run(func() (err error) { l, err = net.Listen("tcp4", serverIP+":8080"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	p, err := dial(clients, serverIP+":8080")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*w.delay {
		t.Errorf("connected after %s, faster than the wire", took)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began = time.Now()
	go func() { _, _ = c.Write(make([]byte, 200_000)) }()
	buf := make([]byte, 200_000)
	for n := 0; n < len(buf); {
		m, err := p.Read(buf[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if took := time.Since(began); took < 180*ms {
		t.Errorf("200 kB after %s, over a wire of 1 MB/s", took)
	}
	w.down.Store(true)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = p.SetReadDeadline(time.Now().Add(200 * ms))
	if n, err := p.Read(buf); err == nil {
		t.Errorf("%d bytes over a broken wire", n)
	}
	p.Close()
}
