package main

// The proxies' files in deploy/: read by the program they are for, and then put in front of a
// server as they are, but for the addresses, the certificate and where files are written. Skipped
// where the program is not installed.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/server/servertest"
)

// certificate writes a certificate, its key, and both, to files of that folder.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"events.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	pri := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, text := range map[string][]byte{"penstock.crt": crt, "penstock.key": pri, "penstock.pem": append(crt, pri...)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A front is a proxy with its file in deploy/.
type front struct {
	program, file string
	check, run    []string // arguments; {config} is the file
	replace       []string // what stands in the file, and what here; {dir} is a folder, {server} behind
}

var fronts = []front{
	{"nginx", "nginx.conf",
		[]string{"-t", "-q", "-c", "{config}"}, []string{"-c", "{config}"},
		[]string{
			"user www-data;", "daemon off; master_process off; error_log {dir}/log;",
			"pid /run/nginx.pid;", "pid {dir}/pid;",
			"worker_rlimit_nofile 262144;", "",
			"worker_connections 131072;", "worker_connections 128;",
			"access_log off;", "access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;",
			"listen 443 ssl http2 backlog=4096;", "listen unix:{dir}/socket ssl http2;",
			"/etc/nginx/", "{dir}/",
			"127.0.0.1:8080", "{server}",
		}},
	{"haproxy", "haproxy.cfg",
		[]string{"-c", "-q", "-f", "{config}"}, []string{"-db", "-f", "{config}"},
		[]string{
			"maxconn 100000", "maxconn 100",
			"bind :443", "bind unix@{dir}/socket",
			" backlog 4096", "",
			"/etc/haproxy/", "{dir}/",
			"127.0.0.1:8080", "{server}",
		}},
	{"caddy", "Caddyfile",
		[]string{"validate", "--adapter", "caddyfile", "--config", "{config}"}, []string{"run", "--adapter", "caddyfile", "--config", "{config}"},
		[]string{
			"events.example.com {", "{\n\tadmin off\n\tstorage file_system {dir}\n\tauto_https off\n}\nhttps://events.example.com {\n\tbind unix/{dir}/socket\n\ttls {dir}/penstock.crt {dir}/penstock.key\n",
			"127.0.0.1:8080", "{server}",
		}},
}

// Each proxy takes its file, and through it streams arrive event by event over HTTP/1.1 and HTTP/2,
// and publishing takes a token.
func TestDeployedProxiesCarryStreams(t *testing.T) {
	for _, f := range fronts {
		t.Run(f.program, func(t *testing.T) {
			path := servertest.Program(t, f.program)
			dir, err := os.MkdirTemp("", "front") // a socket's path must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			certificate(t, dir)
			s := serve(t, environment(t, map[string]string{"PENSTOCK_PUBLISH_TOKEN_FILE": ""}))
			text := deployed(t, f.file)
			for i := 0; i < len(f.replace); i += 2 {
				if !strings.Contains(text, f.replace[i]) {
					t.Errorf("%s has no %q any more", f.file, f.replace[i])
				}
				text = strings.ReplaceAll(text, f.replace[i], f.replace[i+1])
			}
			config := filepath.Join(dir, "config")
			fill := strings.NewReplacer("{dir}", dir, "{server}", strings.TrimPrefix(s.url, "http://"), "{config}", config)
			if err := os.WriteFile(config, []byte(fill.Replace(text)), 0o600); err != nil {
				t.Fatal(err)
			}
			args := func(all []string) []string { return strings.Split(fill.Replace(strings.Join(all, "\n")), "\n") }
			asked(t, path, args(f.check)...)
			if t.Failed() {
				return
			}
			servertest.RunProxy(t, path, dir, args(f.run)...)
			for _, version := range []string{"http/1.1", "h2"} {
				carries(t, filepath.Join(dir, "socket"), version)
			}
		})
	}
}

// carries opens a stream through a proxy and publishes: what is published arrives while the stream
// goes on.
func carries(t *testing.T, socket, version string) {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		// The certificate is this test's own.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "events.example.com", NextProtos: []string{version}},
		ForceAttemptHTTP2: version == "h2",
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	topic := "news." + strings.NewReplacer("/", "", ".", "").Replace(version)
	var stream *http.Response
	poll(t, "a stream over "+version, func() bool { // until the proxy has found the server well
		resp, err := client.Get("https://events.example.com/events/" + topic)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return false
		}
		stream = resp
		return true
	})
	defer stream.Body.Close()
	if major := map[string]int{"http/1.1": 1, "h2": 2}[version]; stream.ProtoMajor != major || !strings.HasPrefix(stream.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("%s: %s %v", version, stream.Proto, stream.Header)
	}
	for _, token := range []string{"", "secret"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://events.example.com/publish/"+topic, strings.NewReader("over "+version))
		if err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		if token == "" {
			want = http.StatusUnauthorized
		} else {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: publish with token %q: %s %s, want %d", version, token, resp.Status, text, want)
		}
	}
	got := make([]byte, 0, 4096)
	for !bytes.Contains(got, []byte("data: over "+version+"\n")) {
		n, err := stream.Body.Read(got[len(got):cap(got)])
		if got = got[:len(got)+n]; err != nil && !errors.Is(err, io.EOF) || n == 0 {
			t.Fatalf("%s: the stream ended (%v) after %q", version, err, got)
		}
	}
}
