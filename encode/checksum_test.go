package encode

import (
	"hash/crc32"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// From the checksums of two pieces and the second one's length comes that of both.
func TestCombineAgreesWithTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		cut := rapid.IntRange(0, len(p)).Draw(t, "cut")
		first, second := crc32.ChecksumIEEE(p[:cut]), crc32.ChecksumIEEE(p[cut:])
		if got, want := shiftCRC(first, uint64(len(p)-cut))^second, crc32.ChecksumIEEE(p); got != want {
			t.Errorf("%08x, want %08x", got, want)
		}
	})
}

// Lengths of many gigabytes are not tried out: a shift by their sum must be the two
// shifts, and it can be taken back.
func TestShiftsAddUpAndCanBeTakenBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		crc := rapid.Uint32().Draw(t, "crc")
		m := rapid.Uint64Max(math.MaxUint64/2).Draw(t, "m")
		n := rapid.Uint64Max(math.MaxUint64/2).Draw(t, "n")
		if shiftCRC(shiftCRC(crc, m), n) != shiftCRC(crc, m+n) {
			t.Error("two shifts are not their sum")
		}
		if unshiftCRC(shiftCRC(crc, n), n) != crc || shiftCRC(unshiftCRC(crc, n), n) != crc {
			t.Error("a shift is not taken back")
		}
	})
}

// A shift by one byte is what hashing a zero byte does, but for the complements
// before and behind (RFC 1952 8).
func TestShiftIsTheStepOfCRC(t *testing.T) {
	for crc := range uint32(1000) {
		crc *= 0x9e3779b1
		if got, want := shiftCRC(crc, 1), ^crc32.Update(^crc, crc32.IEEETable, []byte{0}); got != want {
			t.Fatalf("%08x: %08x, want %08x", crc, got, want)
		}
	}
	if shiftCRC(1, crcPeriod) != 1 || unshiftCRC(1, 0) != 1 {
		t.Error("2^32-1 shifts do not lead back to where they began")
	}
}
