package tuning

import (
	"math"
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
