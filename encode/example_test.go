package encode_test

import (
	"fmt"

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
