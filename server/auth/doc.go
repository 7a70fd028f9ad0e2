// Package auth decides who may publish and who may subscribe.
//
// A Policy judges what a request brought (a token, and whether it came from this machine
// without a proxy) and answers with a grant, which then judges one topic after the other.
// It knows no HTTP library and no connection: api tells it the facts, and turns its errors
// into statuses.
package auth
