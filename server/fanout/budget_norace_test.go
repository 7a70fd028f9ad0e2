//go:build !race

package fanout

const poolsForget = false
