package encode

// CRC-32 of bytes that were never seen in one row (RFC 1952 8): a gzip stream's
// trailer has it for all plain bytes, those that its receiver shared with others
// and those that it had alone. Any goroutine.
//
// A CRC is a polynomial over GF(2), taken modulo one of degree 32. That of two
// pieces is the first one's times x^(8n), n the length of the second, plus the
// second one's. Powers of x come back after 2^32-1 of them, for the polynomial
// is primitive: a factor can be taken away again.

import (
	"sync"
)

// crcPeriod is the number of different powers of x.
const crcPeriod = 1<<32 - 1

// shiftCRC returns crc times x^(8n): added (xor) to the CRC-32 of n bytes it makes that of the two
// pieces, one after the other. It takes some 200 ns at most.
func shiftCRC(crc uint32, n uint64) uint32 {
	return timesPower(crc, n%crcPeriod*8%crcPeriod)
}

// unshiftCRC returns what shiftCRC would make crc of.
func unshiftCRC(crc uint32, n uint64) uint32 {
	return timesPower(crc, crcPeriod-n%crcPeriod*8%crcPeriod)
}

// timesPower returns crc times x^e, for e up to crcPeriod.
func timesPower(crc uint32, e uint64) uint32 {
	powers := crcPowers()
	for i := range powers {
		if b := byte(e >> (8 * i)); b != 0 {
			crc = timesCRC(powers[i][b], crc)
		}
	}
	return crc
}

// crcPowers are x^(b*256^i) at [i][b], made when first asked for.
var crcPowers = sync.OnceValue(func() *[4][256]uint32 {
	t := new([4][256]uint32)
	step := uint32(1 << 30) // x
	for i := range t {
		t[i][0] = 1 << 31 // 1
		for b := 1; b < 256; b++ {
			t[i][b] = timesCRC(t[i][b-1], step)
		}
		step = timesCRC(t[i][255], step)
	}
	return t
})

// timesCRC multiplies two polynomials. As everywhere in CRC-32 the highest bit is
// the coefficient of x^0.
func timesCRC(a, b uint32) (product uint32) {
	const polynomial = 0xedb88320
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ polynomial&-(b&1)
	}
	return product
}
