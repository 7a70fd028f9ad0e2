package loadtest

// The board: what publishers tell readers, in memory that all processes of a run share.
//
// For each lane, the newest number handed to a socket and the newest that was acknowledged; the
// numbers of which nobody knows whether they were published (a connection broke before its
// answer); and the phase. Publishers write, readers read, by atomic operations: any goroutine.

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Phases of a run.
const (
	phaseConnect = uint32(iota)
	phaseMeasure
	phaseDrain // no more is published: wait for what is on its way
	phaseEnd   // judge what is missing, close, report
)

// maxHoles bounds the numbers of unknown fate that are remembered; more make an error of the run.
const maxHoles = 4096

const boardHead = 8 // words of 8 bytes before the lanes: phase, holes, start

type board struct {
	mem   []byte
	file  *os.File
	head  []uint64
	lanes int
}

// newBoard makes a board for so many lanes. Close it.
func newBoard(lanes int) (*board, error) {
	fd, err := unix.MemfdCreate("penstock-loadtest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the shared board: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "board")
	if err := f.Truncate(boardSize(lanes)); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the shared board: %w", err)
	}
	return openBoard(f, lanes)
}

// openBoard maps a board that another process made. It takes the file.
func openBoard(f *os.File, lanes int) (*board, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, int(boardSize(lanes)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("map the shared board: %w", err)
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), boardHead+lanes+maxHoles)
	return &board{mem: mem, file: f, head: words, lanes: lanes}, nil
}

func boardSize(lanes int) int64 { return int64(8 * (boardHead + lanes + maxHoles)) }

func (b *board) close() {
	unix.Munmap(b.mem)
	b.file.Close()
	b.head = nil
}

func (b *board) phase() uint32     { return uint32(atomic.LoadUint64(&b.head[0])) }
func (b *board) setPhase(p uint32) { atomic.StoreUint64(&b.head[0], uint64(p)) }

// start is when the measured part began, in nanoseconds on the run's clock; 0 before it.
func (b *board) start() int64      { return int64(atomic.LoadUint64(&b.head[2])) }
func (b *board) setStart(ns int64) { atomic.StoreUint64(&b.head[2], uint64(ns)) }

// lane's word: the number handed to the socket in the upper half, the acknowledged one below.
func (b *board) lane(l uint32) *uint64 { return &b.head[boardHead+int(l)] }

func (b *board) publish(l, sent, acked uint32) {
	atomic.StoreUint64(b.lane(l), uint64(sent)<<32|uint64(acked))
}

// sent answers the newest number of the lane that may have been published.
func (b *board) sent(l uint32) uint32 { return uint32(atomic.LoadUint64(b.lane(l)) >> 32) }

// acked answers the newest number of the lane that the server has acknowledged.
func (b *board) acked(l uint32) uint32 { return uint32(atomic.LoadUint64(b.lane(l))) }

// hole notes a number of unknown fate. One publisher thread writes. It answers false when there is no room.
func (b *board) hole(l, seq uint32) bool {
	n := atomic.LoadUint64(&b.head[1])
	if n >= maxHoles {
		return false
	}
	atomic.StoreUint64(&b.head[boardHead+b.lanes+int(n)], uint64(l)<<32|uint64(seq))
	atomic.StoreUint64(&b.head[1], n+1)
	return true
}

// holes counts the numbers of unknown fate of a lane among the n before next.
func (b *board) holes(l, next, n uint32) uint32 {
	var found uint32
	for i := range atomic.LoadUint64(&b.head[1]) {
		h := atomic.LoadUint64(&b.head[boardHead+b.lanes+int(i)])
		if uint32(h>>32) == l && next-1-uint32(h) < n {
			found++
		}
	}
	return found
}
