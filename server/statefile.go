package server

// The newest id over restarts, so that a clock that jumps back does not make ids run backwards.
//
// The file holds an id that no event has reached: some seconds ahead of the clock, so that it need
// not be written for each event. Ids follow the clock no further than the file says
// (topic.Sequencer.Reserve), so that whatever the clock does and whenever the machine stops, a later
// life begins after all of them. A server that ends in order leaves the newest id itself.
//
// One goroutine writes; begin and end are New's and Close's.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"penstock/server/topic"
)

const (
	stateAhead = 15 * time.Second // how far the file is ahead of the clock when it is written
	stateLeast = 10 * time.Second // and how far it always should be: a third of it is time to write anew
	stateEvery = time.Second      // how often that is looked at
)

// A stateFile keeps an id in a file. A path of "" is no file.
type stateFile struct {
	path    string
	newest  uint64 // what an earlier life has left; 0: nothing
	ceiling uint64 // what the file says
	failed  bool   // the log has been told
}

// openState reads what an earlier life has left. The error names the file and what it should hold.
func openState(path string) (*stateFile, error) {
	f := &stateFile{path: path}
	if path == "" {
		return f, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--state-file: %w", err)
	}
	f.newest, err = strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 63)
	if err != nil {
		return nil, fmt.Errorf("--state-file %s: %.40q is no id; it holds a decimal number, and may be removed if ids may run backwards", path, text)
	}
	return f, nil
}

// begin reserves the first ids. The error is that of writing: a server must not start that can't
// keep what it was told to keep.
func (f *stateFile) begin(s *topic.Sequencer) error {
	if f.path == "" {
		return nil
	}
	if err := f.raise(s); err != nil {
		return fmt.Errorf("--state-file: %w", err)
	}
	return nil
}

// keep keeps the file ahead until ctx ends.
func (f *stateFile) keep(ctx context.Context, s *topic.Sequencer, log *slog.Logger) {
	if f.path == "" {
		return
	}
	every := time.NewTicker(stateEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if f.low(s) {
			f.tell(f.raise(s), log)
		}
	}
}

// low tells whether ids, or the clock, come near to what is reserved.
func (f *stateFile) low(s *topic.Sequencer) bool {
	return f.ceiling < max(s.NewestID(), uint64(time.Now().UnixMicro()))+uint64(stateLeast.Microseconds())
}

// raise writes an id that is far enough ahead, then allows ids up to there.
func (f *stateFile) raise(s *topic.Sequencer) error {
	to := max(s.NewestID(), uint64(time.Now().UnixMicro())) + uint64(stateAhead.Microseconds())
	if err := f.write(to); err != nil {
		return err
	}
	s.Reserve(to)
	return nil
}

// tell tells the log of the first failure, and of its end.
func (f *stateFile) tell(err error, log *slog.Logger) {
	switch {
	case err != nil && !f.failed:
		f.failed = true
		log.Error("the newest id can't be kept: ids go on, but no longer follow the clock", "error", err)
	case err == nil && f.failed:
		f.failed = false
		log.Info("the newest id is kept again", "file", f.path)
	}
}

// end leaves the newest id, once nothing is published any more; unless the file is somebody else's
// by now, who goes on with our streams.
func (f *stateFile) end(s *topic.Sequencer, log *slog.Logger) {
	if f.path == "" || f.ceiling == 0 {
		return
	}
	if text, err := os.ReadFile(f.path); err == nil && string(bytes.TrimSpace(text)) != strconv.FormatUint(f.ceiling, 10) {
		return
	}
	f.tell(f.write(s.NewestID()), log)
}

// write puts an id into the file, whole or not at all, and on the disk.
func (f *stateFile) write(id uint64) error {
	next := f.path + ".new"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.FormatUint(id, 10) + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(next, f.path)
	}
	if err != nil {
		return err
	}
	f.ceiling = id
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
