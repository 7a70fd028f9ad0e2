package tuning

import (
	"math"
	"os"
	"testing"
)

func TestRaiseFilesReachesTheHardLimit(t *testing.T) {
	f, err := RaiseFiles()
	if err != nil {
		t.Fatal(err)
	}
	if f.Soft != f.Hard || f.Soft == 0 {
		t.Errorf("after raising the limits are %+v, want both equal", f)
	}
	if again, err := RaiseFiles(); err != nil || again != f {
		t.Errorf("raised again: %+v, %v; want %+v", again, err, f)
	}
}

func TestConnectionsLeaveRoomForTheServer(t *testing.T) {
	for soft, want := range map[uint64]int{0: 1, 1: 1, 64: 32, 256: 128, 1024: 1024 - FilesReserve, math.MaxUint64: 1<<30 - FilesReserve} {
		if got := (Files{Soft: soft}).Connections(); got != want {
			t.Errorf("with %d descriptors %d connections, want %d", soft, got, want)
		}
	}
}

func TestTablesHoldWhatIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		soft           uint64
		streams, least int
		tables, each   int
	}{
		{20_000, 250_000, 1, 13, 20_000 - FilesReserve},
		{20_000, 250_000, 16, 16, 20_000 - FilesReserve},
		{20_000, 19_872, 1, 1, 20_000 - FilesReserve},
		{20_000, 19_873, 1, 2, 20_000 - FilesReserve},
		{20_000, 2_000_000, 1, 101, 20_000 - FilesReserve/2 - 101},
		{400, 1_000, 1, 4, 400 - FilesReserve},
		{400, 9_000, 1, 34, 400 - FilesReserve},
		{400, 1 << 40, 1, 168, 168}, // more shards leave less room than they bring
		{256, 1_000, 2, 8, 128},
		{64, 100, 1, 4, 32},
		{math.MaxUint64, 1 << 31, 4, 4, 1<<30 - FilesReserve},
	} {
		tables, each := (Files{Soft: c.soft}).Tables(c.streams, c.least)
		if tables != c.tables || each != c.each {
			t.Errorf("limit %d, %d streams, %d shards at least: %d tables of %d, want %d of %d", c.soft, c.streams, c.least, tables, each, c.tables, c.each)
		}
	}
}

func TestOpenFilesCountsTheProcess(t *testing.T) {
	before := OpenFiles()
	if before == 0 {
		t.Skip("this kernel does not tell the number of descriptors")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if n := OpenFiles(); n != before+2 {
		t.Errorf("%d descriptors with a pipe more than %d", n, before)
	}
}
