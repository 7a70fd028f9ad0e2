package accept_test

import (
	"bufio"
	"fmt"
	"net"

	"penstock/server/accept"
	"penstock/server/fanout"

	"github.com/valyala/fasthttp"
)

// greeter is a Handler without streams.
type greeter struct{}

func (greeter) Short(dst []byte, h *fasthttp.RequestHeader, _ accept.From) (*fanout.Subscription, []byte, bool) {
	return nil, dst, true // everything goes the long way
}

func (greeter) Serve(ctx *fasthttp.RequestCtx) { fmt.Fprintf(ctx, "hello %s\n", ctx.PostBody()) }

func (greeter) Quick(*fasthttp.RequestCtx) accept.Quickness { return accept.NotQuick }

func (greeter) Error(dst []byte, _ *fasthttp.RequestHeader, status int, text string) []byte {
	return fmt.Appendf(dst, "HTTP/1.1 %d Error\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
}

func (greeter) Admit([]byte, *fasthttp.RequestHeader, int64, accept.From) ([]byte, int64) {
	return nil, 1000
}

func (g greeter) Busy(dst []byte, _ *fasthttp.RequestHeader, _ accept.From, _ accept.Full) []byte {
	return g.Error(dst, nil, 503, "come back later\n")
}

func (greeter) Room([]byte) accept.Room { return accept.Shared }

// An Acceptor serves an address until it is closed.
func ExampleListen() {
	a, err := accept.Listen(accept.Options{Listen: []string{"127.0.0.1:0"}, Handler: greeter{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()

	c, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nworld",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nworld",
	} {
		fmt.Fprint(c, request)
	}
	r := bufio.NewReader(c)
	for range 2 {
		var resp fasthttp.Response
		if err := resp.Read(r); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %s\n", resp.StatusCode(), resp.Body())
	}
	// Output:
	// 200 hello world
	//
	// 400 byte 0x2b in Content-Length; it takes digits
}
