package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

func TestPatchThatDoesNotApplyIsNamed(t *testing.T) {
	isolate(t)
	good := files{"include/ring.h": edit("include/ring.h", 5, "good")}
	series := makeSeries(t, good, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 20, "mine")})
	for kind, make := range sources {
		for form, paths := range map[string][]string{
			"mail": {filepath.Join(series, "all.mbox")},
			"diff": {filepath.Join(series, "0001-net-step-1.patch"), diffOf(t, filepath.Join(series, "0002-net-step-2.patch"))},
		} {
			t.Run(kind+"/"+form, func(t *testing.T) {
				source := make(t)
				files{"drivers/net/tun.c": edit("drivers/net/tun.c", 19, "theirs")}.write(t, source)
				_, err := prepared(t, source, paths...)
				t.Log(err)
				var pe *PatchError
				if !errors.As(err, &pe) {
					t.Fatalf("%v is not a *PatchError", err)
				}
				if pe.Number != 2 || pe.Total != 2 || pe.File != paths[len(paths)-1] {
					t.Errorf("names patch %d of %d in %s", pe.Number, pe.Total, pe.File)
				}
				if form == "mail" && pe.Subject != "net: step 2" {
					t.Errorf("subject %q", pe.Subject)
				}
				if len(pe.Hunks) != 1 || pe.Hunks[0].File != "drivers/net/tun.c" || pe.Hunks[0].Line != 17 || !strings.HasPrefix(pe.Hunks[0].Header, "@@ -17,7 +17,7 @@") {
					t.Errorf("hunks %+v", pe.Hunks)
				}
				if !strings.Contains(err.Error(), "drivers/net/tun.c:17") {
					t.Error("the message does not say where")
				}
				// What failed leaves nothing behind.
				mustPrepare(t, source, filepath.Join(series, "0001-net-step-1.patch"))
			})
		}
	}
}

func TestPatchForAFileThatIsNotThere(t *testing.T) {
	isolate(t)
	series := makeSeries(t, files{"drivers/net/tap.c": edit("drivers/net/tap.c", 20, "x")})
	source := sources["git"](t)
	if err := os.Remove(filepath.Join(source, "drivers/net/tap.c")); err != nil {
		t.Fatal(err)
	}
	_, err := prepared(t, source, series)
	if err == nil || !strings.Contains(err.Error(), "drivers/net/tap.c") {
		t.Errorf("%v does not name the file", err)
	}
}

func TestSeriesThatIsNoneIsExplained(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	diff := "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
	mail := func(subject, body string) string {
		return "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@localhost>\nSubject: " + subject + "\n\n" + body + "\n"
	}
	files{
		"prose.txt":      "not a patch\n",
		"reply.mbox":     mail("Re: [PATCH] x", "Better:\n"+diff),
		"nothing.mbox":   mail("[PATCH 1/2] x", "the diff was lost"),
		"cover.mbox":     mail("[PATCH net-next v2 00/12] x", "only the cover"),
		"empty/README":   "",
		"truncated.gz":   "\x1f\x8b",
		"discussed.mbox": mail("[PATCH 1/1] x", "text\n---\n"+diff) + mail("Re: [PATCH 1/1] x", "> diff --git a/x b/x\nlooks good"),
	}.write(t, dir)
	for file, want := range map[string]string{
		"missing":      "no such file",
		"prose.txt":    "neither a mail nor a diff",
		"reply.mbox":   "carries a diff",
		"nothing.mbox": "has no diff",
		"cover.mbox":   "no patch in it",
		"empty":        "no *.patch file",
		"truncated.gz": "EOF",
	} {
		_, err := readSeries(t.Context(), []string{filepath.Join(dir, file)}, 0, os.Stderr)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v; want %q", file, err, want)
		}
	}
	var progress strings.Builder
	s, err := readSeries(t.Context(), []string{filepath.Join(dir, "discussed.mbox")}, 0, &progress)
	if err != nil || len(s) != 1 || s[0].Subject != "x" || !strings.Contains(progress.String(), "Re: [PATCH 1/1] x") {
		t.Errorf("discussed.mbox: %d patches, %v, said %q", len(s), err, progress.String())
	}
}

func TestSourceThatIsNoneIsExplained(t *testing.T) {
	isolate(t)
	conflicted := sources["git"](t)
	userGit(t, conflicted, "checkout", "--quiet", "-b", "other")
	files{"drivers/net/tun.c": "other\n"}.write(t, conflicted)
	userGit(t, conflicted, "commit", "--quiet", "--all", "--message=other")
	userGit(t, conflicted, "checkout", "--quiet", "-")
	userGit(t, conflicted, "checkout", "--quiet", "-b", "mine", "HEAD")
	files{"drivers/net/tun.c": "mine\n"}.write(t, conflicted)
	userGit(t, conflicted, "commit", "--quiet", "--all", "--message=mine")
	userGitFails(t, conflicted, "merge", "--quiet", "other")
	built := sources["unpacked"](t)
	files{".gitignore": "/*\n", ".config": ""}.write(t, built) // as Debian's
	around := sources["unpacked"](t)
	t.Setenv(cache.Env, filepath.Join(around, "cache"))
	if _, err := prepared(t, around); err == nil || !strings.Contains(err.Error(), cache.Env) {
		t.Errorf("the cache inside the source: %v", err)
	}
	t.Setenv(cache.Env, t.TempDir())
	for dir, want := range map[string]string{
		built:                "make mrproper",
		"/no/such/tree":      "no such directory",
		t.TempDir():          "not the top of a kernel tree",
		"/proc/self/cmdline": "neither a directory nor an archive",
		conflicted:           "unmerged",
	} {
		_, err := prepared(t, dir)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v; want %q", dir, err, want)
		}
	}
}
