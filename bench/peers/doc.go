// Package peers starts other SSE servers, as their documentation says to tune them, so that one
// load test can be run against each.
//
// A peer is found, started on a free loopback port in a directory of its own, and ended by its
// process. A file each; all (peers.go) lists them. One goroutine at a time.
package peers
