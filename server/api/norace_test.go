//go:build !race

package api

const poolForgets = false
