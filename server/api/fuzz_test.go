package api

// Properties of the readers: they agree with their slow twins.

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

var ndjsonSeeds = []string{
	`{"topic":"a.b","data":"hello"}`,
	`{"data":{"a": [1, 2.5e-3, -0, "x y", {"b":null}], "c" : true}}`,
	`{"data":"\ud83d\ude00 \u00e9\n\"\\\/\b\f\r\t"}`,
	`{"data":"\ud83d"}`, `{"data":"\ude00\ud83d"}`, `{"data":"\ud83d\u0041"}`, `{"data":"\\ud83d"}`,
	`{"data":1,"event":"trade","retry":3000,"id":"17","time":{"a":1}}`,
	`{"data":1,"type":"trade"}`, `{"data":1,"type":"trade","event":"x"}`, `{"data":1,"data":2}`,
	`{"data":1,}`, `{,"data":1}`, `{"data":1}{"data":2}`, `{"data":1} x`, `{"data":01}`, `{"data":1.}`, `{"data":.5}`, `{"data":1e}`, `{"data":-}`,
	`{"data":tru}`, `{"data":nullx}`, `{"data"}`, `{"data":}`, `{data:1}`, `[1]`, `"x"`, `1`, `null`, "", "  \t\r", "{}", "{", `{"data":"`, `{"data":"x`,
	`{"data":[1,]}`, `{"data":[,1]}`, `{"data":{"a":1,}}`, `{"data":{"a"}}`, `{"data":[[[[]]]]}`, "{\"data\":\"a\tb\"}", "{\"data\":\"a\x00b\"}",
	`{"\u0064ata":1}`, `{"data":1,"\u0064ata":2}`, `{"data":1,"retry":1.0}`, `{"data":1,"retry":-1}`, `{"data":1,"retry":2147483648}`, `{"data":1,"retry":"1"}`,
	`{"data":1,"topic":null}`, `{"data":1,"topic":5}`, `{"data":1,"event":null}`, `{"data":"` + strings.Repeat("x", 70) + `\u0041"}`,
	"{\"data\":\"\u2028\ufffd\"}", `{"data":"\ufffd"}`, `{"data": "x" , "id" : [ 1 , 2 ] }`, `{"data":"12345678\"12345678"}`,
}

// A line of NDJSON is taken or refused as encoding/json does, and gives the same event.
func FuzzNDJSONAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range ndjsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if !utf8.Valid(line) {
			return // refused before it gets here
		}
		var s scanner
		var fast event
		fastBlank, fastErr := s.event(line, &fast)
		slow, slowBlank, slowErr := slowEvent(line)
		if fastErr != nil && slowErr != nil {
			return
		}
		if (fastErr == nil) != (slowErr == nil) || fastBlank != slowBlank {
			t.Fatalf("%q: scanner says blank %v, %v; encoding/json says blank %v, %v", line, fastBlank, fastErr, slowBlank, slowErr)
		}
		if !fastBlank && !sameEvent(&fast, &slow) {
			t.Fatalf("%q: scanner has %+v, encoding/json has %+v", line, fast, slow)
		}
	})
}

// Where both take a query, names and values are those of net/url; and what is no broken escape
// is taken.
func FuzzQueryAgreesWithNetURL(f *testing.F) {
	for _, s := range []string{"", "a=1", "a=1&b=2", "a", "a=", "=1", "&&", "a=1&&b", "a=%41%2b+x", "a=%", "a=%4", "a=%zz", "%61=1", "a=1;b=2", "topic=stocks.*&lastEventId=1", "a=b=c", "+=+"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, query []byte) {
		fast, fastErr := readPairs(query)
		slow, slowErr := slowQuery(string(query))
		if slowErr == nil && fastErr != nil {
			t.Fatalf("%q: refused with %v, net/url takes it", query, fastErr)
		}
		if slowErr == nil && len(slow)+len(fast) > 0 && !reflect.DeepEqual(fast, slow) {
			t.Fatalf("%q: %q, net/url has %q", query, fast, slow)
		}
	})
}
