package encode

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A golden file is NAME.json beside NAME.sse. What Penstock writes has a list
// "write", from which NAME.sse is made; what only others write has none, and
// NAME.sse is written by hand. "read" is what a Decoder makes of it.
type golden struct {
	About string          `json:"about"`
	Write []goldenWritten `json:"write,omitempty"`
	Read  []goldenRead    `json:"read"`
	Open  bool            `json:"open,omitempty"` // the stream ends within a block
}

// goldenWritten is a call of one of the encoders.
type goldenWritten struct {
	Start *struct {
		Retry int `json:"retry"`
	} `json:"start,omitempty"`
	Event *struct {
		Type  string `json:"type,omitempty"`
		Data  string `json:"data"`
		Retry int    `json:"retry,omitempty"`
	} `json:"event,omitempty"`
	Gap       *Gap    `json:"gap,omitempty"`
	Heartbeat string  `json:"heartbeat,omitempty"` // comment, id or event
	ID        *uint64 `json:"id,omitempty,string"`
}

func (g goldenWritten) append(t *testing.T, dst []byte) []byte {
	id := uint64(0)
	if g.ID != nil {
		id = *g.ID
	}
	switch {
	case g.Start != nil:
		return AppendStart(dst, g.Start.Retry, id, g.ID != nil)
	case g.Event != nil:
		e := Event{Type: g.Event.Type, Data: []byte(g.Event.Data), Retry: g.Event.Retry}
		if err := e.Check(); err != nil {
			t.Fatal(err)
		}
		dst, _ = AppendFrame(dst, &e)
		return AppendID(dst, id)
	case g.Gap != nil:
		return AppendGap(dst, g.Gap, id)
	case g.Heartbeat == "comment":
		return AppendHeartbeat(dst)
	case g.Heartbeat == "id":
		return AppendHeartbeatID(dst, id)
	case g.Heartbeat == "event":
		return AppendHeartbeatEvent(dst, id, g.ID != nil)
	}
	t.Fatalf("%+v says nothing to write", g)
	return dst
}

// goldenRead is a block; what it has not is left out.
type goldenRead struct {
	Type     string  `json:"type,omitempty"` // of an event
	Data     *string `json:"data,omitempty"`
	ID       *string `json:"id,omitempty"`     // of the block's own id line
	LastID   string  `json:"lastId,omitempty"` // after it
	Retry    *int    `json:"retry,omitempty"`
	Comments int     `json:"comments,omitempty"`
}

func readGolden(t *testing.T, pieces ...string) (blocks []goldenRead, open bool) {
	var d Decoder
	seen, err := decodePieces(&d, pieces...)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seen {
		b := goldenRead{LastID: s.ID, Comments: s.Comments}
		if s.HasData {
			b.Type, b.Data = s.Type, &s.Data
		}
		if s.HasID {
			b.ID = &s.ID
		}
		if s.Retry >= 0 {
			b.Retry = &s.Retry
		}
		blocks = append(blocks, b)
	}
	return blocks, d.Open()
}

// The bytes on the wire are a promise: a change here is a change for every client.
func TestGoldenWire(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			strict := json.NewDecoder(bytes.NewReader(text))
			strict.DisallowUnknownFields()
			if err := strict.Decode(&g); err != nil {
				t.Fatal(err)
			}
			wire := strings.TrimSuffix(file, ".json") + ".sse"
			stream, err := os.ReadFile(wire)
			if err != nil && !(*update && g.Write != nil && errors.Is(err, fs.ErrNotExist)) {
				t.Fatal(err)
			}

			if g.Write != nil {
				var written []byte
				for _, w := range g.Write {
					written = w.append(t, written)
				}
				if *update {
					stream = written
					if err := os.WriteFile(wire, written, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(written, stream) {
					t.Errorf("writes\n%q, want\n%q", written, stream)
				}
			}

			read, open := readGolden(t, string(stream))
			if *update {
				g.Read, g.Open = read, open
				var out bytes.Buffer
				enc := json.NewEncoder(&out)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				if err := enc.Encode(g); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(read, g.Read) || open != g.Open {
				t.Errorf("reads %s, open %v; want %s, %v", asJSON(read), open, asJSON(g.Read), g.Open)
			}
			single := cut(string(stream), bytes.Repeat([]byte{1}, len(stream)))
			if read, open := readGolden(t, single...); !reflect.DeepEqual(read, g.Read) || open != g.Open {
				t.Errorf("byte by byte it reads %s, open %v; want %s, %v", asJSON(read), open, asJSON(g.Read), g.Open)
			}
		})
	}
}

func asJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	return text
}
