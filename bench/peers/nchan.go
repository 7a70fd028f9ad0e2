package peers

// nchan: nginx with the module of Debian's libnginx-mod-nchan.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"penstock/loadtest"
)

func nchan(name string, workers int) *Peer {
	return &Peer{
		Name: name, About: fmt.Sprintf("nginx %d worker(s), channels in shared memory", workers),
		Tuning: "worker_processes, worker_connections, multi_accept, shared memory 1 GB, message buffers of 20,000 so that bursts are not lost, keepalive_requests without end, no logs",
		Limit:  "a write for each event and stream; with several workers each event goes through shared memory and a socket to every worker",
		find: func(*Options) (string, error) {
			p, err := exec.LookPath("nginx")
			if err != nil {
				if p, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
					return "", errors.New("nginx is not on PATH: on Debian, apt install nginx libnginx-mod-nchan")
				}
			}
			if _, err := nchanModule(); err != nil {
				return "", err
			}
			return p, nil
		},
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			module, err := nchanModule()
			if err != nil {
				return nil, err
			}
			user := ""
			if os.Getuid() == 0 {
				user = "user root;"
			}
			var lim syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
				return nil, err
			}
			conf := fmt.Sprintf(`daemon off; pid nginx.pid; error_log stderr error; load_module %s; %s
worker_processes %d; worker_rlimit_nofile %d;
events { worker_connections %d; multi_accept on; use epoll; }
http {
	access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
	client_body_buffer_size 64k; client_max_body_size 16m;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	nchan_shared_memory_size 1024m;
	server {
		listen 127.0.0.1:%d backlog=4096;
		location ~ ^/pub/(.+)$ {
			nchan_publisher; nchan_channel_id $1;
			nchan_message_buffer_length 20000; nchan_message_timeout 60s;
		}
		location ~ ^/sub/(.+)$ {
			nchan_subscriber eventsource; nchan_channel_id $1; nchan_channel_id_split_delimiter ",";
			nchan_subscriber_first_message newest;
		}
	}
}
`, module, user, workers, lim.Max, min(lim.Max, 65536), port)
			file := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
				return nil, err
			}
			return exec.Command(program, "-p", dir, "-c", file), nil
		},
		aim: func(c *loadtest.Config, base string) {
			c.URL = base + "/sub/{topic}"
			c.PublishURL = base + "/pub/{topic}"
		},
	}
}

// nchanModule finds the module.
func nchanModule() (string, error) {
	for _, pattern := range []string{"/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/lib*/nginx/modules/ngx_nchan_module.so", "/usr/share/nginx/modules/ngx_nchan_module.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("nginx has no nchan module: on Debian, apt install libnginx-mod-nchan")
}
