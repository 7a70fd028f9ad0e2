package main

// A compressor for each stream: what compressing once for all is held against.
//
// Little else is done, so that the compressors are what is measured: one goroutine takes what
// was published since its last turn and, stream by stream, compresses, flushes and writes it, a
// write each. Its turns follow Penstock's rule (the next one 10 ms after the last began, or
// sooner where that was short), so that as many events share a write.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

type zipped struct {
	conn  net.Conn
	z     *gzip.Writer
	plain bytes.Buffer // what z wrote
	wire  []byte
}

// gzipEach is the command gzip-each PORT: a contender in a process of its own, with the paths of
// the small servers in bench/peers/go.
func gzipEach(args []string) error {
	if len(args) != 1 {
		return errors.New("gzip-each takes a port")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var waiting []byte
	var streams []*zipped
	id := uint64(time.Now().UnixMicro())
	bell := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{topic}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		id = max(id+1, uint64(time.Now().UnixMicro()))
		waiting = append(append(waiting, "data: "...), bytes.ReplaceAll(data, []byte("\n"), []byte("\ndata: "))...)
		waiting = append(strconv.AppendUint(append(waiting, "\nid: "...), id, 10), "\n\n"...)
		fmt.Fprintf(w, `{"id":"%d"}`, id)
		mu.Unlock()
		select {
		case bell <- struct{}{}:
		default:
		}
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s := &zipped{conn: conn}
		s.z = gzip.NewWriter(&s.plain)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
		s.send([]byte(":\n\n"))
		mu.Lock()
		streams = append(streams, s)
		mu.Unlock()
	})
	go func() {
		for range bell {
			begun := time.Now()
			mu.Lock()
			batch, all := waiting, streams
			waiting = nil
			mu.Unlock()
			for _, s := range all {
				s.send(batch)
			}
			took := time.Since(begun)
			time.Sleep(min(4*took, 10*time.Millisecond) - took)
		}
	}()
	return http.Serve(l, mux)
}

// send sends a chunk. A stream that has gone stays: those who measure do not leave.
func (s *zipped) send(plain []byte) {
	s.plain.Reset()
	s.z.Write(plain)
	s.z.Flush()
	s.wire = strconv.AppendInt(s.wire[:0], int64(s.plain.Len()), 16)
	s.wire = append(append(append(s.wire, '\r', '\n'), s.plain.Bytes()...), '\r', '\n')
	s.conn.Write(s.wire)
}
