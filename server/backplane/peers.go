package backplane

// What nodes tell each other of themselves, by request and reply over NATS. Any goroutine.

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	askSubject = "$PENSTOCK.stats."     // and the stream's name: nodes of other streams are no business of ours
	askFor     = 500 * time.Millisecond // how long nodes may take to answer
	askQuiet   = 200 * time.Millisecond // after the last answer: whoever is there has answered
	mostNodes  = 10_000
)

// Tell answers the other nodes' questions with what tell returns. Call it once, before Close.
func (b *Backplane) Tell(tell func() []byte) error {
	_, err := b.conn.Subscribe(askSubject+b.o.Stream, func(m *nats.Msg) { _ = m.Respond(tell()) })
	return err
}

// Ask asks all nodes of the stream, this one among them, and returns the answers of those that were
// fast enough. The error is that NATS is gone. It waits half a second at the most.
func (b *Backplane) Ask() ([][]byte, error) {
	if !b.isUp() {
		return nil, errNoConnection
	}
	inbox := nats.NewInbox()
	answers, err := b.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := b.conn.PublishRequest(askSubject+b.o.Stream, inbox, nil); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	var all [][]byte
	for len(all) < mostNodes {
		quiet, stop := context.WithTimeout(ctx, askQuiet)
		m, err := answers.NextMsgWithContext(quiet)
		stop()
		if err != nil {
			break
		}
		if len(m.Data) > 0 {
			all = append(all, m.Data)
		}
	}
	return all, nil
}
