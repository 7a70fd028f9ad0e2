package server

// New settings for a server that runs: what can change does, all of it or nothing; what can't is
// named in the log. Any goroutine.

import (
	"fmt"
	"reflect"

	"penstock/server/auth"
)

// current are the settings that hold now. They must not be changed.
func (s *Server) current() *Config {
	if c := s.changed.Load(); c != nil {
		return c
	}
	return &s.config
}

// Reload takes new settings over while the server runs, and reads the publish tokens again. An error
// says what is wrong with them; then nothing has changed. Settings that can't change while the
// server runs (Setting.Live is false) stay as they are, and the log names each that differs.
//
// Requests and connections that come from then on find the new ones, each kind of them all at once.
// Who is in is not thrown out by a lower limit. Any goroutine, one at a time.
func (s *Server) Reload(to Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if err := to.Check(); err != nil {
		return err
	}
	now := s.current()
	from, into := reflect.ValueOf(now).Elem(), reflect.ValueOf(&to).Elem()
	var say []func()
	for _, setting := range Settings() {
		was, is := fmt.Sprint(from.Field(setting.index).Interface()), fmt.Sprint(into.Field(setting.index).Interface())
		switch {
		case was == is:
		case setting.Live:
			say = append(say, func() { s.log.Info("setting changed", "setting", setting.Name, "was", was, "is", is) })
		default:
			into.Field(setting.index).Set(from.Field(setting.index))
			say = append(say, func() {
				s.log.Warn("this setting can't change while the server runs; it takes a restart", "setting", setting.Name)
			})
		}
	}
	if err := to.Check(); err != nil {
		return fmt.Errorf("beside what can't change while the server runs: %w", err)
	}
	policy, err := auth.New(to.policy())
	if err != nil {
		return err
	}
	if err := s.api.Rule(policy, to.CORSOrigin); err != nil {
		return err
	}
	s.changed.Store(&to)
	s.memory.limit.Store(s.memoryLimit())
	s.api.Limit(s.apiLimits())
	s.shards.Limit(s.fanoutLimits())
	s.main.Load().Limit(s.acceptLimits())
	if s.admin != nil {
		s.admin.Limit(s.adminLimits())
	}
	for _, line := range say {
		line()
	}
	return nil
}
