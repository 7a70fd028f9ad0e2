// Package handover is how a process hands itself over to another one: the words they exchange
// (coder.go). What travels is described where it lives: topic.State, fanout.State. It knows no
// more of Penstock than that.
package handover
