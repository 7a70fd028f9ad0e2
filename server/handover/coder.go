package handover

// The words that two processes exchange: numbers, bytes, lists. One goroutine at a time.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Coder writes values to a stream or reads them from one. What travels has one method that
// hands its fields to a Coder, in some order, and that is its format for both directions.
//
// The first error stays, and all calls after it do nothing: whoever codes looks at Err at the
// end. What is read after an error is zero.
type Coder struct {
	w   *bufio.Writer
	r   *bufio.Reader
	err error
	buf [binary.MaxVarintLen64]byte
}

// bufferSize is how many bytes go through a system call at once.
const bufferSize = 256 << 10

// NewWriter returns a Coder that writes. Nothing is sure to be written before Flush.
func NewWriter(w io.Writer) *Coder { return &Coder{w: bufio.NewWriterSize(w, bufferSize)} }

// NewReader returns a Coder that reads. It may read ahead of what was asked for.
func NewReader(r io.Reader) *Coder { return &Coder{r: bufio.NewReaderSize(r, bufferSize)} }

// Reads tells whether values are read.
func (c *Coder) Reads() bool { return c.r != nil }

// Err returns the first error.
func (c *Coder) Err() error { return c.err }

// Fail makes an error of what was read, unless there is one.
func (c *Coder) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Flush writes what is still held back, and returns the first error.
func (c *Coder) Flush() error {
	if c.err == nil {
		c.err = c.w.Flush()
	}
	return c.err
}

// Num codes a number of any integer type.
func Num[T ~int | ~int8 | ~int32 | ~int64 | ~uint8 | ~uint32 | ~uint64](c *Coder, v *T) {
	if c.err != nil {
		if c.Reads() {
			*v = 0
		}
		return
	}
	if !c.Reads() {
		// Zigzag: small numbers below 0 are short too; what is above 2^63 comes back by wrapping.
		n := int64(*v)
		_, c.err = c.w.Write(binary.AppendUvarint(c.buf[:0], uint64(n)<<1^uint64(n>>63)))
		return
	}
	u, err := binary.ReadUvarint(c.r)
	c.Fail(err)
	n := int64(u>>1) ^ -int64(u&1)
	if *v = T(n); int64(*v) != n {
		c.Fail(fmt.Errorf("handover: the number %d does not fit", n))
	}
}

// Bool codes a truth value.
func (c *Coder) Bool(v *bool) {
	n := uint8(0)
	if *v {
		n = 1
	}
	Num(c, &n)
	*v = n != 0
}

// most bounds what one length may say: a longer one is no length.
const most = 1 << 31

// length codes how many bytes or values follow.
func (c *Coder) length(n int) int {
	Num(c, &n)
	if n < 0 || n > most {
		c.Fail(fmt.Errorf("handover: a length of %d", n))
	}
	if c.err != nil {
		return 0
	}
	return n
}

// Bytes codes bytes. Those read are the caller's; none are nil.
func (c *Coder) Bytes(v *[]byte) {
	n := c.length(len(*v))
	if !c.Reads() {
		if c.err == nil {
			_, c.err = c.w.Write(*v)
		}
		return
	}
	*v = nil
	if n == 0 {
		return
	}
	// In steps: a length that was never written does not take memory.
	for len(*v) < n && c.err == nil {
		had := len(*v)
		*v = append(*v, make([]byte, min(n-had, 1<<20))...)
		_, err := io.ReadFull(c.r, (*v)[had:])
		c.Fail(err)
	}
}

// String codes a string.
func (c *Coder) String(v *string) {
	if !c.Reads() {
		n := c.length(len(*v))
		if c.err == nil && n > 0 {
			_, c.err = c.w.WriteString(*v)
		}
		return
	}
	var b []byte
	c.Bytes(&b)
	*v = string(b)
}

// listRoom is for how many elements a list has room from its beginning: one of streams, that grew as it
// is read, would leave as much garbage as it takes itself.
const listRoom = 1 << 16

// List codes a list, its elements by a function.
func List[T any](c *Coder, list *[]T, code func(*T)) {
	n := c.length(len(*list))
	if c.Reads() {
		*list = nil
		if n > 0 {
			*list = make([]T, 0, min(n, listRoom))
		}
		for range n {
			var v T
			if code(&v); c.err != nil {
				return
			}
			*list = append(*list, v)
		}
		return
	}
	for i := range *list {
		code(&(*list)[i])
	}
}

// Numbers codes a list of numbers.
func Numbers[T ~int | ~int32 | ~uint64](c *Coder, list *[]T) {
	List(c, list, func(v *T) { Num(c, v) })
}

// Read makes a reading Coder read on as a reader: what follows, of a length that was coded.
func (c *Coder) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	return n, err
}

// Write makes a writing Coder write bytes as they are.
func (c *Coder) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.err = err
	return n, err
}

// Word codes a word that must be the same on both sides, where one part ends and the next
// begins: so that a mistake is found where it is made.
func (c *Coder) Word(word string) {
	got := word
	c.String(&got)
	if got != word {
		c.Fail(fmt.Errorf("handover: %q where %q was due", got, word))
	}
}

// ErrAborted is what the other side's giving up looks like.
var ErrAborted = errors.New("the other process has given up")
