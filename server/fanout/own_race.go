//go:build race

package fanout

import "syscall"

// An owner is the id of the thread that a shard runs on; 0 while nobody has
// taken it: then a test steps it by hand.
type owner int

// own panics unless this is the shard's thread. The race build asks at every
// entrance; the other build asks nothing.
func (sh *shard) own() {
	if sh.owner != 0 && sh.owner != owner(syscall.Gettid()) {
		panic("fanout: own: a shard's state is touched from another thread")
	}
}

// take makes this thread the shard's.
func (sh *shard) take() { sh.owner = owner(syscall.Gettid()) }
