package encode

// Real clients' decoders on streams whose life has been as hard as it gets.

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	kgzip "github.com/klauspost/compress/gzip"
)

// eventful is a member that joins an audience with a past, takes every kind of
// blocks, is sent heartbeats, lags twice, and ends in order; ended tells how.
func eventful(t testing.TB, inside bool) *testMember {
	a := &testAudience{shared: Shared{Level: Best}}
	a.shared.KeepWindow(true)
	frames := trades(t, 1000)
	flush := func(n int, full func(*testMember) bool) {
		for range n {
			a.flush(frames[0], full)
			frames = frames[1:]
		}
	}
	nobody := func(*testMember) bool { return false }
	a.catchUp(a.join([]byte("retry: 1\n\n")), 0)
	flush(80, nobody)

	m := a.join(append(AppendStart(nil, 2500, firstID, true), frames[0]...))
	a.catchUp(m, 0)
	var reached [Reaches]bool
	for range 70 {
		reached[a.shared.Mark().Reach(&m.place)] = true
		flush(1, nobody)
	}
	if reached != [...]bool{true, true, true} {
		t.Fatalf("reaches taken: %v, want all", reached)
	}
	a.startBeat(AppendHeartbeatID(nil, firstID+1e9))
	flush(1, nobody)
	m.send(nil, AppendDeflate(nil, nil, nil, Best))
	a.flush(fragments(1)[0], nobody)
	flush(1, func(o *testMember) bool { return o == m }) // takes nothing of this one
	flush(3, nobody)
	a.catchUp(m, 300)
	a.catchUp(m, 1<<30)
	a.shared.Level = Fast
	flush(10, nobody)
	a.shared.Level = Good
	flush(1, func(*testMember) bool { return true }) // and this one in parts
	flush(10, nobody)
	a.catchUp(m, 1<<30)
	flush(30, nobody)
	if !inside {
		a.flush(frames[0], func(*testMember) bool { return true })
	}
	if m.place.In() != inside {
		t.Fatalf("ends inside: %t", m.place.In())
	}
	a.end(m)
	return m
}

// pieces gives a reader a stream send by send; before each further one it looks whether all
// of those before have come out.
type pieces struct {
	sends [][]byte
	given func(sends int) // called when a reader wants more than so many sends
	next  int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.given(p.next)
	if p.next == len(p.sends) {
		return 0, io.EOF
	}
	n := copy(b, p.sends[p.next])
	if n < len(p.sends[p.next]) {
		return 0, errors.New("a piece that does not fit")
	}
	p.next++
	return n, nil
}

// Both of Go's gzip readers show each send whole before they want another, read
// to the end, and find the trailer right.
func TestGoShowsEachSendAtOnce(t *testing.T) {
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"compress/gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"klauspost":     func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) },
	} {
		for _, inside := range []bool{true, false} {
			m := eventful(t, inside)
			var got bytes.Buffer
			p := &pieces{sends: m.sends, given: func(n int) {
				if n > 1 && n < len(m.sends) && got.Len() != m.shown[n-1] { // the header is read before anything can be shown
					t.Errorf("%s: after %d sends %d bytes are shown, want %d", name, n, got.Len(), m.shown[n-1])
				}
			}}
			r, err := open(p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(&got, r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !bytes.Equal(got.Bytes(), m.plain) {
				t.Errorf("%s: %d bytes, want %d", name, got.Len(), len(m.plain))
			}
		}
	}
}

// cutStep is 1: a stream is cut at every byte. Under the race detector, where that
// takes half a minute, at some.
func cutStep() int {
	if poolForgets {
		return 17
	}
	return 1
}

// However TCP cuts a stream in two, it reads the same.
func TestGoReadsStreamsSplitAtEveryByte(t *testing.T) {
	m := eventful(t, true)
	wire := m.wire()
	for cut := 0; cut < len(wire); cut += cutStep() {
		split := func([]byte) ([]byte, error) {
			r, err := gzip.NewReader(io.MultiReader(bytes.NewReader(wire[:cut]), bytes.NewReader(wire[cut:])))
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		}
		if err := m.check(split); err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(wire), err)
		}
	}
}

// A stream that is cut off is found out, wherever that was.
func TestCutStreamIsAnError(t *testing.T) {
	wire := eventful(t, true).wire()
	for cut := 0; cut < len(wire); cut += cutStep() {
		if _, err := gunzip(wire[:cut]); err == nil {
			t.Fatalf("cut at %d of %d: no error", cut, len(wire))
		}
	}
}

// nodeReads is what node runs: each send must come out before the next goes in,
// then the stream is cut in two at every byte.
const nodeReads = `
const zlib = require("zlib"), { once } = require("events");
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const sends = input.Sends.map(s => Buffer.from(s, "base64")), wire = Buffer.concat(sends), plain = Buffer.from(input.Plain, "base64");
function open() {
  const z = zlib.createGunzip(), got = [];
  z.on("data", d => got.push(d));
  return { z, got: () => Buffer.concat(got) };
}
(async () => {
  const { z, got } = open();
  for (let i = 0; i < sends.length; i++) {
    await new Promise(done => z.write(sends[i], done));
    await new Promise(setImmediate);
    const n = got().length;
    if (n !== input.Shown[i]) throw new Error("after send " + i + " " + n + " bytes are shown, want " + input.Shown[i]);
  }
  z.end();
  await once(z, "end");
  if (!got().equals(plain)) throw new Error("reads something else");
  for (let cut = 1; cut < wire.length; cut += input.Step) {
    const { z, got } = open();
    z.write(wire.subarray(0, cut));
    z.end(wire.subarray(cut));
    await once(z, "end");
    if (!got().equals(plain)) throw new Error("cut at " + cut + ": reads something else");
  }
  console.log("read");
})().catch(e => { console.log(e.message); process.exit(1); });
`

// Node's zlib, which its fetch and its HTTP clients use, shows each send at once
// and checks the trailer.
func TestNodeReadsStreams(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node here")
	}
	for _, inside := range []bool{true, false} {
		m := eventful(t, inside)
		input, err := json.Marshal(struct {
			Sends [][]byte
			Shown []int
			Plain []byte
			Step  int
		}{m.sends, m.shown, m.plain, cutStep()})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), node, "-e", nodeReads)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "read" {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// curl --compressed asks for gzip, gets it by ChooseCoding, shows each send before
// the next is sent, and takes the end for one.
func TestCurlReadsStreams(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here")
	}
	m := eventful(t, true)
	seen := make(chan struct{}) // one for each send that curl has shown
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		coding := ChooseCoding(strings.Join(r.Header.Values("Accept-Encoding"), ","), []Coding{Gzip})
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", coding.String())
		for _, send := range m.sends {
			w.Write(send)
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	})}
	go server.Serve(listener)
	defer server.Close()

	cmd := exec.CommandContext(t.Context(), curl, "-sSN", "--compressed", "--max-time", "30", fmt.Sprintf("http://%s/", listener.Addr()))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(m.plain))
	shown := 0
	for i, n := range m.shown {
		if _, err := io.ReadFull(out, got[shown:n]); err != nil {
			t.Fatalf("send %d of %d: %v; curl says %s", i, len(m.shown), err, &stderr)
		}
		shown = n
		select {
		case seen <- struct{}{}:
		case <-time.After(10 * time.Second):
			t.Fatalf("send %d of %d: the server has gone", i, len(m.shown))
		}
	}
	if rest, _ := io.ReadAll(out); len(rest) > 0 {
		t.Errorf("%d bytes too many", len(rest))
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("curl: %v: %s", err, &stderr)
	}
	if !bytes.Equal(got, m.plain) {
		t.Error("curl shows something else")
	}
}
