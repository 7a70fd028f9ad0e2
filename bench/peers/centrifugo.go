package peers

// Centrifugo: the user's own binary, its unidirectional SSE endpoint.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"penstock/loadtest"
)

func centrifugo() *Peer {
	return &Peer{
		Name: "centrifugo", About: "Centrifugo: Go, channels with a memory engine, here by its unidirectional SSE",
		Tuning: "anonymous subscriptions, no history, ping every 25 s, no logs; each event is wrapped in its JSON",
		Limit:  "a goroutine and a queue a stream; each event is encoded in its own protocol",
		find:   onPath("centrifugo", "put the binary of https://github.com/centrifugal/centrifugo/releases (version 6) there"),
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			conf := `{
	"http_server": {"address": "127.0.0.1", "port": ` + strconv.Itoa(port) + `},
	"log": {"level": "error"},
	"client": {"allow_anonymous_connect_without_token": true},
	"channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}},
	"http_api": {"insecure": true},
	"uni_sse": {"enabled": true}
}`
			file := filepath.Join(dir, "config.json")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				return nil, err
			}
			return exec.Command(program, "--config", file), nil
		},
		aim: func(c *loadtest.Config, base string) {
			c.URL = base + `/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22{topic}%22%3A%7B%7D%7D%7D`
			c.PublishURL = base + "/api/publish"
			c.PublishBody = `{"channel":"{topic}","data":"{data}"}`
			c.PublishH = []string{"Content-Type: application/json"}
		},
	}
}
