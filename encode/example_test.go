package encode_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"penstock/encode"
)

// A publisher's goroutine encodes; with the sequencer's lock only the id is added.
func ExampleAppendFrame() {
	e := encode.Event{Type: "trade", Data: []byte("ACME\n187.25")}
	if err := e.Check(); err != nil {
		fmt.Println(err)
		return
	}
	frame, typeEnd := encode.AppendFrame(nil, &e)
	frame = encode.AppendID(frame, 1763670000000042)
	fmt.Printf("%q\n", frame)
	fmt.Printf("%q\n", frame[typeEnd:])
	// Output:
	// "event: trade\ndata: ACME\ndata: 187.25\nid: 1763670000000042\n\n"
	// "data: ACME\ndata: 187.25\nid: 1763670000000042\n\n"
}

func ExampleEvent_Check() {
	fmt.Println((&encode.Event{Type: "gap"}).Check())
	fmt.Println((&encode.Event{Data: []byte("\xff")}).Check())
	// Output:
	// event type "gap": reserved for the server itself, with gap, hello, end, expiring and heartbeat
	// data: byte 0xff at 0 of 1 is not UTF-8; events carry text only
}

func ExampleAppendGap() {
	gap := encode.Gap{Topics: []string{"stocks.nasdaq.AAPL"}, After: "1763670000000042", Before: 1763670000031337, Reason: encode.GapLag}
	fmt.Printf("%s", encode.AppendGap(nil, &gap, 1763670000031336))
	// Output:
	// event: gap
	// data: {"topics":["stocks.nasdaq.AAPL"],"after":"1763670000000042","before":"1763670000031337","reason":"lag"}
	// id: 1763670000031336
}

// A batch is gathered behind the room for its header, so that it is chunked
// without copying it.
func ExamplePutChunkHead() {
	buf := make([]byte, encode.ChunkHead, 512)
	buf = append(buf, "data: x\nid: 7\n\n"...)
	start := encode.PutChunkHead(buf, len(buf)-encode.ChunkHead)
	buf = append(buf, encode.ChunkTail...)
	fmt.Printf("%q\n", buf[start:])
	// Output: "f\r\ndata: x\nid: 7\n\n\r\n"
}

func ExampleDecoder() {
	var d encode.Decoder
	for _, piece := range []string{"event: trade\nda", "ta: 187.25\nid: 42\n", "\n:\n\ndata: never finished\n"} {
		err := d.Decode([]byte(piece), func(e *encode.Decoded) {
			if e.HasData {
				fmt.Printf("%s: %s (id %s)\n", e.Type, e.Data, e.ID)
			} else if e.Comments > 0 {
				fmt.Println("a heartbeat")
			}
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("cut within a block:", d.Open())
	// Output:
	// trade: 187.25 (id 42)
	// a heartbeat
	// cut within a block: true
}

func ExampleDechunker() {
	var d encode.Dechunker
	for _, piece := range []string{"4\r\nabcd\r", "\n3\r\nefg\r\n0\r\n\r\n"} {
		p := []byte(piece)
		for {
			payload, rest, err := d.Next(p)
			if err != nil {
				fmt.Println(err)
				return
			}
			if len(payload) == 0 {
				break
			}
			fmt.Printf("%s\n", payload)
			p = rest
		}
	}
	fmt.Println(d.Done())
	// Output:
	// abcd
	// efg
	// true
}

// A member of a compressed audience, as a shard has it: a socket, here the bytes
// that it took, and a Place. It lags while its place is not in the shared stream.
type member struct {
	name   string
	place  encode.Place
	socket []byte
	full   bool   // the socket takes nothing
	missed []byte // frames that it lags behind; a shard has a cursor instead
}

// alone sends m bytes that no other member gets.
func (m *member) alone(plain []byte) {
	m.socket = encode.AppendDeflate(m.socket, plain, nil, encode.Fast)
	m.place.Add(plain)
}

// flush compresses a batch as often as there are reaches among the members, twice
// here at most, and sends it.
func flush(shared *encode.Shared, members []*member, batch []byte) {
	var blocks [encode.Reaches][]byte
	at := shared.Mark()
	for _, m := range members {
		switch {
		case !m.place.In():
			m.missed = append(m.missed, batch...)
		case m.full:
			m.place.Leave(at) // has nothing of this batch
			m.missed = append(m.missed, batch...)
			fmt.Printf("%s lags\n", m.name)
		default:
			r := at.Reach(&m.place)
			if blocks[r] == nil {
				blocks[r] = shared.AppendDeflate(nil, batch, r)
			}
			m.socket = append(m.socket, blocks[r]...)
		}
	}
	shared.Advance(batch) // once, when all blocks are made
}

// An audience with a joiner and a laggard: batches are compressed for all of them
// together, and everybody reads a stream of its own with a right end.
func ExampleShared() {
	shared := &encode.Shared{Level: encode.LevelFor(3, 150)}
	shared.KeepWindow(true)
	var members []*member
	join := func(name string) *member {
		m := &member{name: name}
		m.socket = encode.AppendGzipHeader(m.socket)
		m.alone(encode.AppendStart(nil, 2500, 41, true))
		m.place.Enter(shared.Mark()) // nothing to catch up with
		members = append(members, m)
		return m
	}
	id := uint64(41)
	publish := func(n int) {
		for range n {
			id++
			frame, _ := encode.AppendFrame(nil, &encode.Event{Type: "trade", Data: fmt.Appendf(nil, `{"symbol":"ACME","price":%d}`, id)})
			flush(shared, members, encode.AppendID(frame, id))
		}
	}

	ann, bob := join("ann"), join("bob")
	publish(100)
	cyd := join("cyd")
	publish(100)

	bob.full = true
	publish(5)
	bob.full = false
	bob.alone(bob.missed)
	bob.place.Enter(shared.Mark())
	publish(100)

	for _, m := range []*member{ann, bob, cyd} {
		m.place.Leave(shared.Mark())
		m.socket = m.place.AppendEnd(m.socket)
		body, err := gzip.NewReader(bytes.NewReader(m.socket))
		if err != nil {
			fmt.Println(err)
			return
		}
		plain, err := io.ReadAll(body) // an error if the trailer were wrong
		fmt.Printf("%s: %d events, less than half the bytes: %t, error: %v\n",
			m.name, bytes.Count(plain, []byte("event: trade\n")), len(m.socket) < len(plain)/2, err)
	}
	// Output:
	// bob lags
	// ann: 305 events, less than half the bytes: true, error: <nil>
	// bob: 305 events, less than half the bytes: true, error: <nil>
	// cyd: 205 events, less than half the bytes: true, error: <nil>
}

func ExampleChooseCoding() {
	offered := []encode.Coding{encode.Gzip}
	fmt.Println(encode.ChooseCoding("gzip, deflate, br, zstd", offered))
	fmt.Println(encode.ChooseCoding("gzip;q=0, *", offered))
	// Output:
	// gzip
	// identity
}
