package main

// The command promises: each row of rows.go, its contenders in turn.

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"penstock/loadtest"
)

// promises runs the rows and writes what they found.
func (s *session) promises(ctx context.Context) error {
	res := &Result{
		Title: "What is promised, and what was measured", Date: today(), Command: "go run ./bench",
		Rounds: s.rounds, Seconds: s.duration.Seconds(), Machine: loadtest.ThisMachine(),
	}
	res.Version = s.version(ctx)
	if err := s.rows(ctx, res, rows()); err != nil {
		return err
	}
	return s.save(res, "promises")
}

// rows runs those rows that are asked for, and judges them. It goes on over promises that were
// not kept: the result says so.
func (s *session) rows(ctx context.Context, res *Result, all []row) error {
	for _, name := range s.only {
		if !slices.ContainsFunc(all, func(r row) bool { return r.name == name }) {
			return fmt.Errorf("row %q: not known; %s are", name, rowNames(all))
		}
	}
	skipped := map[string]string{}
	for _, r := range all {
		if len(s.only) > 0 && !slices.Contains(s.only, r.name) {
			continue
		}
		cfg := base(s.duration)
		r.config(&cfg)
		reports, left, err := s.allRounds(ctx, r.name, r.contenders, cfg)
		if err != nil {
			return err
		}
		for k, why := range left {
			skipped[k] = why
		}
		rr := rowResult(r.name, r.title, r.figures, r.contenders, reports)
		rr.judge(r.promises)
		res.Rows = append(res.Rows, rr)
		for _, v := range rr.Verdicts {
			fmt.Fprintf(os.Stderr, "%-14s %s  %s\n", r.name, map[bool]string{true: "ok ", false: "NOT"}[v.Kept], v.Text)
		}
	}
	for k, why := range skipped {
		res.Skipped = append(res.Skipped, k+": "+why)
	}
	slices.Sort(res.Skipped)
	if len(s.only) > 0 {
		res.Notes = append(res.Notes, "only the rows "+strings.Join(s.only, ", "))
	}
	return nil
}

// save writes a result; one of some rows only does not replace the whole.
func (s *session) save(res *Result, name string) error {
	if len(s.only) > 0 {
		name += "-part"
	}
	return res.write(s.out, name)
}

func rowNames(all []row) string {
	var names []string
	for _, r := range all {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}
