//go:build race

package api

// The race detector makes sync.Pool forget on purpose.
const poolForgets = true
