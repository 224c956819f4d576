package selftest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBisect lets git bisect find the revision of a series that no longer wakes
// its queues, in a history with one that does not apply.
func TestBisect(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	repo, program := filepath.Join(tmp, "history"), filepath.Join(tmp, "ringproof")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../cmd/ringproof").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	git := func(args ...string) string {
		t.Helper()
		args = append([]string{"-C", repo, "-c", "user.name=selftest", "-c", "user.email=selftest@localhost"}, args...)
		out, err := exec.Command("git", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(repo, "series", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(repo, "series"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	git("config", "user.name", "selftest")
	git("config", "user.email", "selftest@localhost")
	patches, err := filepath.Glob("../patches/designs/lossless/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatal(patches, err)
	}
	bug, err := os.ReadFile("../patches/bugs/never-wakes.patch")
	if err != nil {
		t.Fatal(err)
	}
	for _, patch := range patches {
		text, err := os.ReadFile(patch)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Base(patch), string(text))
	}
	commit := func(subject string) string {
		t.Helper()
		git("add", "-A")
		git("commit", "-q", "--allow-empty", "-m", subject)
		return git("rev-parse", "HEAD")
	}
	good := commit("the series")
	write("9999-last.patch", strings.Replace(string(bug), "drivers/net/tun.c", "drivers/net/nut.c", -1))
	inapplicable := commit("does not apply")
	if err := os.Remove(filepath.Join(repo, "series/9999-last.patch")); err != nil {
		t.Fatal(err)
	}
	commit("applies again")
	write("9999-last.patch", string(bug))
	culprit := commit("never wakes")
	worst := commit("nothing more")

	judge := filepath.Join(tmp, "judge")
	script := fmt.Sprintf("cd '%s' && [ -x '%s' ] || exit 128\nexec '%[2]s' bisect -series '%[3]s/series' -contract lossless -run '^TestNoStall$/^fq_codel$/^len16$'\n", root, program, repo)
	judges := func(script string, want int, says string) {
		t.Helper()
		if err := os.WriteFile(judge, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", judge).CombinedOutput()
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != want || !strings.Contains(string(out), says) {
			t.Errorf("%s\n%v, want exit status %d and %q\n%s", script, err, want, says, out)
		}
	}
	git("checkout", "-q", inapplicable)
	for typo, says := range map[string]string{
		strings.Replace(script, "cd '", "cd '/absent", 1):                     "/absent",
		strings.ReplaceAll(script, program, program+"x"):                      "",
		strings.Replace(script, "bisect -series", "bisct -series", 1):         "no such command",
		strings.Replace(script, "-contract lossless", "-contract losless", 1): "losless",
		strings.Replace(script, "/series'", "/serious'", 1):                   "serious",
		strings.Replace(script, "-run ", "-tests ", 1):                        "-tests",
	} {
		judges(typo, 128, says)
	}
	judges(script, 125, "does not apply")
	git("bisect", "start", worst, good)
	said := git("bisect", "run", "sh", judge)
	for _, dir := range regexp.MustCompile(`(?m)^artifacts: (.*)$`).FindAllStringSubmatch(said, -1) {
		t.Cleanup(func() { os.RemoveAll(filepath.Join(root, dir[1])) })
	}
	if !strings.Contains(said, culprit+" is the first bad commit") {
		t.Errorf("want that %s is the first bad commit:\n%s", culprit, said)
	}
}
