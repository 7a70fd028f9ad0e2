//go:build race

package encode

// The race detector makes sync.Pool forget on purpose.
const poolForgets = true
