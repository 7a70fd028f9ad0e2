package main

// What everybody writes: a map of topics to channels, a channel for each stream.

import (
	"strconv"
	"sync"
	"sync/atomic"
)

// backlog is how many events a stream may be behind before it loses some: the drop is what everybody
// writes next, for else one slow reader stops all.
const backlog = 256

type hub struct {
	mu     sync.RWMutex
	topics map[string]map[chan []byte]struct{}
	id     atomic.Uint64
}

func newHub() *hub { return &hub{topics: map[string]map[chan []byte]struct{}{}} }

func (h *hub) subscribe(topics []string) chan []byte {
	c := make(chan []byte, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		if h.topics[t] == nil {
			h.topics[t] = map[chan []byte]struct{}{}
		}
		h.topics[t][c] = struct{}{}
	}
	return c
}

func (h *hub) unsubscribe(topics []string, c chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		delete(h.topics[t], c)
	}
}

// publish answers the event's id.
func (h *hub) publish(topic string, data []byte) uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	id := h.id.Add(1)
	frame := append(append([]byte("data: "), data...), "\nid: "...)
	frame = append(strconv.AppendUint(frame, id, 10), '\n', '\n')
	for c := range h.topics[topic] {
		select {
		case c <- frame:
		default:
		}
	}
	return id
}
