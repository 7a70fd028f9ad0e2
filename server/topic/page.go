package topic

// Listing topics by name. Any goroutine.

import (
	"slices"
	"strings"
)

// Page returns up to limit topics in the order of their names: those whose names begin
// with the prefix and come after a name; with "" for both, the first ones. What comes
// or goes meanwhile may be there or not. It looks at all topics, but its memory grows
// with limit alone; publishers are held up for no more than a 256th of the topics. Any
// goroutine.
func (tb *Table) Page(prefix, after string, limit int) []*Topic {
	if limit <= 0 {
		return nil
	}
	var page []*Topic
	last := "" // the limit-th name so far, "" before there are as many
	for i := range tb.parts {
		p := &tb.parts[i]
		p.mu.RLock()
		for name, t := range p.topics {
			if name <= after || last != "" && name > last || !strings.HasPrefix(name, prefix) {
				continue
			}
			if page = append(page, t); len(page) >= 2*limit {
				page, last = first(page, limit)
			}
		}
		p.mu.RUnlock()
	}
	page, _ = first(page, limit)
	return page
}

// first returns the first n topics by name, and the name of the last of them.
func first(page []*Topic, n int) ([]*Topic, string) {
	slices.SortFunc(page, func(a, b *Topic) int { return strings.Compare(a.name, b.name) })
	if len(page) < n {
		return page, ""
	}
	clear(page[n:])
	return page[:n], page[n-1].name
}
