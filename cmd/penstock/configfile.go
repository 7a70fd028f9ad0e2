package main

// The YAML file of --config: its keys are the names of serve's flags. A flag beats the
// environment, the environment beats the file, the file beats the default. Runs while the command
// line is parsed.

import (
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// A configFile answers kong what the file says of a flag.
type configFile struct {
	path   string
	values map[string]configValue
}

type configValue struct {
	text string
	line int
}

// open reads the file that the command line or the environment names. Kong calls it before it
// resolves flags, when --config is known.
func (f *configFile) open(ctx *kong.Context) error {
	command := ctx.Selected()
	if command == nil || command.Name != "serve" {
		return nil
	}
	for _, flag := range command.Flags {
		if flag.Name == "config" {
			f.path, _ = ctx.FlagValue(flag).(string)
		}
	}
	if f.path == "" {
		return nil
	}
	return f.load(command.Flags)
}

// Validate is there for kong; the file is judged when it is read.
func (f *configFile) Validate(*kong.Application) error { return nil }

// Resolve returns the text that the file has for the flag, or nil. A value that the flag does not
// take is an error that names the line.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	decode := kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value.text, kong.FlagValueToken)}
	if err := flag.Value.Mapper.Decode(&decode, reflect.New(flag.Value.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", f.path, value.line, err)
	}
	return value.text, nil
}

// load reads the file into f.values. Allowed are one document, a mapping from names of flags to
// scalars, or to a list of them where the flag may be repeated.
func (f *configFile) load(flags []*kong.Flag) error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return fmt.Errorf("--config %s: %s", f.path, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	f.values = map[string]configValue{}
	if len(file.Docs) > 1 {
		return fmt.Errorf("--config %s: %d documents; allowed is one", f.path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.CommentType {
		return nil // nothing but comments
	}
	mapping, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return fmt.Errorf("--config %s: a %s; allowed is one mapping from settings to values: ring-size: 256MiB", f.path, strings.ToLower(file.Docs[0].Body.Type().String()))
	}
	for _, entry := range mapping.Values {
		token := entry.Key.GetToken()
		flag := flagNamed(flags, token.Value)
		if flag == nil {
			return fmt.Errorf("%s:%d: no setting %q; keys are the flags of penstock serve --help without their dashes", f.path, token.Position.Line, token.Value)
		}
		value, err := scalars(entry.Value, flag.IsSlice())
		if err != nil {
			return fmt.Errorf("%s:%d: %s: %w", f.path, token.Position.Line, token.Value, err)
		}
		f.values[flag.Name] = configValue{value, token.Position.Line}
	}
	return nil
}

// flagNamed finds the flag that a key of the file may set: not help, and not the file itself.
func flagNamed(flags []*kong.Flag, name string) *kong.Flag {
	for _, flag := range flags {
		if flag.Name == name && name != "config" && name != "help" {
			return flag
		}
	}
	return nil
}

// scalars returns a scalar's text as the file has it, or a list's texts joined by commas, which is
// what a repeated flag takes.
func scalars(node ast.Node, list bool) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.SequenceNode:
		if !list {
			break
		}
		var all []string
		for _, v := range n.Values {
			text, err := scalars(v, false)
			if err != nil {
				return "", err
			}
			all = append(all, text)
		}
		return strings.Join(all, ","), nil
	}
	if list {
		return "", fmt.Errorf("a %s; allowed is a value or a list of values", strings.ToLower(node.Type().String()))
	}
	return "", fmt.Errorf("a %s; allowed is one value", strings.ToLower(node.Type().String()))
}
