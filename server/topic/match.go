package topic

// From a name to the patterns that match it, and from patterns to topics.
//
// A Trie belongs to one goroutine; the rest: any.

import (
	"slices"
	"strings"
)

// Match reports whether a name matches the pattern. A wildcard in first place does not
// match the server's own topics ($...). Any goroutine.
func (p Pattern) Match(name string) bool {
	if !p.wild {
		return p.text == name
	}
	text := p.text
	if IsOwn(name) && (text[0] == '*' || text[0] == '>') {
		return false
	}
	for {
		want, wants, more := strings.Cut(text, ".")
		if want == ">" {
			return true
		}
		token, tokens, has := strings.Cut(name, ".")
		if want != "*" && want != token || more != has {
			return false
		}
		if !more {
			return true
		}
		text, name = wants, tokens
	}
}

// A Trie has values by patterns, and finds those whose patterns match a name in a time
// that grows with the name's tokens and what it finds, not with the patterns there are.
// The zero value is empty. One goroutine.
type Trie[T comparable] struct {
	root node[T]
}

// node is where some first tokens lead.
type node[T comparable] struct {
	next  map[string]*node[T] // by token; * is one too
	here  []T                 // of patterns that end here
	below []T                 // of those that end with > here
}

// Add adds a value under a pattern.
func (tr *Trie[T]) Add(p Pattern, v T) {
	n, last := tr.find(p)
	list := &n.here
	if last == ">" {
		list = &n.below
	}
	*list = append(*list, v)
}

// Remove removes a value that was added under the pattern.
func (tr *Trie[T]) Remove(p Pattern, v T) {
	tr.root.remove(p.text, v)
}

// remove reports whether the node has become empty.
func (n *node[T]) remove(text string, v T) (empty bool) {
	token, rest, more := strings.Cut(text, ".")
	switch {
	case token == ">":
		n.below = without(n.below, v)
	case n.next[token] == nil:
	case more:
		if n.next[token].remove(rest, v) {
			delete(n.next, token)
		}
	default:
		child := n.next[token]
		child.here = without(child.here, v)
		if child.empty() {
			delete(n.next, token)
		}
	}
	return n.empty()
}

func (n *node[T]) empty() bool { return len(n.next) == 0 && len(n.here) == 0 && len(n.below) == 0 }

func without[T comparable](list []T, v T) []T {
	if i := slices.Index(list, v); i >= 0 {
		last := len(list) - 1
		list[i] = list[last]
		var none T
		list[last] = none
		list = list[:last]
	}
	return list
}

// find returns the node of a pattern, which it makes, and its last token; for > the node
// before it.
func (tr *Trie[T]) find(p Pattern) (*node[T], string) {
	n, text := &tr.root, p.text
	for {
		token, rest, more := strings.Cut(text, ".")
		if token == ">" {
			return n, token
		}
		child := n.next[token]
		if child == nil {
			if n.next == nil {
				n.next = make(map[string]*node[T])
			}
			child = new(node[T])
			n.next[strings.Clone(token)] = child
		}
		if n = child; !more {
			return n, token
		}
		text = rest
	}
}

// Match calls each for every value whose pattern matches the name: as often as it was
// added under patterns that do.
func (tr *Trie[T]) Match(name string, each func(T)) {
	tr.root.match(name, IsOwn(name), each)
}

// match looks at the name's tokens from here on; own: the next one is the first of one of the server's own.
func (n *node[T]) match(name string, own bool, each func(T)) {
	if !own {
		for _, v := range n.below {
			each(v)
		}
	}
	token, rest, more := strings.Cut(name, ".")
	for _, next := range [2]*node[T]{n.next[token], n.any(own)} {
		switch {
		case next == nil:
		case more:
			next.match(rest, false, each)
		default:
			for _, v := range next.here {
				each(v)
			}
		}
	}
}

// any is where * leads.
func (n *node[T]) any(own bool) *node[T] {
	if own {
		return nil
	}
	return n.next["*"]
}

// Matching returns the topics that match one of the patterns and have an entry newer than an
// id. It looks at all topics there are; publishers are held up for no more than a
// 256th of them. Any goroutine.
func (tb *Table) Matching(patterns []Pattern, after uint64) []*Topic {
	var found []*Topic
	for i := range tb.parts {
		found = tb.MatchingIn(found, i, patterns, after)
	}
	return found
}

// Parts is how many parts a table has; MatchingIn takes one of them.
const Parts = parts

// MatchingIn appends what Matching finds in one part of the table, 0 to Parts-1. Any goroutine.
func (tb *Table) MatchingIn(found []*Topic, i int, patterns []Pattern, after uint64) []*Topic {
	p := &tb.parts[i]
	p.mu.RLock()
	defer p.mu.RUnlock()
	for name, t := range p.topics {
		if t.newest.Load() <= after {
			continue
		}
		for _, pattern := range patterns {
			if pattern.Match(name) {
				found = append(found, t)
				break
			}
		}
	}
	return found
}

// NewestForgotten returns the newest id of all topics that were forgotten, or the start's: what
// a pattern can be told of is complete from there on. Any goroutine.
func (tb *Table) NewestForgotten() uint64 { return max(tb.start.Load(), tb.newestForgotten.Load()) }
