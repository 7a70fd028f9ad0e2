package encode

// Event ids as text: decimal uint64 in its shortest form. Any goroutine.

import (
	"fmt"
	"math"
	"strconv"
)

// MaxIDLine is the most that AppendID appends, in bytes.
const MaxIDLine = len("id: ") + 20 + len("\n\n")

// AppendID appends the id line and the empty line behind it, which together end
// a frame: "id: 1763670000000042\n\n". The id comes last because only the
// sequencer's lock knows it.
func AppendID(dst []byte, id uint64) []byte {
	dst = append(dst, "id: "...)
	dst = strconv.AppendUint(dst, id, 10)
	return append(dst, "\n\n"...)
}

// ParseID reads an id: a decimal number that fits 64 bits, digits only, without
// leading zeros. Two different texts are never the same id, and what ParseID
// takes is what AppendID would write. It allocates nothing but the error.
func ParseID[T string | []byte](s T) (uint64, error) {
	if len(s) == 0 || len(s) > 20 || s[0] == '0' && len(s) > 1 {
		return 0, badID(string(s[:min(len(s), 64)]))
	}
	var id uint64
	for i := 0; i < len(s); i++ {
		digit := uint64(s[i] - '0')
		if digit > 9 || i == 19 && (id > math.MaxUint64/10 || id == math.MaxUint64/10 && digit > math.MaxUint64%10) {
			return 0, badID(string(s))
		}
		id = id*10 + digit
	}
	return id, nil
}

func badID(s string) error {
	return fmt.Errorf("id %q: not an id; one is a decimal number from 0 to %d without leading zeros", s, uint64(math.MaxUint64))
}
