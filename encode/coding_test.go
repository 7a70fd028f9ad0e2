package encode

import "testing"

func TestChooseCoding(t *testing.T) {
	for accept, want := range map[string]Coding{
		"":                                      Identity,
		"gzip":                                  Gzip,
		"gzip, deflate":                         Gzip, // browsers on http
		"gzip, deflate, br, zstd":               Gzip, // on https
		"deflate, gzip, br, zstd":               Gzip, // curl --compressed
		"GZip":                                  Gzip,
		"x-gzip":                                Gzip,
		"*":                                     Gzip,
		"*;q=0.001":                             Gzip,
		" \tgzip ; q=0.5\t":                     Gzip,
		"gzip;Q=1.000":                          Gzip,
		",, ,gzip,":                             Gzip,
		"identity, gzip":                        Gzip, // the same weight: the one offered
		"identity;q=0.5, gzip;q=0.5":            Gzip,
		"br;q=1.0, gzip;q=0.8, *;q=0.1":         Gzip,
		"gzip;q=0.001":                          Gzip, // identity is not named
		"gzip;q=0.2, identity;q=0":              Gzip,
		"gzip, gzip;q=0.5":                      Gzip,
		"gzip;q=0.5, identity;q=0.7, *;q=0":     Identity,
		"gzip;q=0.1, *;q=0.5":                   Identity, // the star is identity's
		"gzip;q=0":                              Identity,
		"gzip;q=0.000, *":                       Identity,
		"gzip, x-gzip;q=0":                      Identity, // who excludes it once is believed
		"identity":                              Identity,
		"br, zstd":                              Identity,
		"*;q=0":                                 Identity, // nothing is left: identity all the same
		"identity;q=0":                          Identity,
		"deflate":                               Identity,
		"gzip;q=2":                              Identity, // not a weight: passed over
		"gzip;q=1.001":                          Identity,
		"gzip;q=0.0001":                         Identity,
		"gzip;q=.5":                             Identity,
		"gzip;q=":                               Identity,
		"gzip;q":                                Identity,
		"gzip;level=9":                          Identity,
		"gzip;q=1;q=1":                          Identity,
		"gzip q=1":                              Identity,
		"gzip deflate":                          Identity,
		"gz\u0131p":                             Identity,
		"\"gzip\"":                              Identity,
		"gzip\x00":                              Identity,
		"sdch;q=0.5, gzip;q=0.1, identity;q=0.": Gzip,
	} {
		if got := ChooseCoding(accept, []Coding{Gzip}); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

// What is not offered is never chosen, whatever the header says.
func TestChooseCodingKeepsToTheOffer(t *testing.T) {
	for _, offered := range [][]Coding{nil, {Identity}, {codings}, {255}} {
		for _, accept := range []string{"gzip", "*", "gzip, identity;q=0"} {
			if got := ChooseCoding(accept, offered); got != Identity {
				t.Errorf("%q of %v: %v, want identity", accept, offered, got)
			}
		}
	}
	if got := ChooseCoding("gzip", []Coding{Identity, Gzip}); got != Gzip {
		t.Errorf("identity offered first: %v, want gzip", got)
	}
}

func TestCodingsHaveTheirNames(t *testing.T) {
	for c := range codings {
		got, err := ParseCoding(c.String())
		if got != c || err != nil {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	_, err := ParseCoding("br")
	if want := `coding "br": unknown; identity or gzip`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got := codings.String(); got != "coding 2" {
		t.Errorf("an unknown coding is %q", got)
	}
}

func FuzzChooseCodingAgreesWithSlowTwin(f *testing.F) {
	f.Add("gzip, deflate, br;q=0.5, *;q=0", true)
	f.Add("identity;q=0.5,\tx-gzip ; Q=0.123", false)
	f.Add("gzip;q=1.0000, gzip;q=0.1,*;q=1.", true)
	f.Fuzz(func(t *testing.T, accept string, offer bool) {
		var offered []Coding
		if offer {
			offered = []Coding{Gzip}
		}
		if got, want := ChooseCoding(accept, offered), slowChoose(accept, offered); got != want {
			t.Errorf("%q of %v: %v, want %v", accept, offered, got, want)
		}
	})
}
