package main

// Bare fasthttp over netpoll: the floor for publishing over that connection layer.

import (
	"context"
	"io"
	"net"
	"sync/atomic"

	"github.com/cloudwego/netpoll"
	"github.com/valyala/fasthttp"
)

func serveBareNetpoll(l net.Listener) error {
	state := func(c net.Conn, s fasthttp.ConnState) { c.(*request).idle.Store(s == fasthttp.StateIdle) }
	s := &fasthttp.Server{Handler: bare, ConnState: state, NoDefaultDate: false}
	loop, err := netpoll.NewEventLoop(func(ctx context.Context, c netpoll.Connection) error {
		// Between two requests no goroutine waits: the Read that would do so says EOF.
		r := &request{Connection: c}
		err := s.ServeConn(r)
		if err == io.EOF {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	nl, err := netpoll.ConvertListener(l)
	if err != nil {
		return err
	}
	return loop.Serve(nl)
}

// A request is a connection for as long as it has requests in hand.
type request struct {
	netpoll.Connection
	idle atomic.Bool
}

func (r *request) Read(b []byte) (int, error) {
	if r.idle.Load() && r.Connection.Reader().Len() == 0 {
		return 0, io.EOF
	}
	return r.Connection.Read(b)
}

// Close leaves the connection to netpoll: it is kept alive.
func (r *request) Close() error { return nil }
