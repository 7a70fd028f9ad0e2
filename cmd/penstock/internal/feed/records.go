// Package feed brings events from files and pipes to a server: it reads them line by line, keeps
// their pace and posts them in batches.
package feed

// Records: what is read from standard input, a record for each line or row. The reading
// goroutine.

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"penstock/encode"
)

// A Record is one event as it was read.
type Record struct {
	Line  int       // where in the input it began, from 1
	Topic string    // "": none, and there is no default
	Event string    // its type, "" without one
	Data  []byte    // as it will be sent
	Retry int       // milliseconds, 0 without one
	Key   string    // for idempotent publishing, "" without one
	Time  time.Time // when it was recorded; zero where that was not asked for
}

// A LineError tells what is wrong with a line of the input. What follows it can be read.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// A SkippedError is a LineError's reason where nothing is wrong, but the line is no event to be
// published: it is what a server said of its stream.
type SkippedError struct{ Text string }

func (e *SkippedError) Error() string { return e.Text }

// A Format is how the input is written.
type Format string

const (
	Auto   Format = "auto"   // NDJSON where the first line is one that `penstock subscribe` wrote, else lines
	Lines  Format = "lines"  // the data of an event on each line; blank ones are skipped
	NDJSON Format = "ndjson" // what POST /publish takes: {"topic","data","event",...} on each line
	CSV    Format = "csv"    // a header, then rows; each becomes a JSON object
	Whole  Format = "whole"  // all of the input is the data of one event, be it empty
)

// maxLine bounds a line of the input in bytes. No server takes an event as large.
const maxLine = 64 << 20

// ReaderOptions say how the input is read.
type ReaderOptions struct {
	Format Format
	Topic  string // the default; with TopicField what comes before the field's value and a dot
	Event  string // the type of events that name none
	Key    string // of Whole's one event; "" for none

	// The names of fields: columns of CSV, members of JSON objects otherwise. With TopicField or
	// DataField a line of NDJSON is any object, not one that POST /publish would take.
	TopicField, DataField, TimeField string

	Columns []string // of CSV without a header line
}

// A Reader reads records.
type Reader struct {
	o       ReaderOptions
	in      *bufio.Reader
	line    int
	long    []byte
	csv     *csv.Reader
	columns []string // of CSV, as JSON strings
	names   map[string]int
}

// NewReader prepares a Reader; nothing is read yet.
func NewReader(in io.Reader, o ReaderOptions) *Reader {
	r := &Reader{o: o, in: bufio.NewReaderSize(in, 64<<10)}
	if o.Format == CSV {
		r.csv = csv.NewReader(r.in)
		r.csv.ReuseRecord = true
	}
	return r
}

// Next reads the next record. The error is io.EOF at the end, a *LineError for a line that is no
// event, after which Next may be called again, or that of the input.
func (r *Reader) Next() (Record, error) {
	record, err := r.next()
	if err == nil {
		if record.Event == "" {
			record.Event = r.o.Event
		}
		err = check(&record)
	}
	if err == nil || err == io.EOF {
		return record, err
	}
	if input, ok := errors.AsType[inputError](err); ok {
		return Record{}, input.error
	}
	return Record{}, &LineError{Line: r.line, Err: err}
}

// An inputError is one after which nothing more can be read.
type inputError struct{ error }

// check tells what the server would refuse, so that one bad line costs itself alone and not the
// batch that it is in.
func check(record *Record) error {
	switch record.Event {
	case "gap":
		return &SkippedError{"not published: the stream it came from lost events: " + string(record.Data)}
	case "hello", "end", "expiring", "heartbeat":
		return &SkippedError{"not published: " + record.Event + " is what a server says of its own stream"}
	}
	if record.Topic == "" {
		return errors.New("no topic; name one behind the URL, or the field that has it with --topic-field")
	}
	e := encode.Event{Type: record.Event, Data: record.Data, Retry: record.Retry}
	return e.Check()
}

func (r *Reader) next() (Record, error) {
	switch r.o.Format {
	case CSV:
		return r.nextRow()
	case Whole:
		return r.nextWhole()
	}
	for {
		text, err := r.readLine()
		if err != nil {
			return Record{}, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if r.o.Format == Auto {
			r.o.Format = Lines
			if isSubscribed(text) {
				r.o.Format = NDJSON
			}
		}
		record := Record{Line: r.line, Topic: r.o.Topic}
		if r.o.Format == NDJSON && r.o.TopicField == "" && r.o.DataField == "" {
			err = r.publication(&record, text)
		} else {
			err = r.object(&record, text)
		}
		return record, err
	}
}

// isSubscribed tells whether a line is one of `penstock subscribe -o ndjson`: data and the time
// are always there, and nothing that it does not write. A recording of something else that looks
// so has to be named lines.
func isSubscribed(text []byte) bool {
	members, err := parseObject(text)
	if err != nil || members["data"] == nil || members["time"] == nil {
		return false
	}
	for name := range members {
		switch name {
		case "topic", "event", "data", "id", "time":
		default:
			return false
		}
	}
	return true
}

// nextWhole reads all there is, once.
func (r *Reader) nextWhole() (Record, error) {
	if r.line++; r.line > 1 {
		return Record{}, io.EOF
	}
	data, err := io.ReadAll(r.in)
	if err != nil {
		return Record{}, inputError{err}
	}
	return Record{Line: r.line, Topic: r.o.Topic, Data: data, Key: r.o.Key}, nil
}

// readLine reads a line without its end. What it returns is the reader's until the next call.
func (r *Reader) readLine() ([]byte, error) {
	text, err := r.in.ReadSlice('\n')
	r.line++
	if err == bufio.ErrBufferFull {
		r.long = append(r.long[:0], text...)
		for err == bufio.ErrBufferFull {
			text, err = r.in.ReadSlice('\n')
			if len(r.long) <= maxLine {
				r.long = append(r.long, text...)
			}
		}
		text = r.long
		if len(text) > maxLine {
			return nil, fmt.Errorf("over %d bytes, more than any event may have", maxLine)
		}
	}
	if err != nil && (err != io.EOF || len(text) == 0) {
		if err != io.EOF {
			err = inputError{fmt.Errorf("line %d: %w", r.line, err)}
		}
		return nil, err
	}
	if r.line == 1 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r")), nil
}

// publication reads a line as POST /publish would.
func (r *Reader) publication(record *Record, text []byte) error {
	members, err := parseObject(text)
	if err != nil {
		return err
	}
	for name, value := range members {
		switch name {
		case "data":
			record.Data, err = plain(value)
		case "topic":
			err = stringMember(value, &record.Topic)
		case "event", "type":
			if name == "type" && members["event"] != nil {
				return errors.New(`both "event" and "type"; they are one`)
			}
			err = stringMember(value, &record.Event)
		case "key":
			err = stringMember(value, &record.Key)
		case "retry":
			err = json.Unmarshal(value, &record.Retry)
		case "id", "time":
		default:
			if name != r.o.TimeField {
				return fmt.Errorf("unknown key %q; topic, data, event, retry and key are known, id and time ignored. For other objects say with --data-field or --topic-field what to take", name)
			}
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if members["data"] == nil {
		return errors.New(`no "data"`)
	}
	if r.o.TimeField == "" {
		return nil
	}
	value := members[r.o.TimeField]
	if value == nil {
		inner, _ := parseObject(record.Data)
		value = inner[r.o.TimeField]
	}
	record.Time, err = timeField(r.o.TimeField, value)
	return err
}

// object takes the line whole, or what the named fields of the object in it say.
func (r *Reader) object(record *Record, text []byte) error {
	record.Data = bytes.Clone(text)
	if r.o.TopicField == "" && r.o.DataField == "" && r.o.TimeField == "" {
		return nil
	}
	members, err := parseObject(text)
	if err != nil {
		return err
	}
	if name := r.o.TopicField; name != "" {
		value, err := plain(members[name])
		if members[name] == nil || err != nil {
			return fmt.Errorf("no field %q for the topic", name)
		}
		record.Topic = r.under(string(value))
	}
	if name := r.o.DataField; name != "" {
		if members[name] == nil {
			return fmt.Errorf("no field %q for the data", name)
		}
		if record.Data, err = plain(members[name]); err != nil {
			return err
		}
	}
	if name := r.o.TimeField; name != "" {
		record.Time, err = timeField(name, members[name])
	}
	return err
}

// under is the topic that a field's value stands for.
func (r *Reader) under(value string) string {
	if r.o.Topic == "" || value == "" {
		return value
	}
	return r.o.Topic + "." + value
}

// nextRow reads a row of CSV, the header before the first.
func (r *Reader) nextRow() (Record, error) {
	if r.names == nil {
		if err := r.header(); err != nil {
			return Record{}, err
		}
	}
	row, err := r.csv.Read()
	if err != nil {
		return Record{}, r.rowError(err)
	}
	r.line, _ = r.csv.FieldPos(0)
	record := Record{Line: r.line, Topic: r.o.Topic}
	for i, cell := range row {
		if !utf8.ValidString(cell) {
			return record, fmt.Errorf("column %s is not UTF-8; events carry text only", r.columns[i])
		}
	}
	if i, ok := r.names[r.o.TopicField]; ok && r.o.TopicField != "" {
		record.Topic = r.under(row[i])
	}
	if i, ok := r.names[r.o.DataField]; ok && r.o.DataField != "" {
		record.Data = []byte(row[i])
	} else {
		record.Data = r.appendRow(nil, row)
	}
	if i, ok := r.names[r.o.TimeField]; ok && r.o.TimeField != "" {
		if record.Time, err = ParseTime(row[i]); err != nil {
			return record, fmt.Errorf("column %q: %w", r.o.TimeField, err)
		}
	}
	return record, nil
}

func (r *Reader) rowError(err error) error {
	parse, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case err == io.EOF:
		return err
	case ok:
		r.line = parse.StartLine
		return parse.Err
	default:
		return inputError{err}
	}
}

// header reads the names of the columns. Without them nothing can be read.
func (r *Reader) header() error {
	row := r.o.Columns
	if row != nil {
		r.csv.FieldsPerRecord = len(row)
	} else {
		var err error
		if row, err = r.csv.Read(); err == io.EOF {
			return inputError{errors.New("no header; CSV begins with the names of its columns, or --columns gives them")}
		} else if err != nil {
			return inputError{fmt.Errorf("header: %w", err)}
		}
	}
	r.names = make(map[string]int, len(row))
	for i, name := range row {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff") // as spreadsheets write it
		}
		if _, ok := r.names[name]; ok || name == "" || !utf8.ValidString(name) {
			return inputError{fmt.Errorf("header: column %d is %q; each column has a name of its own", i+1, name)}
		}
		r.names[strings.Clone(name)] = i
		quoted, _ := json.Marshal(name)
		r.columns = append(r.columns, string(quoted))
	}
	for _, name := range []string{r.o.TopicField, r.o.DataField, r.o.TimeField} {
		if _, ok := r.names[name]; name != "" && !ok {
			return inputError{fmt.Errorf("header: no column %q among %s; where there is no header --columns gives the names", name, strings.Join(r.columns, ", "))}
		}
	}
	return nil
}

// appendRow appends a row as a JSON object, columns in their order. A cell that is a number in
// JSON's form is one; all else is a string.
func (r *Reader) appendRow(dst []byte, row []string) []byte {
	dst = append(dst, '{')
	for i, cell := range row {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r.columns[i]...)
		dst = append(dst, ':')
		if isNumber(cell) {
			dst = append(dst, cell...)
		} else {
			dst = appendString(dst, cell)
		}
	}
	return append(dst, '}')
}

// isNumber tells whether s is a JSON number as it stands (RFC 8259 6): 1.50 and -3e5 are, 007 and
// +1 are not, for they would not come back as they were.
func isNumber(s string) bool {
	if s == "" || s[len(s)-1] < '0' || s[len(s)-1] > '9' || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return false
	}
	return json.Valid([]byte(s))
}

// parseObject splits a JSON object into its members.
func parseObject(text []byte) (map[string]json.RawMessage, error) {
	if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, fmt.Errorf("%.40q is no JSON object", text)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8; events carry text only") // encoding/json would put U+FFFD there
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
	}
	return members, nil
}

// plain is a JSON value as data: a string as it is, anything else compacted.
func plain(value json.RawMessage) ([]byte, error) {
	if len(value) > 0 && value[0] == '"' {
		var s string
		err := json.Unmarshal(value, &s)
		return []byte(s), err
	}
	var b bytes.Buffer
	err := json.Compact(&b, value)
	return b.Bytes(), err
}

func stringMember(value json.RawMessage, to *string) error {
	if len(value) == 0 || value[0] != '"' {
		return fmt.Errorf("%.40s is no string", value)
	}
	return json.Unmarshal(value, to)
}

func timeField(name string, value json.RawMessage) (time.Time, error) {
	if value == nil {
		return time.Time{}, fmt.Errorf("no field %q for the time", name)
	}
	text, err := plain(value)
	if err != nil {
		return time.Time{}, err
	}
	t, err := ParseTime(string(text))
	if err != nil {
		return t, fmt.Errorf("field %q: %w", name, err)
	}
	return t, nil
}

// appendString appends s as a JSON string, without escaping what only HTML minds.
func appendString(dst []byte, s string) []byte {
	b := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic("feed: a string is no JSON: " + err.Error()) // there is none that is not
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
