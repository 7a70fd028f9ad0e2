// Package ring keeps the newest frames of all topics, in the order of their ids,
// in a bounded number of bytes. One writer appends; any number of readers read
// without a lock, never wait, and never hold the writer up. A reader that was
// overrun knows it. The package knows positions, ids and bytes, and nothing of SSE.
//
// # The memory
//
// A position is the number of bytes ever appended before a place. The bytes lie
// in segments of one size, a power of two, so that a position's high bits name
// its segment and its low bits the place in it:
//
//	            tail                                      head
//	              |                                         |
//	position      v                                         v
//	....|#########eeeeee|eeeeeeeeeeee~~|eeeeeeeeeeeeeee~|eeee........|....
//	    |   segment 7   |  segment 8   |   segment 9    | segment 10 |
//	    +-------^-------+------^-------+-------^--------+-----^------+
//	            |              |               |              |
//	directory  [7 mod n]   [8 mod n]       [9 mod n]      [10 mod n]
//
//	e  entries: a header of 64 bytes and the frame, from a multiple of 8 on
//	~  pad: an entry never spans two segments; the rest of one is skipped
//	#  entries that the tail has passed: no longer found, still intact
//	.  not there
//
// A segment is made when the head enters it, written once from front to back,
// and leaves the directory when the tail leaves it. It is ordinary memory of the
// collector's, without pointers inside: it goes when the last one who reads it
// lets go. Head and tail are never further apart than the ring's size less one
// segment (but for a single entry behind a pad), so that the directory never holds
// more than the ring's size. What the collector has not freed yet comes on top:
// the process bounds it by GOGC or a memory limit.
//
// A segment also keeps its first id and, for each 8 KiB of its bytes, a mark: the
// id and place of the first entry from there on. They are what After searches.
//
// # Who writes, who reads
//
// One goroutine at a time, the writer, calls Room, Drop and Append; the sequencer
// calls them with its lock. Everything else may be called from any goroutine. An
// Entry is a view of bytes that never change: it may be kept as long as one
// likes, but keeps its whole segment in memory; Clone lets go of it.
//
// # Why it is free of races
//
// No byte is ever written twice, so there is nothing to be torn. What is left is
// that nobody looks at a byte before it is written:
//
//   - Append first stores the segment in the directory (atomic) where it is a new
//     one, and writes the entry's bytes; then it stores the head behind the entry
//     (atomic).
//   - A reader loads the head (atomic), looks only at places before it, and takes
//     the segment from the directory (atomic). That it saw the head orders all
//     that the writer did before behind it, for the Go memory model and for the
//     race detector alike.
//   - The directory's slot may by then hold a newer segment, or none. A segment
//     knows its base, which never changes: another base, or none, says that the
//     tail has passed the place. The bytes of a segment that a reader holds stay
//     what they are, wherever the tail is.
//   - A mark is an id and an offset, both atomic, the id stored last: who sees
//     the id sees the offset. Its entry may still be ahead of the head that the
//     reader has seen, so After compares.
//   - The newest entry is stored before the head: who saw a head and then asks
//     for the newest id gets no less than the ids before that head.
//
// # In another process
//
// A process that takes over gets the ring's bytes as they lie there (move.go), most of them while
// the writer still appends: what is before the head never changes. Positions stay what they are,
// and segments their size; how many of them there are is the new process's own setting.
package ring
