//go:build !race

package main

// The race detector is off.
const raceEnabled = false
