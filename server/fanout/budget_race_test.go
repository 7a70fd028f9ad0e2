//go:build race

package fanout

// The race detector makes pools drop what they are given, at random.
const poolsForget = true
