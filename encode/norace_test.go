//go:build !race

package encode

const poolForgets = false
