// Package topic is what a topic is, the order of events, and the past. It knows no
// sockets: publishers come in by the Sequencer, shards read the ring in their own time, and
// what they have missed they Gather.
//
// # An event's way
//
//	publisher's goroutine                                     shards' threads
//
//	judge    the event and its size
//	gate     wait while a shard is too far behind    <------  Done: read up to here
//	encode   the frame, but for its id
//	look up  the topic by name
//	lock ------------------------------------+
//	  id     max(now, last+1)                |
//	  room   keep the topics' newest frames, |
//	         then move the ring's tail       |
//	  link   to the topic's previous entries |
//	  append                                 |  ------------>  see the ring's head
//	  speak  the topic's newest, settled     |  ------------>  follow the topic's chain
//	unlock ----------------------------------+
//	wake     shards that sleep and want it   -------------->  Sleep returns, or the bell
//
// Nothing before the lock is visible to anybody; everything after it is done for the
// publisher. The lock is held for some hundred nanoseconds.
//
// # Who holds a topic
//
// A Topic has a counter for each shard (its subscribers there) and one for publishers that are
// not done with it. Acquire raises a counter by compare-and-swap; forgetting takes all of
// them from 0 to dead, or none. So a topic that somebody holds stays, and its number is
// its entries' number in the ring. Numbers are never used again.
//
//	           Acquire                    first event
//	(no name) ---------> subscribed only ------------> published <-----+
//	    ^                      |                        |   | published again
//	    |   last Release       |      all entries left  v   |          |
//	    +----------------------+      the ring        silent ----------+
//	    |                                               |
//	    +-----------------------------------------------+
//	      forgotten: nobody holds it, there are --max-topics
//	      others, and it was unpublished the longest
//
// A published topic has ended while its newest entry is an end. One that is silent is then not
// forgotten before it was known as ended for long enough (Options.EndedKeep).
//
// # The past
//
// The entries of a topic are a chain through the ring, from the newest back, that goes
// on through the topic's kept frames. Everything newer than an id is in reach exactly if the
// chain leads without a break to an entry whose previous id is not newer, and the id is not
// older than the topic's Since.
//
// Readers take no lock. What they rely on is the order in which things become visible:
//
//   - an entry is in the ring before its topic speaks of it, and Sequencer.settled moves on
//     after that: up to there a reader follows chains, from there it walks the ring;
//   - a kept copy is there before the tail passes its entry: who does not find
//     an entry in the ring looks at the copies, and if the chain began anew meanwhile, at
//     the ring again;
//   - a topic's newest position is stored before its newest id.
package topic
