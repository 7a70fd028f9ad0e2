package main

// How flags are read and how --help shows them: kong's types and texts in Penstock's words. Runs
// while the command line is parsed.

import (
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"penstock/server"
)

// flagOptions are what every command's flags have in common.
func flagOptions() []kong.Option {
	return []kong.Option{
		kong.TypeMapper(reflect.TypeFor[time.Duration](), textMapper(server.ParseDuration)),
		kong.TypeMapper(reflect.TypeFor[server.Size](), textMapper(server.ParseSize)),
		kong.KindMapper(reflect.Int, textMapper(server.ParseCount)),
		kong.ValueFormatter(describe),
		kong.PostBuild(nameEnvironment),
	}
}

// textMapper lets kong read a flag by a parser of server's, so that a value is read alike and
// refused with the same words wherever it comes from.
func textMapper[T any](parse func(string) (T, error)) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		if ctx.Scan.Peek().IsEOL() {
			return errors.New("it takes a value")
		}
		var text string
		if err := ctx.Scan.PopValueInto("a", &text); err != nil {
			return err
		}
		v, err := parse(text)
		if err != nil {
			return err
		}
		target.Set(reflect.ValueOf(v).Convert(target.Type()))
		return nil
	}
}

// nameEnvironment gives the settings of serve their environment variables and placeholders, which
// follow from name and unit.
func nameEnvironment(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		if command.Name != "serve" {
			continue
		}
		for _, flag := range command.Flags {
			flag.Envs = []string{server.EnvName(flag.Name)}
			flag.Tag.Envs = flag.Envs
			if choice := flag.Tag.Get("oneof"); choice != "" {
				flag.PlaceHolder = strings.ReplaceAll(choice, ",", "|")
			} else if unit, _, _ := strings.Cut(flag.Tag.Get("unit"), ","); unit != "" {
				flag.PlaceHolder = strings.ToUpper(unit)
			}
		}
	}
	return nil
}

// describe is a flag's or argument's text in --help: what it does, then what its placeholder does
// not say of the unit, the default and the environment variable.
func describe(v *kong.Value) string {
	var facts []string
	if _, more, ok := strings.Cut(v.Tag.Get("unit"), ", "); ok && v.Tag.Get("oneof") == "" {
		facts = append(facts, more)
	}
	if v.HasDefault && v.Default != "" && (!v.IsBool() || v.Default == "true") {
		facts = append(facts, "default "+v.Default)
	}
	if v.Tag.Get("live") != "" {
		facts = append(facts, "SIGHUP")
	}
	for _, env := range v.Tag.Envs {
		facts = append(facts, "$"+env)
	}
	if len(facts) == 0 {
		return v.Help
	}
	return v.Help + " [" + strings.Join(facts, "; ") + "]"
}
