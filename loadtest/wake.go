package loadtest

// Subscribers that are away, by the time they come back. The reader's thread.

// A wakeAt is when a slot's time comes.
type wakeAt struct {
	at   int64
	slot int32
}

// A wakeHeap is a binary heap, the earliest first.
type wakeHeap []wakeAt

func (h *wakeHeap) push(w wakeAt) {
	*h = append(*h, w)
	for i := len(*h) - 1; i > 0; {
		up := (i - 1) / 2
		if (*h)[up].at <= (*h)[i].at {
			return
		}
		(*h)[up], (*h)[i] = (*h)[i], (*h)[up]
		i = up
	}
}

// pop takes the earliest. There is one.
func (h *wakeHeap) pop() wakeAt {
	old := *h
	first := old[0]
	n := len(old) - 1
	old[0] = old[n]
	*h = old[:n]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if old[c].at < old[least].at {
				least = c
			}
		}
		if least == i {
			return first
		}
		old[i], old[least] = old[least], old[i]
		i = least
	}
}
