package samples

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Samples are the same each time, as many as were asked for, and not all alike.
func TestSamplesAreTheSameEachTime(t *testing.T) {
	t.Setenv("PENSTOCK_TRADES", "")
	a, err := Trades(1500)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Trades(1500)
	if len(a) != 1500 || !reflect.DeepEqual(a, b) || bytes.Equal(a[0].Data, a[1].Data) {
		t.Errorf("%d trades, %s and %s", len(a), a[0].Data, b[0].Data)
	}
	for i := range a[1:] {
		if a[i].At >= a[i+1].At {
			t.Fatalf("trade %d is of %d, the one before of %d", i+1, a[i+1].At, a[i].At)
		}
	}
	if f := Fragments(20); len(f) != 20 || !reflect.DeepEqual(f, Fragments(20)) || bytes.Equal(f[0], f[1]) {
		t.Errorf("%d fragments, %.60q and %.60q", len(f), f[0], f[1])
	}
}

// A recording's trades come again and again; a file that is none is named with its line.
func TestTradesOfARecording(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trades.csv")
	t.Setenv("PENSTOCK_TRADES", file)
	for text, want := range map[string]string{
		"1605499846,15993.5,0.026472,ANY\n1605499847,15994.96,0.227,ANY\n": "",
		"":                 "no lines in it",
		"a,b\n":            "line 1: 2 fields",
		"1,2,3,4\nx,2,3,4": "line 2: ",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		trades, err := Trades(5)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", text, err, want)
		case want == "" && (err != nil || len(trades) != 5 || !strings.Contains(string(trades[3].Data), `"p":"15994.96","q":"0.227"`)):
			t.Errorf("%q: %v, error %v", text, trades, err)
		}
	}
	t.Setenv("PENSTOCK_TRADES", file+".none")
	if _, err := Trades(1); err == nil || !strings.Contains(err.Error(), "PENSTOCK_TRADES") {
		t.Errorf("a file that is not there: error %v", err)
	}
}
