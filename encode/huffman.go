package encode

// Huffman codes, as the Inflater reads them. One goroutine at a time.

const (
	maxCode   = 15 // bits, of the longest code
	tableBits = 9
)

// A huffman is a code: from bits to symbols (RFC 1951 3.2.2).
type huffman struct {
	table   [1 << tableBits]uint16 // by the next bits, of codes no longer than those: symbol and length; 0: a longer one, or none
	count   [maxCode + 1]uint16    // of codes, by length
	symbols [288]uint16            // by length, then by value
}

// set makes the code of its codes' lengths. It answers false when those are no
// code: too many of them, or too few but for a single one of one bit, or none.
func (h *huffman) set(lengths []uint8) bool {
	*h = huffman{}
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	left := 1
	var next, offset [maxCode + 2]uint16
	for n := 1; n <= maxCode; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		next[n+1] = (next[n] + h.count[n]) << 1
		offset[n+1] = offset[n] + h.count[n]
	}
	if left > 0 && used > 0 && (used != 1 || h.count[1] != 1) {
		return false
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[offset[n]] = uint16(symbol)
		offset[n]++
		code := next[n]
		next[n]++
		if n > tableBits {
			continue
		}
		for at := int(reversed(code, n)); at < len(h.table); at += 1 << n {
			h.table[at] = uint16(symbol)<<4 | uint16(n)
		}
	}
	return true
}

// reversed is a code's n bits as they come: its highest first.
func reversed(code uint16, n uint8) (r uint16) {
	for range n {
		r = r<<1 | code&1
		code >>= 1
	}
	return r
}

// symbol is the symbol that the bits begin with, and how many bits it took; 0
// where there is none.
func (h *huffman) symbol(bits uint64) (symbol uint16, n uint) {
	if e := h.table[bits&(1<<tableBits-1)]; e != 0 {
		return e >> 4, uint(e & 15)
	}
	return h.long(bits)
}

// long is symbol for codes that the table has not.
func (h *huffman) long(bits uint64) (symbol uint16, n uint) {
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxCode; n++ {
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[n])
		if code-first < count {
			return h.symbols[index+code-first], n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}

// The fixed codes (RFC 1951 3.2.6).
var fixedLiterals, fixedDistances = fixedCodes()

func fixedCodes() (literals, distances huffman) {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	literals.set(lengths[:])
	for i := range lengths[:32] {
		lengths[i] = 5
	}
	distances.set(lengths[:32])
	return literals, distances
}
