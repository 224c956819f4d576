package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// PatchError says which patch of a series does not apply, and where.
type PatchError struct {
	File    string // that it was read from
	Subject string
	Number  int // of Total in the series, from 1
	Total   int
	Source  string // that it was applied to
	There   bool   // the source has the patch already
	Hunks   []Hunk // that were refused; the first of each file
	Output  string // what git said
	Base    string // the commit that the series was made for; "" if it does not say
}

// Hunk is one that does not apply.
type Hunk struct {
	File   string
	Line   int    // where the hunk expects its context
	Header string // its @@ line
	// The first line of the hunk that is not as expected, where the file is
	// most like it.
	Want, Got string
	At        int // line of Got; 0 if the file has nothing like the hunk
}

func (e *PatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "patch %d of %d, %q (%s), does not apply to %s", e.Number, e.Total, e.Subject, e.File, e.Source)
	if e.Number > 1 {
		b.WriteString(" with the patches before it")
	}
	if e.There {
		b.WriteString(": it is in there already")
		return b.String()
	}
	for _, h := range e.Hunks {
		fmt.Fprintf(&b, "\n  %s:%d", h.File, h.Line)
		if h.Header != "" {
			fmt.Fprintf(&b, ": the hunk %s", h.Header)
		}
		switch {
		case h.Header == "":
		case h.At == 0:
			b.WriteString("\n    the file has nothing like it")
		case strings.Join(strings.Fields(h.Want), "") == strings.Join(strings.Fields(h.Got), ""):
			fmt.Fprintf(&b, "\n    line %d is as expected but for white space: %q, and not %q", h.At, h.Got, h.Want)
		default:
			fmt.Fprintf(&b, "\n    expects  %s\n    line %d is %s", h.Want, h.At, h.Got)
		}
	}
	if len(e.Hunks) == 0 {
		b.WriteString(":\n" + strings.TrimRight(indent(e.Output, 10), "\n"))
	}
	if e.Base != "" {
		fmt.Fprintf(&b, "\nthe series says that it was made for commit %s", e.Base)
	}
	return b.String()
}

// apply applies a series to the base of the tree and returns the tree that
// results. src stays as it is.
//
// git works on an index without files: it reads and writes the content of those
// that a patch touches in the repository.
func (t *tree) apply(ctx context.Context, src source, series series) (string, error) {
	if len(series) == 0 {
		return t.base, nil
	}
	id, err := t.apply1(ctx, src, series)
	var pe *PatchError
	if err != nil && !errors.As(err, &pe) {
		err = fmt.Errorf("apply the series to %s: %w", src.title(), err)
	}
	return id, diskFull(err, t.dir)
}

func (t *tree) apply1(ctx context.Context, src source, series series) (string, error) {
	touched := make(map[string]bool)
	var before []string
	for _, p := range series {
		p.mayTouch(touched)
		for _, m := range indexLine.FindAllSubmatch(p.diff, -1) {
			before = append(before, string(m[1]))
		}
	}
	// A file that a patch names may be there under another name.
	wanted := func(e entry) bool {
		return touched[e.path] || slices.ContainsFunc(before, func(id string) bool { return strings.HasPrefix(e.id, id) })
	}
	if err := t.store(ctx, src, t.base, wanted); err != nil {
		return "", err
	}
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	a := &applier{t: t, ctx: ctx, index: filepath.Join(scratch.Path, "index"), work: filepath.Join(scratch.Path, "work")}
	if err := os.Mkdir(a.work, 0o777); err != nil {
		return "", err
	}
	if _, err := t.repo.git(ctx, "read-tree", t.base).index(a.index).output(); err != nil {
		return "", err
	}
	for i := range series {
		if err := a.apply(&series[i]); err != nil {
			var pe *PatchError
			if errors.As(err, &pe) {
				pe.Number, pe.Total, pe.Source = i+1, len(series), src.title()
			}
			return "", err
		}
	}
	return t.repo.writeTree(ctx, a.index)
}

// indexLine matches the line of a diff that names a file's content before it.
var indexLine = regexp.MustCompile(`(?m)^index ([0-9a-f]{7,64})\.\.[0-9a-f]{7,64}`)

// applier applies patches to an index.
type applier struct {
	t     *tree
	ctx   context.Context
	index string
	work  string // an empty directory
}

// notBuilt are files that no build reads, as patterns of git apply, whose *
// matches a slash, too. Kconfig and Makefile are read in Documentation as well.
var notBuilt = []string{"Documentation/*.rst", "Documentation/*.txt", "Documentation/*.yaml", "Documentation/*.svg", "Documentation/*.json",
	"tools/testing/*", "MAINTAINERS", "CREDITS", ".mailmap"}

// apply tries what git am would, and then what git am -3 would. A patch that
// does not apply for files that no build reads is applied without these.
func (a *applier) apply(p *patch) error {
	var exclude, include []string
	for _, pattern := range notBuilt {
		exclude = append(exclude, "--exclude="+pattern)
		include = append(include, "--include="+pattern)
	}
	var refusal *commandError // of the level that fits best
	level := ""
	for _, args := range [][]string{nil, exclude} {
		for _, strip := range p.levels() {
			err := a.git(p, append([]string{"--cached", strip}, args...)...)
			if err == nil {
				return a.say(p, strip, args != nil, include)
			}
			var ce *commandError
			if !errors.As(err, &ce) || a.ctx.Err() != nil || strings.Contains(ce.stderr, "No space left") {
				return err
			}
			if refusal == nil || !patchFailed.MatchString(refusal.stderr) && patchFailed.MatchString(ce.stderr) {
				refusal, level = ce, strip
			}
		}
	}
	pe := &PatchError{File: p.File, Subject: p.Subject, Output: refusal.stderr, Base: p.base}
	if a.git(p, "--cached", "--check", "--reverse", level) == nil {
		pe.There = true
		return pe
	}
	pe.Hunks = a.refused(refusal.stderr, p.diff)
	before, err := a.t.repo.writeTree(a.ctx, a.index)
	if err != nil {
		return err
	}
	for _, args := range [][]string{nil, exclude} {
		// A merge with conflicts leaves them in the index.
		if err := copyFile(a.index, a.index+".before"); err != nil {
			return err
		}
		err := a.git(p, append([]string{"--cached", "--3way", level}, args...)...)
		if err == nil {
			if after, err := a.t.repo.writeTree(a.ctx, a.index); err == nil && after == before {
				pe.There = true
				return pe
			}
			fmt.Fprintf(a.t.progress, "%q was made for another base: applied by a three-way merge\n", p.Subject)
			return a.say(p, level, args != nil, include)
		}
		if err := os.Rename(a.index+".before", a.index); err != nil {
			return err
		}
	}
	if strings.Contains(refusal.stderr, "does not exist in index") {
		for _, args := range [][]string{nil, exclude} {
			merged, err := a.merge(p, before, append(args[:len(args):len(args)], level))
			if err == nil && merged == before {
				pe.There = true
				return pe
			}
			if err == nil {
				names, err := a.elsewhere(p, before, merged)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.t.progress, "%q was made for other names of files: applied by a three-way merge to\n%s", p.Subject, indent(names, 10))
				return a.say(p, level, args != nil, include)
			}
			if a.ctx.Err() != nil {
				return a.ctx.Err()
			}
		}
	}
	return pe
}

// merge merges the patch into the index as git am -3 does: what the files were
// that it names, as far as the repository knows, is the base of both sides. That
// finds a file that has another name here, which git apply -3 does not. It
// returns the tree of the index, which was before; on an error, as from a git
// before 2.38, it still is.
func (a *applier) merge(p *patch, before string, args []string) (merged string, err error) {
	ancestor := a.index + ".ancestor"
	defer os.Remove(ancestor)
	side := func(tree string, parents ...string) (string, error) {
		c := []string{"commit-tree", "-m", "side of a merge"}
		for _, parent := range parents {
			c = append(c, "-p", parent)
		}
		out, err := a.t.repo.git(a.ctx, append(c, tree)...).output()
		return strings.TrimSpace(out), err
	}
	if err := a.git(p, append([]string{"--build-fake-ancestor=" + ancestor}, args...)...); err != nil {
		return "", err
	}
	tree, err := a.t.repo.writeTree(a.ctx, ancestor)
	if err != nil {
		return "", err
	}
	base, err := side(tree)
	if err != nil {
		return "", err
	}
	patched := &applier{t: a.t, ctx: a.ctx, index: ancestor, work: a.work}
	if err := patched.git(p, append([]string{"--cached"}, args...)...); err != nil {
		return "", err
	}
	if tree, err = a.t.repo.writeTree(a.ctx, ancestor); err != nil {
		return "", err
	}
	theirs, err := side(tree, base)
	if err != nil {
		return "", err
	}
	ours, err := side(before, base)
	if err != nil {
		return "", err
	}
	merged, err = a.t.repo.git(a.ctx, "merge-tree", "--write-tree", ours, theirs).output()
	if err != nil { // a conflict, too
		return "", err
	}
	merged, _, _ = strings.Cut(merged, "\n")
	_, err = a.t.repo.git(a.ctx, "read-tree", merged).index(a.index).output()
	return merged, err
}

// elsewhere lists the files that differ between two trees and that the patch
// does not name.
func (a *applier) elsewhere(p *patch, before, after string) (string, error) {
	changed, err := a.t.repo.git(a.ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after).output()
	if err != nil {
		return "", err
	}
	named := make(map[string]bool)
	p.mayTouch(named)
	var names []string
	for path := range strings.SplitSeq(strings.TrimSuffix(changed, "\x00"), "\x00") {
		if !named[path] {
			names = append(names, path)
		}
	}
	return strings.Join(names, "\n"), nil
}

func (a *applier) git(p *patch, args ...string) error {
	_, err := a.t.repo.git(a.ctx, append(append([]string{"apply"}, args...), "-")...).in(a.work).index(a.index).input(bytes.NewReader(p.diff)).output()
	return err
}

// say tells of a patch that was applied what is not as usual.
func (a *applier) say(p *patch, strip string, without bool, include []string) error {
	if strip != "-p1" && p.strip == "" {
		fmt.Fprintf(a.t.progress, "%q is applied with %s: its file names have no prefix\n", p.Subject, strip)
	}
	if without {
		out, err := a.t.repo.git(a.ctx, append([]string{"apply", "--numstat", strip, "-"}, include...)...).in(a.work).input(bytes.NewReader(p.diff)).output()
		if err != nil {
			return err
		}
		fmt.Fprintf(a.t.progress, "%q is applied without these, which do not apply and which no build reads (lines added, removed):\n%s", p.Subject, indent(out, 10))
	}
	return nil
}

// The names of a file before and after a patch.
var (
	gitNames  = regexp.MustCompile(`(?m)^diff --git (.*)$`)
	fileNames = regexp.MustCompile(`(?m)^--- ([^\t\n]+).*\n\+\+\+ ([^\t\n]+)`)
)

// levels are the options of git apply to try, in this order: how many
// directories to strip from the names.
func (p *patch) levels() []string {
	if p.strip != "" {
		return []string{"-p" + p.strip}
	}
	same, differ := 0, 0
	count := func(a, b string) {
		if a == b {
			same++
		} else {
			differ++
		}
	}
	for _, m := range gitNames.FindAllSubmatch(p.diff, -1) {
		half := len(m[1]) / 2
		count(string(m[1][:half]), string(m[1][len(m[1])-half:]))
	}
	if same+differ == 0 {
		for _, m := range fileNames.FindAllSubmatch(p.diff, -1) {
			if string(m[1]) != "/dev/null" && string(m[2]) != "/dev/null" {
				count(string(m[1]), string(m[2]))
			}
		}
	}
	if same > 0 && differ == 0 {
		return []string{"-p0", "-p1"}
	}
	return []string{"-p1", "-p0"}
}

// nameLine matches the lines of a diff that name files.
var nameLine = regexp.MustCompile(`(?m)^(?:diff --git|---|\+\+\+|rename from|rename to|copy from|copy to) (.+)$`)

// mayTouch adds to paths the files that the patch may touch, whatever -p it is
// applied with, and some names that are none.
func (p *patch) mayTouch(paths map[string]bool) {
	for _, m := range nameLine.FindAllSubmatch(p.diff, -1) {
		line := strings.TrimRight(string(m[1]), "\r")
		names := []string{line}
		for i, r := range line {
			if r == ' ' || r == '\t' { // two names, or a name and a time
				names = append(names, line[:i], line[i+1:])
			}
		}
		for _, name := range names {
			if unquoted, err := strconv.Unquote(name); err == nil {
				name = unquoted // quote.c: quote_c_style
			}
			for ok := true; ok; _, name, ok = strings.Cut(name, "/") {
				paths[name] = true
			}
		}
	}
}

// patchFailed matches what git says of a hunk (apply.c: apply_fragments).
var patchFailed = regexp.MustCompile(`(?m)^error: patch failed: (.+):(\d+)$`)

// refused finds the hunks that git names in the patch, and what stands in their
// place.
func (a *applier) refused(output string, diff []byte) []Hunk {
	var hunks []Hunk
	for _, m := range patchFailed.FindAllStringSubmatch(output, -1) {
		h := Hunk{File: m[1]}
		h.Line, _ = strconv.Atoi(m[2])
		var old []string
		h.Header, old = findHunk(string(diff), h.File, m[2])
		if content, err := a.t.repo.git(a.ctx, "cat-file", "blob", ":"+h.File).index(a.index).output(); err == nil && old != nil {
			h.compare(old, strings.Split(strings.TrimSuffix(content, "\n"), "\n"))
		}
		hunks = append(hunks, h)
	}
	return hunks
}

// findHunk returns the header of the hunk of a file that begins at line, and
// the lines that it expects.
func findHunk(diff, file, line string) (header string, old []string) {
	in := false
	left := 0 // of the hunk's old lines
	for text := range strings.Lines(diff) {
		text = strings.TrimSuffix(text, "\n")
		switch {
		case left > 0:
			if text == "" || text[0] == ' ' || text[0] == '-' {
				old = append(old, strings.TrimPrefix(strings.TrimPrefix(text, " "), "-"))
				left--
			}
		case header != "":
			return header, old
		case strings.HasPrefix(text, "--- "), strings.HasPrefix(text, "+++ "):
			name, _, _ := strings.Cut(text[4:], "\t")
			if name != "/dev/null" {
				in = name == file || strings.HasSuffix(name, "/"+file)
			}
		case in && strings.HasPrefix(text, "@@ -"+line+",") || in && strings.HasPrefix(text, "@@ -"+line+" "):
			header, left = text, 1
			if count, ok := strings.CutPrefix(text, "@@ -"+line+","); ok {
				count, _, _ = strings.Cut(count, " ")
				left, _ = strconv.Atoi(count)
			}
		}
	}
	return header, old
}

// compare finds where lines are most like the old ones, nearest to where the
// hunk expects them, and the first difference there.
func (h *Hunk) compare(old, lines []string) {
	best, likeness := 0, 0
	for at := 1 - len(old); at < len(lines); at++ {
		n := 0
		for i, want := range old {
			// Empty lines and braces are alike everywhere.
			if at+i >= 0 && at+i < len(lines) && lines[at+i] == want && len(strings.TrimSpace(want)) > 1 {
				n++
			}
		}
		if n > likeness || n == likeness && distance(at, h.Line-1) < distance(best, h.Line-1) {
			best, likeness = at, n
		}
	}
	if likeness == 0 {
		return
	}
	for i, want := range old {
		got := ""
		if at := best + i; at >= 0 && at < len(lines) {
			got = lines[at]
		}
		if got != want {
			h.Want, h.Got, h.At = want, got, max(best+i+1, 1)
			return
		}
	}
}

func distance(a, b int) int { return max(a-b, b-a) }
