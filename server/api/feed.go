package api

// The server's own topic: a snapshot of the figures once a second, for the page. One goroutine,
// that of Run.

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// statsTopic is the topic that carries the figures of /stats: an event of the type "stats" once a
// second, while it has subscribers.
const statsTopic = "$penstock.stats"

// statsType tells the page these events from those of the other topics on its stream.
const statsType = "stats"

// Run publishes the figures until ctx ends; with a backplane there are none, and the page asks /stats. One goroutine; the main address's API alone.
func (a *API) Run(ctx context.Context) {
	if a.o.Backplane != nil {
		return // every id is the stream's: nobody here can give one to the figures
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.publishStats()
		}
	}
}

// publishStats publishes one snapshot, if somebody is there to see it.
func (a *API) publishStats() {
	t, ok := a.o.Sequencer.Table().Lookup(statsTopic)
	if !ok || t.Subscribers() == 0 {
		return
	}
	data, err := json.Marshal(a.snapshot(a.busy.list(a.house)))
	if err != nil {
		panic("api: publishStats: " + err.Error())
	}
	_, err = a.o.Sequencer.PublishOwn(&topic.Publication{Topic: statsTopic, Event: encode.Event{Type: statsType, Data: data}})
	var large *topic.FrameTooLargeError
	if err != nil && !errors.Is(err, topic.ErrDraining) && !errors.As(err, &large) {
		panic("api: publishStats: " + err.Error())
	}
}
