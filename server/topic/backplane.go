package topic

// What a backplane says to the rest of the server, in words that know nothing of what it is made
// of. Plain values.

import (
	"errors"
	"fmt"
)

// An UnavailableError is a publish that the backplane did not store, or not all of it.
type UnavailableError struct {
	Stored int   // events of the batch that are stored, the first ones
	Unsure bool  // one more may be
	Err    error // why
}

// Error says how many events are stored.
func (e *UnavailableError) Error() string {
	what := "nothing was published"
	if e.Stored > 0 {
		what = fmt.Sprintf("%d events were published", e.Stored)
	}
	if e.Unsure {
		what += ", and it is not known whether the next one was: with a key it may be sent again without being doubled"
	}
	return fmt.Sprintf("%v: %s", e.Err, what)
}

// Unwrap returns why.
func (e *UnavailableError) Unwrap() error { return e.Err }

// ErrBusy says that as many older histories are in hand as may be: the subscriber should come back.
var ErrBusy = errors.New("too many subscribers are being given older history; come back in a moment")

// A Piece is a part of the past that a backplane still has, for one subscription.
type Piece struct {
	Events []Arrival // in their order
	UpTo   uint64    // the subscription has nothing else up to here
	Lost   uint64    // of what was before this id some is gone for good; 0: nothing
	Free   func()    // to be called once the events are of no more use
}

// BackplaneStats are a backplane's figures.
type BackplaneStats struct {
	Connected  bool    `json:"connected"`
	Server     string  `json:"server"` // the one that it is connected to, by name
	Stream     string  `json:"stream"`
	Prefix     string  `json:"subjectPrefix"`    // with its dot
	Reading    bool    `json:"reading"`          // the stream is being read
	LastID     uint64  `json:"lastId,string"`    // the newest event read
	Pending    uint64  `json:"pending"`          // events that the stream had more, when the newest one was read
	Behind     float64 `json:"behindSeconds"`    // how long ago the stream had what was not read here yet
	MaxBehind  float64 `json:"maxBehindSeconds"` // with how much publishers wait; 0: they never do
	Read       uint64  `json:"read"`             // events
	Skipped    uint64  `json:"skipped"`          // messages that cannot be events
	Stored     uint64  `json:"stored"`           // events published here
	Failed     uint64  `json:"failed"`           // publishes of which nothing more was stored
	Unsure     uint64  `json:"unsure"`           // publishes of which that is not known
	Reconnects uint64  `json:"reconnects"`
	Restarts   uint64  `json:"restarts"` // times that reading began again
	Gaps       uint64  `json:"gaps"`     // times that the stream had lost something, or was another one

	Histories        uint64 `json:"histories"`        // pieces of older history given to subscribers
	HistoryEvents    uint64 `json:"historyEvents"`    // events in them
	HistoriesRefused uint64 `json:"historiesRefused"` // subscribers told to come back: ErrBusy
}
