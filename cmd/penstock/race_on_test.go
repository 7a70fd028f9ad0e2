//go:build race

package main

// The race detector is on: memory is not what it will be.
const raceEnabled = true
