package encode

// Heartbeats: what an idle stream carries, so that neither a proxy nor the
// client takes it for dead. Any goroutine; usually the shard's thread.

// AppendHeartbeat appends the heartbeat that says nothing: a comment, which
// clients skip (WHATWG HTML 9.2.6), ended by an empty line.
func AppendHeartbeat(dst []byte) []byte {
	return append(dst, ":\n\n"...)
}

// AppendHeartbeatID appends the heartbeat that moves the client's last event id
// on: an id line alone. It fires nothing, but counts for the next resume.
func AppendHeartbeatID(dst []byte, id uint64) []byte {
	return AppendID(dst, id)
}

// AppendHeartbeatEvent appends the heartbeat as an event named heartbeat with
// empty data, for clients that can't see comments; withID adds the id line.
func AppendHeartbeatEvent(dst []byte, id uint64, withID bool) []byte {
	dst = append(dst, "event: heartbeat\ndata: \n"...)
	if withID {
		return AppendID(dst, id)
	}
	return append(dst, '\n')
}
