package feed

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/encode"
)

// read all of the input; a line each for what came of it.
func readAll(t *testing.T, input string, o ReaderOptions) []string {
	t.Helper()
	r := NewReader(strings.NewReader(input), o)
	var got []string
	for {
		record, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			got = append(got, "error: "+err.Error())
			if _, ok := errors.AsType[*LineError](err); !ok {
				return got
			}
			continue
		}
		text := fmt.Sprintf("%d %s", record.Line, record.Topic)
		if record.Event != "" {
			text += " " + record.Event
		}
		if record.Retry != 0 {
			text += fmt.Sprintf(" retry=%d", record.Retry)
		}
		if record.Key != "" {
			text += " key=" + record.Key
		}
		if !record.Time.IsZero() {
			text += " " + record.Time.Format(time.RFC3339Nano)
		}
		got = append(got, text+": "+string(record.Data))
	}
}

func TestReaderTakesEachFormat(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     ReaderOptions
		input string
		want  []string
	}{
		{"lines", ReaderOptions{Format: Lines, Topic: "t", Event: "e"}, "one\n\n  two \r\nthree", []string{
			"1 t e: one", "3 t e:   two ", "4 t e: three"}},
		{"lines of objects", ReaderOptions{Format: Lines, Topic: "q", TopicField: "region", DataField: "d", TimeField: "t"},
			`{"region":"japan","d":{"a": 1},"t":1517363399650}` + "\n" + `{"region":7,"d":"x","t":"2026-01-02T03:04:05Z"}` + "\n[1]\n{}\n", []string{
				`1 q.japan 2018-01-31T01:49:59.65Z: {"a":1}`,
				`2 q.7 2026-01-02T03:04:05Z: x`,
				`error: line 3: "[1]" is no JSON object`,
				`error: line 4: no field "region" for the topic`}},
		{"ndjson", ReaderOptions{Format: NDJSON, Topic: "t"}, "\ufeff" + `{"data":"plain <>&"}
{"topic":"a.b","event":"e","data":{"x": [1, 2.50]},"retry":5,"key":"k","id":"9","time":"whenever"}

{"type":"e","data":null}
{"topic":"a"}
{"data":1,"nonsense":2}
{"data":1,"event":"a","type":"a"}
{"data":1,"topic":7}
{"data":1,"retry":"x"}
{"data":1
"text"
`, []string{
			"1 t: plain <>&",
			`2 a.b e retry=5 key=k: {"x":[1,2.50]}`,
			"4 t e: null",
			`error: line 5: no "data"`,
			`error: line 6: unknown key "nonsense"; topic, data, event, retry and key are known, id and time ignored. For other objects say with --data-field or --topic-field what to take`,
			`error: line 7: both "event" and "type"; they are one`,
			`error: line 8: "topic": 7 is no string`,
			`error: line 9: "retry": json: cannot unmarshal string into Go value of type int`,
			`error: line 10: no JSON object: unexpected end of JSON input`,
			`error: line 11: "\"text\"" is no JSON object`}},
		{"ndjson with times", ReaderOptions{Format: NDJSON, Topic: "t", TimeField: "at"},
			`{"data":{"at":1517363399.65}}` + "\n" + `{"at":"1517363399650000","data":{"at":1}}` + "\n" + `{"data":"x"}` + "\n", []string{
				`1 t 2018-01-31T01:49:59.65Z: {"at":1517363399.65}`,
				`2 t 2018-01-31T01:49:59.65Z: {"at":1}`,
				`error: line 3: no field "at" for the time`}},
		{"any ndjson", ReaderOptions{Format: NDJSON, TopicField: "sym"}, `{"sym":"A","price":1.50}`, []string{
			`1 A: {"sym":"A","price":1.50}`}},
		{"auto, from subscribe", ReaderOptions{Format: Auto, Topic: "t"}, "\n" + `{"event":"e","data":"x","id":"5","time":"2026-01-02T03:04:05.000000Z"}` + "\nnonsense\n", []string{
			"2 t e: x",
			`error: line 3: "nonsense" is no JSON object`}},
		{"auto, any object", ReaderOptions{Format: Auto, Topic: "t"}, `{"data":"x","time":1,"price":2}` + "\n" + `{"event":"e","data":"x","time":"now"}` + "\n", []string{
			`1 t: {"data":"x","time":1,"price":2}`,
			`2 t: {"event":"e","data":"x","time":"now"}`}},
		{"auto, text", ReaderOptions{Format: Auto, Topic: "t"}, "one\n", []string{"1 t: one"}},
		{"csv", ReaderOptions{Format: CSV, Topic: "trades", TopicField: "sym", TimeField: "t"},
			"\ufefft,sym,price,note\n1600000000,A,1.50,\"say \"\"hi\"\"\nthere\"\n1600000001,B,007,\n1600000002,C\n1600000003,D,-3e5,<b>\nx,E,1,\n", []string{
				`2 trades.A 2020-09-13T12:26:40Z: {"t":1600000000,"sym":"A","price":1.50,"note":"say \"hi\"\nthere"}`,
				`4 trades.B 2020-09-13T12:26:41Z: {"t":1600000001,"sym":"B","price":"007","note":""}`,
				`error: line 5: wrong number of fields`,
				`6 trades.D 2020-09-13T12:26:43Z: {"t":1600000003,"sym":"D","price":-3e5,"note":"<b>"}`,
				`error: line 7: column "t": time "x": it takes a number of seconds, milliseconds or microseconds since 1970, or RFC 3339: 2026-01-02T15:04:05Z`}},
		{"csv, one column is the data", ReaderOptions{Format: CSV, Topic: "t", DataField: "d"}, "d,e\nx,1\n", []string{"2 t: x"}},
		{"csv without a header", ReaderOptions{Format: CSV, Topic: "t"}, "", []string{"error: no header; CSV begins with the names of its columns, or --columns gives them"}},
		{"csv with columns", ReaderOptions{Format: CSV, Topic: "t", Columns: []string{"a", "b"}}, "1,x\n2\n3,y\n", []string{
			`1 t: {"a":1,"b":"x"}`,
			"error: line 2: wrong number of fields",
			`3 t: {"a":3,"b":"y"}`}},
		{"csv with a column twice", ReaderOptions{Format: CSV, Topic: "t"}, "a,a\n", []string{`error: header: column 2 is "a"; each column has a name of its own`}},
		{"csv without the column", ReaderOptions{Format: CSV, Topic: "t", TimeField: "when"}, "a,b\n1,2\n", []string{`error: header: no column "when" among "a", "b"; where there is no header --columns gives the names`}},
		{"whole", ReaderOptions{Format: Whole, Topic: "t"}, "a\nb\n", []string{"1 t: a\nb\n"}},
		{"whole and empty", ReaderOptions{Format: Whole, Topic: "t"}, "", []string{"1 t: "}},
		{"no topic", ReaderOptions{Format: NDJSON}, `{"data":1}`, []string{"error: line 1: no topic; name one behind the URL, or the field that has it with --topic-field"}},
		{"not UTF-8", ReaderOptions{Format: Lines, Topic: "t"}, "a\xff", []string{"error: line 1: data: byte 0xff at 1 of 2 is not UTF-8; events carry text only"}},
		{"JSON not UTF-8", ReaderOptions{Format: NDJSON, Topic: "t"}, "{\"data\":\"\xff\"}", []string{"error: line 1: not UTF-8; events carry text only"}},
		{"CSV not UTF-8", ReaderOptions{Format: CSV, Topic: "t"}, "a\n\xff\n", []string{`error: line 2: column "a" is not UTF-8; events carry text only`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := readAll(t, c.input, c.o); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// What a server says of its own stream is no event, and no error either: a bridge goes on.
func TestServersOwnEventsAreSkipped(t *testing.T) {
	r := NewReader(strings.NewReader(`{"event":"gap","data":"{\"reason\":\"lag\"}"}`+"\n"+`{"event":"heartbeat","data":""}`+"\n"+`{"event":"error","data":""}`), ReaderOptions{Format: NDJSON, Topic: "t"})
	for range 2 {
		_, err := r.Next()
		if _, ok := errors.AsType[*SkippedError](err); !ok {
			t.Errorf("%v, want it skipped", err)
		}
	}
	_, err := r.Next()
	if _, ok := errors.AsType[*SkippedError](err); ok || err == nil {
		t.Errorf("%v, want it refused: some server's event of that name would be lost in silence", err)
	}
}

// A line longer than any event is refused, and the next one read.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	got := readAll(t, long+"\nshort\n", ReaderOptions{Format: Lines, Topic: "t"})
	if len(got) != 2 || got[0] != "1 t: "+long || got[1] != "2 t: short" {
		t.Errorf("%d records of %.20q", len(got), got)
	}
	got = readAll(t, strings.Repeat("x", maxLine+100<<10)+"\nshort\n", ReaderOptions{Format: Lines, Topic: "t"})
	if len(got) != 2 || !strings.HasPrefix(got[0], "error: line 1: over ") || got[1] != "2 t: short" {
		t.Errorf("%d records of %.80q", len(got), got)
	}
}

// A broken pipe on the way in is an error, not the input's end.
func TestInputErrorIsTold(t *testing.T) {
	broken := errors.New("broken")
	for _, format := range []Format{Lines, NDJSON, CSV, Whole} {
		r := NewReader(io.MultiReader(strings.NewReader("data\n"), failing{broken}), ReaderOptions{Format: format, Topic: "t"})
		for {
			_, err := r.Next()
			if _, ok := errors.AsType[*LineError](err); err == nil || ok {
				continue
			}
			if !errors.Is(err, broken) {
				t.Errorf("%s: %v", format, err)
			}
			break
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever stands on a line of NDJSON: no record passes that the server's rules refuse, and
// what is written of a record is read as the same one.
func FuzzRecordsAreWhatTheServerTakes(f *testing.F) {
	f.Add(`{"topic":"a","data":"x","event":"e"}`)
	f.Add(`{"data":{"x":"\ud800"}}`)
	f.Add(`{"data":"\u0000","type":"é"}`)
	f.Fuzz(func(t *testing.T, line string) {
		r := NewReader(strings.NewReader(line), ReaderOptions{Format: NDJSON, Topic: "t"})
		for {
			record, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				continue
			}
			e := encode.Event{Type: record.Event, Data: record.Data, Retry: record.Retry}
			if err := e.Check(); err != nil {
				t.Fatal(err)
			}
			again, err := NewReader(strings.NewReader(string(appendRecord(nil, &record))), ReaderOptions{Format: NDJSON}).Next()
			if err != nil || again.Topic != record.Topic || again.Event != record.Event || string(again.Data) != string(record.Data) || again.Retry != record.Retry || again.Key != record.Key {
				t.Fatalf("%+v was written as %s, read as %+v, %v", record, appendRecord(nil, &record), again, err)
			}
		}
	})
}
