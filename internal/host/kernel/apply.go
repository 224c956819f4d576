package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
	Hunks   []Hunk // that were refused; the first of each file
	Output  string // what git said
}

// Hunk is one that does not apply.
type Hunk struct {
	File   string
	Line   int    // where the hunk expects its context
	Header string // its @@ line
}

func (e *PatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "patch %d of %d, %q (%s), does not apply to %s", e.Number, e.Total, e.Subject, e.File, e.Source)
	if e.Number > 1 {
		b.WriteString(" with the patches before it")
	}
	for _, h := range e.Hunks {
		fmt.Fprintf(&b, "\n  %s:%d", h.File, h.Line)
		if h.Header != "" {
			fmt.Fprintf(&b, ": the hunk %s", h.Header)
		}
	}
	if len(e.Hunks) == 0 {
		b.WriteString(":\n" + indent(e.Output, 10))
	}
	return strings.TrimRight(b.String(), "\n")
}

// apply applies a series to the base of the tree and returns the tree that
// results. src stays as it is.
//
// git works in a repository that has the touched files only. That is as good
// as the whole tree, for a patch reads no other, and takes milliseconds where
// an index of the kernel takes seconds.
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
	for _, p := range series {
		for _, path := range p.paths() {
			touched[path] = true
		}
	}
	if err := t.store(ctx, src, t.base, touched); err != nil {
		return "", err
	}
	before, err := t.repo.list(ctx, t.base, func(path string) bool { return touched[path] })
	if err != nil {
		return "", err
	}
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	after, err := t.applyTo(ctx, scratch.Path, before, series, src.title())
	if err != nil {
		return "", err
	}
	// The base, without the touched files, with what they became.
	index := filepath.Join(scratch.Path, "index")
	if _, err := t.repo.git(ctx, "read-tree", t.base).index(index).output(); err != nil {
		return "", err
	}
	for i := range before {
		before[i].mode = ""
	}
	if err := t.repo.setIndex(ctx, index, append(before, after...)); err != nil {
		return "", err
	}
	return t.repo.writeTree(ctx, index)
}

// applyTo applies a series to files in a repository below dir, and returns
// the files after it.
func (t *tree) applyTo(ctx context.Context, dir string, files []entry, series series, title string) ([]entry, error) {
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, err
	}
	r := repo{filepath.Join(dir, "git")}
	git := func(args ...string) *cmd {
		// The objects go where the source's are.
		return r.git(ctx, args...).worktree(work, filepath.Join(r.dir, "index")).
			env("GIT_OBJECT_DIRECTORY=" + filepath.Join(t.repo.dir, "objects"))
	}
	format, err := t.repo.git(ctx, "rev-parse", "--show-object-format").output()
	if err != nil {
		return nil, err
	}
	if _, err := git("init", "--quiet", "--object-format="+strings.TrimSpace(format)).output(); err != nil {
		return nil, err
	}
	index := filepath.Join(dir, "touched.index")
	if err := t.repo.setIndex(ctx, index, files); err != nil {
		return nil, err
	}
	base, err := t.repo.writeTree(ctx, index)
	if err != nil {
		return nil, err
	}
	commit, err := git("commit-tree", "-m", "base", base).output()
	if err != nil {
		return nil, err
	}
	if _, err := git("reset", "--quiet", "--hard", strings.TrimSpace(commit)).output(); err != nil {
		return nil, err
	}
	for i, p := range series {
		steps := []*cmd{git("am", "--quiet", "--no-3way").input(bytes.NewReader(p.text))}
		if !p.mail {
			steps = []*cmd{
				git("apply", "--index", "-").input(bytes.NewReader(p.text)),
				git("commit", "--quiet", "--allow-empty", "--message", p.Subject),
			}
		}
		for _, step := range steps {
			_, err := step.output()
			var ce *commandError
			if errors.As(err, &ce) && ctx.Err() == nil && !strings.Contains(ce.stderr, "No space left") {
				return nil, &PatchError{p.File, p.Subject, i + 1, len(series), title, refused(ce.stderr, p.diff), ce.stderr}
			}
			if err != nil {
				return nil, err
			}
		}
	}
	head, err := git("rev-parse", "HEAD^{tree}").output()
	if err != nil {
		return nil, err
	}
	return t.repo.list(ctx, strings.TrimSpace(head), func(string) bool { return true })
}

// patchFailed matches what git says of a hunk (apply.c: apply_fragments).
var patchFailed = regexp.MustCompile(`(?m)^error: patch failed: (.+):(\d+)$`)

// refused finds the hunks that git names in the patch.
func refused(output, diff string) []Hunk {
	var hunks []Hunk
	for _, m := range patchFailed.FindAllStringSubmatch(output, -1) {
		h := Hunk{File: m[1]}
		fmt.Sscan(m[2], &h.Line)
		// The hunk's header, from the part of the diff for that file.
		if _, part, ok := strings.Cut(diff, "\n--- a/"+h.File); ok {
			part, _, _ = strings.Cut(part, "\n--- ")
			h.Header = regexp.MustCompile(`(?m)^@@ -` + m[2] + `[, ].*$`).FindString(part)
		}
		hunks = append(hunks, h)
	}
	return hunks
}
