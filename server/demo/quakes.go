package demo

// The recorded quakes, and their replay. Run's goroutine.

import (
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// recording is one week of earthquakes, oldest first; README.md says where it is from.
//
//go:embed quakes.csv
var recording string

// roundPause lies between the recording's last event and its first one again, which have no
// distance of their own. It is about the mean distance of two events.
const roundPause = 400 * time.Millisecond

// A quake is one event of the recording, ready to be published.
type quake struct {
	due   time.Duration // since the recording's first event, at the replay's pace
	topic string
	data  []byte // JSON
}

// A replay goes through a recording over and over.
type replay struct {
	quakes []quake
	i      int           // the next one
	round  time.Duration // when this round began
}

// newReplay reads a recording as CSV: time in milliseconds since 1970, magnitude, longitude,
// latitude, depth in km, place, with a header line.
func newReplay(recording string, speed int) (*replay, error) {
	rows, err := csv.NewReader(strings.NewReader(recording)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("demo: recorded quakes: %w", err)
	}
	if len(rows) < 2 || len(rows[0]) != 6 {
		return nil, fmt.Errorf("demo: recorded quakes: %d lines, want a header with 6 columns and at least one event", len(rows))
	}
	rows = rows[1:]
	r := &replay{quakes: make([]quake, len(rows))}
	var first int64
	for i, row := range rows {
		ms, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("demo: recorded quakes, line %d: time: %w", i+2, err)
		}
		if i == 0 {
			first = ms
		}
		region := Region(row[5])
		data, err := json.Marshal(struct {
			Region    string      `json:"region"`
			Magnitude json.Number `json:"magnitude"`
			Place     string      `json:"place"`
			Longitude json.Number `json:"longitude"`
			Latitude  json.Number `json:"latitude"`
			Depth     json.Number `json:"depth"`
			Time      string      `json:"time"`
			Replayed  bool        `json:"replayed"`
		}{
			Region: region, Magnitude: json.Number(row[1]), Place: row[5],
			Longitude: json.Number(row[2]), Latitude: json.Number(row[3]), Depth: json.Number(row[4]),
			Time:     time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"),
			Replayed: true, // real, but years old: nobody shall take it for news
		})
		if err != nil {
			return nil, fmt.Errorf("demo: recorded quakes, line %d: %w", i+2, err)
		}
		r.quakes[i] = quake{
			due:   time.Duration(ms-first) * time.Millisecond / time.Duration(speed),
			topic: "demo.quakes." + region,
			data:  data,
		}
		if i > 0 && r.quakes[i].due < r.quakes[i-1].due {
			return nil, fmt.Errorf("demo: recorded quakes, line %d: older than the line before", i+2)
		}
	}
	return r, nil
}

func (r *replay) due() time.Duration { return r.round + r.quakes[r.i].due }

func (r *replay) next(_ time.Time, p *topic.Publication) {
	q := &r.quakes[r.i]
	p.Topic = q.topic
	p.Event = encode.Event{Type: "quake", Data: q.data}
	if r.i++; r.i == len(r.quakes) {
		r.i = 0
		r.round += q.due + roundPause
	}
}

// regions are the places whose last part is no good name of a region as it stands: codes, and
// names longer than anyone would type.
var regions = map[string]string{
	"CA":                               "california",
	"NV":                               "nevada",
	"MX":                               "mexico",
	"U.S. Virgin Islands":              "virgin-islands",
	"British Virgin Islands":           "virgin-islands",
	"Gulf of Alaska":                   "alaska",
	"Kiribati region":                  "kiribati",
	"Democratic Republic of the Congo": "congo",
	"Southern Mid-Atlantic Ridge":      "mid-atlantic-ridge",
	"South Georgia and the South Sandwich Islands":          "south-sandwich-islands",
	"Off the east coast of the North Island of New Zealand": "new-zealand",
}

// Region answers the region of a place as USGS writes it, as a token of a topic: "4km W of
// Castaic, CA" is "california", "77km N of Hualien, Taiwan" is "taiwan". Any goroutine.
func Region(place string) string {
	if i := strings.LastIndex(place, ", "); i >= 0 {
		place = place[i+2:]
	}
	if region, ok := regions[place]; ok {
		return region
	}
	words := strings.FieldsFunc(strings.ToLower(place), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if len(words) == 0 {
		return "elsewhere"
	}
	return strings.Join(words, "-")
}
