package kernel

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSourceElsewhere: a branch of a repository elsewhere is what it is now, and a
// tag or a commit what it was.
func TestSourceElsewhere(t *testing.T) {
	isolate(t)
	dir := sources["git"](t)
	userGit(t, dir, "branch", "-M", "main")
	userGit(t, dir, "tag", "v1")
	url := "file://" + dir
	was := strings.TrimSpace(userGit(t, dir, "rev-parse", "HEAD"))
	if at := mustPrepare(t, url+"#main"); contentOf(t, filepath.Join(at, tun)) != tinyKernel[tun] {
		t.Error("main is not what it is")
	}
	wanted("moved").write(t, dir)
	userGit(t, dir, "commit", "--quiet", "--all", "--message=moved")
	for ref, want := range map[string]string{
		"main": wanted("moved")[tun], "v1": tinyKernel[tun], was: tinyKernel[tun],
	} {
		if at := mustPrepare(t, url+"#"+ref); contentOf(t, filepath.Join(at, tun)) != want {
			t.Errorf("%s is not what it should be", ref)
		}
	}
	// Two commits at once, of which the one that was opened first is prepared last.
	first, err := openSource(t.Context(), url+"#v1", true, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	mustPrepare(t, url+"#main")
	repo, err := first.repo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := first.identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := repo.git(t.Context(), "cat-file", "blob", strings.TrimPrefix(id, "tree ")+":"+tun).output()
	if err != nil || text != tinyKernel[tun] {
		t.Errorf("v1 is not what it was once main is checked out: %v", err)
	}
	for path, says := range map[string]string{
		url:                          "name what to fetch behind a #",
		url + "#":                    "name what to fetch behind a #",
		url + "#--upload-pack=false": "name what to fetch behind a #",
		"ext::sh -c false#main":      "there is no such directory",
		url + "#absent":              "absent",
		"file:///absent#main":        "/absent",
	} {
		if _, err := prepared(t, path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want an error that says %q", path, err, says)
		}
	}
	if _, err := openSource(t.Context(), url+"#main", false, os.Stderr); err != errNotFetched {
		t.Errorf("not to be fetched: %v", err)
	}
}

// discussion is the thread of a series of two patches, with a review.
var discussion = letter("[PATCH v2 0/2] tun: better", "Why.\n", "Message-ID: <0@localhost>") +
	post("[PATCH v2 1/2] tun: first", first, "Message-ID: <1@localhost>", answers("0")) +
	post("[PATCH v2 2/2] tun: second", then, "Message-ID: <2@localhost>", answers("0")) +
	letter("Re: [PATCH v2 1/2] tun: first", "Reviewed-by: Nobody <nobody@localhost>\n", "Message-ID: <3@localhost>", answers("1"))

// TestSeriesByMessageID has b4 itself fetch a series from an archive.
func TestSeriesByMessageID(t *testing.T) {
	if _, err := exec.LookPath("b4"); err != nil {
		t.Skip("b4 is not installed")
	}
	isolate(t)
	var thread bytes.Buffer
	z := gzip.NewWriter(&thread)
	z.Write([]byte(discussion))
	z.Close()
	archive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/all/0@localhost/t.mbox.gz" {
			http.NotFound(w, r)
			return
		}
		w.Write(thread.Bytes())
	}))
	defer archive.Close()
	files{".gitconfig": "[b4]\n\tmidmask = " + archive.URL + "/all/%s\n"}.write(t, os.Getenv("HOME"))
	source := sources["git"](t)
	for _, id := range []string{"0@localhost", "<0@localhost>"} {
		if at := mustPrepare(t, source, id); contentOf(t, filepath.Join(at, tun)) != wanted("second")[tun] {
			t.Errorf("%s is not applied", id)
		}
	}
	_, said, err := preparedVersion(t, source, 7, "0@localhost")
	if err == nil {
		t.Errorf("version 7 was found: %s", said)
	}
	if _, err := prepared(t, source, "absent@localhost"); err == nil || !strings.Contains(err.Error(), "absent@localhost") {
		t.Errorf("a mail that is not there: %v", err)
	}
}

// TestHowB4IsAsked: with a b4 that does as documented (b4(1), am), on a machine that
// may have none.
func TestHowB4IsAsked(t *testing.T) {
	isolate(t)
	bin := t.TempDir()
	files{"thread.mbox": discussion, "b4": `#!/bin/sh
echo "$@" > "` + bin + `/asked"
[ "$1" = am ] && [ "$2" = -o ] && [ "$4" = -n ] || exit 1
cp "` + bin + `/thread.mbox" "$3/$5.mbx"
`}.write(t, bin)
	if err := os.Chmod(filepath.Join(bin, "b4"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const address = "https://lore.kernel.org/netdev/0@localhost/"
	at, _, err := preparedVersion(t, sources["git"](t), 2, address)
	if err != nil || contentOf(t, filepath.Join(at, tun)) != wanted("second")[tun] {
		t.Errorf("the series is not applied: %v", err)
	}
	if asked := contentOf(t, filepath.Join(bin, "asked")); !strings.HasSuffix(asked, "-v 2 -- "+address+"\n") {
		t.Errorf("b4 was asked for %q", asked)
	}
}

// TestWhatIsNoMessageID: files are files, whatever they are called.
func TestWhatIsNoMessageID(t *testing.T) {
	t.Chdir(t.TempDir())
	files{"a@b.patch": first}.write(t, ".")
	for path, want := range map[string]bool{
		"20251120.1-me@example.org": true, "<1@x>": true, "https://lore.kernel.org/r/1@x": true, "https://patch.msgid.link/1@x": true,
		"a@b.patch": false, "./1@x": false, "dir/1@x": false, "patches": false, "@x": false, "1@": false, "": false,
	} {
		if lists(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}
