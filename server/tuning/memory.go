package tuning

// Allowed is how much memory a process may have here, in bytes: what its control group allows, or
// what the machine has where that is less; false where neither is known. Any goroutine.
func (m *Machine) Allowed() (bytes uint64, ok bool) {
	bytes, _, ok = m.Memory()
	if g := m.group(); g.memory > 0 && (!ok || g.memory < bytes) {
		return g.memory, true
	}
	return bytes, ok
}
