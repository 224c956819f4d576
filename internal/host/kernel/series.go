package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// patch is one patch of a series.
type patch struct {
	File    string // where it was read from
	Subject string // of its mail without "[PATCH]"; the file's name for a bare diff
	mail    bool   // for git am; else for git apply
	header  string // of its mail: the subject as it stands there
	text    []byte // as read: a mail, or a diff
	diff    string // the part that changes files, decoded
}

// series are the patches in the order in which they are applied.
type series []patch

// readSeries reads the patches of each of paths. Mails that carry none, as a
// cover letter, are left out with a word on progress.
func readSeries(ctx context.Context, paths []string, progress io.Writer) (series, error) {
	var all series
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("series %s: %s", path, errno(err))
		}
		files := []string{path}
		if fi.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.patch")); err != nil {
				return nil, fmt.Errorf("series %s: %w", path, err)
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("series %s: there is no *.patch file in this directory", path)
			}
			slices.Sort(files)
		}
		var found series
		for _, file := range files {
			patches, err := readPatches(ctx, file, progress)
			if err != nil {
				return nil, fmt.Errorf("series %s: %w", file, err)
			}
			found = append(found, patches...)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("series %s: there is no patch in it", path)
		}
		all = append(all, found...)
	}
	return all, nil
}

// What an mbox, and a mail, begin with.
var (
	mailStart = regexp.MustCompile(`\A(From \S+ |[A-Za-z][A-Za-z0-9-]*: )`)
	fromLine  = regexp.MustCompile(`\AFrom .*\n`)
)

func readPatches(ctx context.Context, file string, progress io.Writer) (series, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, errors.New(errno(err))
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		if text, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	if !mailStart.Match(text) {
		if !hasDiff(string(text)) {
			return nil, errors.New("is neither a mail nor a diff")
		}
		return series{{File: file, Subject: filepath.Base(file), text: text, diff: string(text)}}, nil
	}
	mails, err := splitMails(ctx, text)
	if err != nil {
		return nil, err
	}
	var patches series
	for _, m := range mails {
		m.File = file
		reply := replyPrefix.MatchString(m.header)
		switch {
		case hasDiff(m.diff) && reply:
			return nil, fmt.Errorf("the reply %q carries a diff, and only you know whether it belongs to the series: give an mbox of the patches alone, as b4 am makes it", m.header)
		case hasDiff(m.diff):
			patches = append(patches, m)
		case reply || coverLetter.MatchString(m.header):
			fmt.Fprintf(progress, "no patch in %q of %s: left out\n", m.header, file)
		default:
			return nil, fmt.Errorf("the mail %q has no diff in it", m.header)
		}
	}
	return patches, nil
}

// Subjects of mails that need not carry a patch.
var (
	replyPrefix = regexp.MustCompile(`(?i)^(re|aw|fwd?):`)
	coverLetter = regexp.MustCompile(`\[[^]]*\b0+/\d+\]`)
)

// splitMails takes an mbox apart.
func splitMails(ctx context.Context, text []byte) (series, error) {
	scratch, err := cache.NewScratch()
	if err != nil {
		return nil, err
	}
	defer scratch.Remove()
	none := repo{filepath.Join(scratch.Path, "no-repository")}
	mbox := filepath.Join(scratch.Path, "mbox")
	if err := os.WriteFile(mbox, text, 0o644); err != nil {
		return nil, err
	}
	if _, err := none.git(ctx, "mailsplit", "-b", "-o"+scratch.Path, "--", mbox).output(); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(scratch.Path, "[0-9][0-9][0-9][0-9]*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var mails series
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		diffFile := filepath.Join(scratch.Path, "diff")
		info, err := none.git(ctx, "mailinfo", filepath.Join(scratch.Path, "message"), diffFile).
			in(scratch.Path).input(bytes.NewReader(text)).output()
		if err != nil {
			return nil, err
		}
		diff, err := os.ReadFile(diffFile)
		if err != nil {
			return nil, err
		}
		_, subject, _ := strings.Cut("\n"+info, "\nSubject: ")
		subject, _, _ = strings.Cut(subject, "\n")
		m := patch{Subject: subject, header: subject, mail: true, text: text, diff: string(diff)}
		// mailinfo strips "Re:" and the brackets.
		if parsed, err := mail.ReadMessage(bytes.NewReader(fromLine.ReplaceAll(text, nil))); err == nil {
			m.header = parsed.Header.Get("Subject")
		}
		mails = append(mails, m)
	}
	return mails, nil
}

// fileLine matches the lines of a diff that name a file.
var fileLine = regexp.MustCompile(`(?m)^(?:diff --git a/(\S+) b/(\S+)|(?:---|\+\+\+) [ab]/([^\t\r\n]+)|(?:rename|copy) (?:from|to) ([^\r\n]+))`)

func hasDiff(text string) bool {
	return strings.Contains("\n"+text, "\n--- ") || fileLine.MatchString(text)
}

// paths are the files that the patch may touch, with -p1.
func (p *patch) paths() []string {
	var paths []string
	for _, m := range fileLine.FindAllStringSubmatch(p.diff, -1) {
		for _, path := range m[1:] {
			if path != "" {
				paths = append(paths, path)
			}
		}
	}
	return paths
}
