package backplane

// What of a stream's settings is not as Penstock wants it: penstock tune --nats. Any goroutine.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Finding is what there is to say about one setting of a stream.
type Finding struct {
	Setting string
	Now     string
	Want    string // "": it is well
	Why     string
	Set     string // the command that sets it; "" where only a new stream has it
}

// Inspect looks at the stream's settings and changes nothing. The error says why it can't.
func Inspect(o Options) ([]Finding, error) {
	b := &Backplane{o: o, log: slog.Default()}
	b.setUp()
	options, err := b.connectOptions()
	if err != nil {
		return nil, err
	}
	// Nothing is to be told of this connection.
	options = append(options, nats.NoReconnect(), nats.DisconnectErrHandler(nil), nats.ReconnectHandler(nil))
	url := strings.Join(o.Servers, ",")
	if b.conn, err = nats.Connect(url, options...); err != nil {
		return nil, fmt.Errorf("--nats %s: %w", url, err)
	}
	defer b.conn.Close()
	if b.js, err = jetstream.New(b.conn); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.PublishTimeout)
	defer cancel()
	info, err := b.streamInfo(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("--nats-stream %s: there is no such stream yet; penstock serve makes it as it should be", o.Stream)
	}
	if err != nil {
		return nil, fmt.Errorf("--nats-stream %s: %w", o.Stream, err)
	}
	return judgeSettings(info, o.MaxEventSize), nil
}

// judgeSettings holds a stream's settings against what Penstock relies on.
func judgeSettings(info *jetstream.StreamInfo, maxEvent int) (all []Finding) {
	c := &info.Config
	edit := func(flag string) string { return "nats stream edit " + c.Name + " " + flag }
	add := func(well bool, setting, now, want, why, set string) {
		if well {
			want, set = "", ""
		}
		all = append(all, Finding{setting, now, want, why, set})
	}
	add(c.Storage == jetstream.FileStorage, "storage", strings.ToLower(c.Storage.String()), "file", "what is in memory alone is gone with its servers", "")
	add(c.Retention == jetstream.LimitsPolicy, "retention", strings.ToLower(c.Retention.String()), "limits", "else an event goes when one reader has it, and every node is a reader", "")
	add(c.Discard == jetstream.DiscardOld, "discard", strings.ToLower(c.Discard.String()), "old", "else a full stream refuses what is published", edit("--discard old"))
	add(!c.NoAck, "acknowledgements", fmt.Sprint(!c.NoAck), "true", "a publish learns its id by them", edit("--ack"))
	add(c.MaxAge > 0 || c.MaxBytes > 0 || c.MaxMsgs > 0, "limits", fmt.Sprintf("age %s, bytes %d, messages %d", c.MaxAge, c.MaxBytes, c.MaxMsgs), "at least one", "else it grows until the disk is full", edit("--max-age 24h"))
	add(c.MaxMsgsPerSubject <= 0, "messages for each subject", fmt.Sprint(c.MaxMsgsPerSubject), "-1 (no limit)", "what it takes out of the middle is told by gaps, as nobody knows where it was", edit("--max-msgs-per-subject -1"))
	add(c.MaxMsgSize < 0 || int(c.MaxMsgSize) >= maxEvent, "message size", fmt.Sprint(c.MaxMsgSize), fmt.Sprintf("-1 (no limit), or %d", maxEvent), "--max-event-size allows as much", edit("--max-msg-size -1"))
	add(c.Duplicates >= keyWindow, "duplicates window", c.Duplicates.String(), keyWindow.String(), "for so long a key of a publish is known", edit("--dupe-window "+keyWindow.String()))
	add(c.Replicas >= 3 || info.Cluster == nil || info.Cluster.Name == "", "replicas", fmt.Sprint(c.Replicas), "3", "with one, an acknowledged event is gone with its server", edit("--replicas 3"))
	const year = 365 * 24 * time.Hour
	old := uint64(time.Now().Add(-20 * year).UnixMicro())
	add(info.State.FirstSeq > old || info.Mirror != nil, "first sequence", fmt.Sprint(info.State.FirstSeq), "the time in microseconds", "if the stream is deleted and made anew, ids come a second time; a stream that penstock serve makes begins with the time", "")
	return all
}
