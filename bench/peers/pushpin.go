package peers

// Pushpin: Debian's package, before a backend of ours that holds each request as a stream.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"penstock/loadtest"
)

// pushpinOrigin is the backend that Pushpin asks once for each stream; it listens while Pushpin runs.
type pushpinOrigin struct {
	listener net.Listener
	server   *http.Server
	publish  int       // the port that takes what is published
	zurl     *exec.Cmd // fetches from the backend for versions before 1.38; nil: not needed
	ended    chan error
}

func pushpin() *Peer {
	origin := &pushpinOrigin{}
	return &Peer{
		Name: "pushpin", About: "Pushpin: a proxy that holds streams for a backend (here one that only says which topic)",
		Tuning: "client_maxconn and message rates raised, no logs, one route; zurl, which asks the backend once a stream, is not counted",
		Limit:  "each event passes from its publishing door through its handler to its proxy, process to process",
		find:   onPath("pushpin", "on Debian, apt install pushpin"),
		start:  origin.start,
		aim: func(c *loadtest.Config, base string) {
			c.URL = base + "/{topic}"
			c.PublishURL = "http://127.0.0.1:" + strconv.Itoa(origin.publish) + "/publish/"
			c.PublishBody = `{"items":[{"channel":"{topic}","formats":{"http-stream":{"content":"data: {data}\n\n"}}}]}`
			c.PublishH = []string{"Content-Type: application/json"}
		},
		after: func(port int) (func(), error) {
			return func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				origin.server.Shutdown(ctx)
				if origin.zurl != nil {
					origin.zurl.Process.Kill()
					<-origin.ended
				}
			}, answers(port)
		},
	}
}

// answers waits until a stream gets through: the door listens before the rooms behind it do.
func answers(port int) error {
	client := &http.Client{Timeout: time.Second}
	status := ""
	for range 100 {
		resp, err := client.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			status = resp.Status
		} else {
			status = err.Error()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("no stream gets through: %s", status)
}

func (p *pushpinOrigin) start(o *Options, program, dir string, port int) (*exec.Cmd, error) {
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Grip-Hold", "stream")
		w.Header().Set("Grip-Channel", strings.TrimPrefix(r.URL.Path, "/"))
		fmt.Fprint(w, ":\n\n")
	})}
	go func() {
		if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
			panic("peers: pushpin's backend: " + err.Error())
		}
	}()
	if p.publish, err = freePort(); err != nil {
		return nil, err
	}
	routes := filepath.Join(dir, "routes")
	if err := os.WriteFile(routes, []byte("* "+p.listener.Addr().String()+"\n"), 0o644); err != nil {
		return nil, err
	}
	fetch, err := p.startZurl(dir)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`[global]
include={libdir}/internal.conf
rundir=%s
ipc_prefix=bench-
port_offset=0
stats_connection_ttl=120

[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:%d
logdir=%s
log_level=0
client_buffer_size=8192
client_maxconn=50000

[proxy]
routesfile=%s
%saccept_x_forwarded_protocol=false
set_x_forwarded_protocol=proto-only
x_forwarded_for=
x_forwarded_for_trusted=
orig_headers_need_mark=
accept_pushpin_route=false
cdn_loop=
log_from=false
log_user_agent=false
sig_iss=pushpin
sig_key=changeme
upstream_key=
sockjs_url=
updates_check=off

[handler]
push_in_spec=ipc://{rundir}/{ipc_prefix}push
push_in_sub_specs=ipc://{rundir}/{ipc_prefix}sub
command_spec=ipc://{rundir}/{ipc_prefix}command
push_in_http_addr=127.0.0.1
push_in_http_port=%d
ipc_file_mode=777
message_rate=100000
message_hwm=100000
message_block_size=
message_wait=5000
id_cache_ttl=60
connection_subscription_max=20
subscription_linger=60
stats_connection_send=false
`, dir, port, dir, routes, fetch, p.publish)
	file := filepath.Join(dir, "pushpin.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return exec.Command(program, "--config="+file), nil
}

// startZurl starts the program that asks the backend, and answers the settings that point to it.
// Debian's shares one with other programs, which may not ask loopback addresses.
func (p *pushpinOrigin) startZurl(dir string) (settings string, err error) {
	program, err := exec.LookPath("zurl")
	if err != nil {
		return "", nil // a version that asks by itself
	}
	at := "ipc://" + dir + "/zurl-"
	conf := fmt.Sprintf(`[General]
in_spec=%[1]sin
in_stream_spec=%[1]sin-stream
out_spec=%[1]sout
in_req_spec=
defpolicy=allow
allow=
deny=
max_open_requests=2000
buffer_size=200000
timeout=600
in_hwm=1000
out_hwm=1000
`, at)
	file := filepath.Join(dir, "zurl.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return "", err
	}
	p.zurl = exec.Command(program, "--config="+file)
	if p.ended, err = tied(p.zurl); err != nil {
		return "", fmt.Errorf("start zurl: %w", err)
	}
	return "zurl_out_specs=" + at + "in\nzurl_out_stream_specs=" + at + "in-stream\nzurl_in_specs=" + at + "out\n", nil
}
