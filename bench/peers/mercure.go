package peers

// Mercure: the user's own binary, the open source hub with its Bolt-less local transport.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"penstock/loadtest"
)

// mercureKey signs the publisher's token: of this machine's loopback, for minutes.
const mercureKey = "a key for a comparison on loopback, which nobody else ever sees"

func mercure() *Peer {
	return &Peer{
		Name: "mercure", About: "the Mercure hub: Go, net/http under Caddy",
		Tuning: "local transport without history, anonymous subscribers, no logs, no compression, dispatch timeout and write timeout off",
		Limit:  "several goroutines and buffers a stream; every update is matched against every subscriber's selectors",
		find:   onPath("mercure", "put the hub's binary of https://github.com/dunglas/mercure/releases there"),
		start: func(o *Options, program, dir string, port int) (*exec.Cmd, error) {
			conf := fmt.Sprintf(`{
	auto_https off
	admin off
	log {
		level ERROR
	}
}
http://127.0.0.1:%d {
	mercure {
		transport local
		publisher_jwt "%s"
		anonymous
		write_timeout 0s
		dispatch_timeout 0s
	}
	respond 404
}
`, port, mercureKey)
			file := filepath.Join(dir, "Caddyfile")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				return nil, err
			}
			c := exec.Command(program, "run", "--config", file, "--adapter", "caddyfile")
			c.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			return c, nil
		},
		aim: func(c *loadtest.Config, base string) {
			c.URL = base + "/.well-known/mercure?topic={topic}"
			c.PublishURL = base + "/.well-known/mercure"
			c.PublishBody = "topic={topic}&data={data}"
			c.PublishH = []string{"Content-Type: application/x-www-form-urlencoded", "Authorization: Bearer " + mercureToken()}
		},
	}
}

// mercureToken is a JWT that allows publishing to everything.
func mercureToken() string {
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(`{"mercure":{"publish":["*"]}}`))
	mac := hmac.New(sha256.New, []byte(mercureKey))
	mac.Write([]byte(text))
	return text + "." + enc.EncodeToString(mac.Sum(nil))
}
