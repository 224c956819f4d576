package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/apt"
	"github.com/ringproof/ringproof/internal/host/cache"
)

func TestRequests(t *testing.T) {
	all := []apt.Package{ // as apt lists them: the newest of a name first
		{Name: "linux-source", Version: "7.2.13-1", Suite: "sid"},
		{Name: "linux-source", Version: "6.1.192-2", Suite: "bookworm-security"},
		{Name: "linux-source-6.1", Version: "6.1.192-2", Suite: "bookworm-security"},
		{Name: "linux-source-6.1", Version: "6.1.170-3", Suite: "bookworm"},
		{Name: "linux-source-6.12", Version: "6.12.117-1~deb12u1", Suite: "bookworm-security"},
		{Name: "linux-source-6.12", Version: "6.12.107-1", Suite: "stable"},
		{Name: "linux-source-7.2", Version: "7.2.13-1", Suite: "sid"},
		{Name: "linux-source-7.3", Version: "7.3~rc7-1~exp1", Suite: "experimental"},
	}
	for path, want := range map[string]string{
		"debian:6.1":                "6.1.192-2",
		"debian:6.12":               "6.12.117-1~deb12u1",
		"debian:6.12.107":           "6.12.107-1",
		"debian:6.12.107-1":         "6.12.107-1",
		"debian:7.2.13-1":           "7.2.13-1",
		"debian:7.3":                "7.3~rc7-1~exp1",
		"debian:7.3~rc7":            "7.3~rc7-1~exp1",
		"debian:7.3~rc7-1~exp1":     "7.3~rc7-1~exp1",
		"debian:sid":                "7.2.13-1",
		"debian:6":                  "error",
		"debian:":                   "error",
		"debian:../../etc":          "error",
		"debian:6.12/../../../../x": "error",
		"debian:Sid":                "error",
		"debian:6.12.1":             "none",
		"debian:6.13":               "none",
		"debian:7.2.13-2":           "none",
	} {
		r, err := parseRequest(path)
		if (err != nil) != (want == "error") {
			t.Errorf("%s: %v", path, err)
		}
		if err != nil {
			continue
		}
		got := "none"
		if p := r.choose(all); p != nil {
			got = p.Version
		}
		if got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	list := versions(append(all, all...))
	if strings.Count(list, "7.2.13-1 (sid)") != 1 || strings.Count(list, ",") != 5 {
		t.Errorf("there are %s", list)
	}
}

// TestDownloadedSourceIsTakenFromTheCache never reaches a network: it does not
// fetch.
func TestDownloadedSourceIsTakenFromTheCache(t *testing.T) {
	isolate(t)
	open := func(path string) (string, error) {
		src, err := openSource(t.Context(), path, false, os.Stderr)
		if err != nil {
			return "", err
		}
		return src.title(), nil
	}
	for _, path := range []string{"debian:7.2", "debian:7.2.13-1", "debian:sid"} {
		if _, err := open(path); !errors.Is(err, errNotFetched) {
			t.Errorf("%s with an empty cache: %v", path, err)
		}
	}
	if k, err := Find(t.Context(), Spec{Source: "debian:7.2"}); k != nil || err != nil {
		t.Errorf("Find with an empty cache: %v, %v", k, err)
	}
	dir, err := cache.Dir("sources", "debian")
	if err != nil {
		t.Fatal(err)
	}
	files{
		"linux-source-7.2_7.2.12-1/linux-source-7.2.tar.xz": "older",
		"linux-source-7.2_7.2.13-1/linux-source-7.2.tar.xz": "newer",
		"answers/sid": "linux-source-7.2_7.2.12-1",
	}.write(t, dir)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "linux-source-7.2_7.2.12-1"), old, old); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"debian:7.2":      "Debian's linux-source-7.2 7.2.13-1",
		"debian:7.2.12-1": "Debian's linux-source-7.2 7.2.12-1",
		"debian:sid":      "Debian's linux-source-7.2 7.2.12-1",
	} {
		if got, err := open(path); got != want || err != nil {
			t.Errorf("%s is %s, want %s (%v)", path, got, want, err)
		}
	}
	// Nobody has asked the archive for the newest 7.2 yet.
	if _, asked := answered(dir, "7.2"); time.Since(asked) <= askAgain {
		t.Errorf("debian:7.2 was asked for at %s", asked)
	}
	if src, err := openFetched(t.Context(), "7.2", 1<<63-1, true, os.Stderr); err != nil || src.title() != "Debian's linux-source-7.2 7.2.13-1" {
		t.Errorf("with an answer that counts for ever: %v, %v", src, err)
	}
	// Another answer, and one that is gone.
	files{"answers/7.2": "linux-source-7.2_7.2.12-1", "answers/sid": "linux-source-7.1_7.1.1-1"}.write(t, dir)
	if got, _ := open("debian:7.2"); got != "Debian's linux-source-7.2 7.2.12-1" {
		t.Errorf("debian:7.2 is %s, and not the archive's answer", got)
	}
	if _, err := open("debian:sid"); !errors.Is(err, errNotFetched) {
		t.Errorf("debian:sid: %v", err)
	}
	// An answer counts for a day, that about a full version for ever.
	for _, r := range []request{"7.2", "7.2.13-1"} {
		stamp := filepath.Join(dir, "answers", string(r))
		files{"answers/" + string(r): "linux-source-7.2_7.2.13-1"}.write(t, dir)
		long := time.Now().Add(-2 * askAgain)
		if err := os.Chtimes(stamp, long, long); err != nil {
			t.Fatal(err)
		}
		_, asked := answered(dir, r)
		if again := time.Since(asked) > askAgain; again != (r == "7.2") {
			t.Errorf("%s is asked for again: %v", r, again)
		}
	}
}

// TestNoApt: where there is no apt the error says what else there is.
func TestNoApt(t *testing.T) {
	isolate(t)
	t.Setenv("PATH", t.TempDir())
	_, err := openSource(t.Context(), "debian:7.2", true, os.Stderr)
	if !errors.Is(err, apt.ErrNoDebian) || !strings.Contains(err.Error(), "KSRC=") {
		t.Error(err)
	}
}
