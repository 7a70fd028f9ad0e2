package server

// The limits that hold, as each part is told of them and as people see them. Any goroutine.

import (
	"reflect"
	"slices"
	"time"

	"penstock/server/accept"
	"penstock/server/api"
	"penstock/server/fanout"
)

// acceptLimits are those of the main addresses.
func (s *Server) acceptLimits() accept.Limits {
	c := s.current()
	return accept.Limits{
		MaxConnections: s.maxConnections(),
		MaxPerAddress:  c.MaxConnectionsPerIP,
		MaxRequests:    c.MaxRequests,
		BodyMemory:     int64(c.BodyMemory),
		AcceptRate:     c.AcceptRate,
	}
}

// adminLimits are those of the admin address: what limits clients does not keep out whoever looks
// why clients are refused.
func (s *Server) adminLimits() accept.Limits {
	return accept.Limits{MaxConnections: s.maxConnections(), MaxRequests: s.current().MaxRequests, BodyMemory: int64(s.current().BodyMemory)}
}

// fanoutLimits are those of streams.
func (s *Server) fanoutLimits() fanout.Limits {
	c := s.current()
	return fanout.Limits{
		LagMemory: int64(c.LagMemory), RetryMin: c.RetryMin, RetryMax: c.RetryMax,
		MaxLag: int64(c.MaxLag), MaxAge: c.MaxAge, StallTimeout: c.UserTimeout,
	}
}

// apiLimits are those of requests.
func (s *Server) apiLimits() api.Limits {
	c := s.current()
	return api.Limits{
		MaxTopicsPerSubscriber: c.MaxTopicsPerSubscriber,
		MaxSubscribersPerTopic: c.MaxSubscribersPerTopic,
		PublishRate:            c.PublishRate,
		BodyMemory:             int64(c.BodyMemory),
		MinInterval:            c.MinInterval,
		RetryMin:               c.RetryMin,
		RetryMax:               c.RetryMax,
	}
}

// shownGroups are the groups of settings whose numbers are limits.
var shownGroups = []string{"Limits", "Memory", "Streams", "Publishing", "More machines"}

// limits are shown in /stats and the metrics: every number of the groups above, as it holds.
func (s *Server) limits() (all []api.Limit) {
	v := reflect.ValueOf(s.current()).Elem()
	for _, setting := range Settings() {
		if !slices.Contains(shownGroups, setting.Group) {
			continue
		}
		l := api.Limit{Name: setting.Name}
		switch n := v.Field(setting.index).Interface().(type) {
		case int:
			l.Value = float64(n)
		case Size:
			l.Value = float64(n)
		case time.Duration:
			l.Value = n.Seconds()
		default:
			continue
		}
		switch setting.Name {
		case "max-connections":
			l.Value = float64(s.maxConnections())
		case "memory-limit":
			l.Value = float64(s.memory.limit.Load())
		}
		all = append(all, l)
	}
	return all
}
