package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// remoteSource matches a git repository elsewhere and what to fetch of it: a
// branch, a tag or a commit.
var remoteSource = regexp.MustCompile(`^((?:https?|git|ssh|file)://[^#\s]+)#([^-\s][^\s]*)$`)

// looksRemote matches what is meant as one.
var looksRemote = regexp.MustCompile(`^[a-z+]+://`)

// openRemote fetches one commit of a git repository into a checkout in the cache, one
// for each repository. A branch may have moved: the repository is always asked, unless
// fetch is not set, when the source is errNotFetched.
func openRemote(ctx context.Context, path string, fetch bool, progress io.Writer) (source, error) {
	m := remoteSource.FindStringSubmatch(path)
	if m == nil {
		return nil, fmt.Errorf("kernel source %s: name what to fetch behind a #: https://git.kernel.org/pub/scm/linux/kernel/git/netdev/net-next.git#main", path)
	}
	if !fetch {
		return nil, errNotFetched
	}
	url, ref := m[1], m[2]
	fail := func(err error) error { return fmt.Errorf("kernel source %s: %w", path, err) }
	root, err := cache.Dir("git")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, sourceName(strings.TrimSuffix(url, ".git"), url))
	lock, err := cache.Acquire(ctx, "the checkout "+filepath.Base(dir), progress)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	git := func(args ...string) (string, error) {
		return gitCommand(ctx, []string{"core.hooksPath=/dev/null", "gc.auto=0"}, args...).in(dir).env(networkEnv()...).output()
	}
	if !exists(filepath.Join(dir, ".git")) {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, fail(err)
		}
		if _, err := git("init", "--quiet"); err != nil {
			return nil, fail(err)
		}
	}
	fmt.Fprintf(progress, "fetching %s of %s\n", ref, url)
	if _, err := git("fetch", "--quiet", "--depth=1", "--no-tags", "--", url, ref); err != nil {
		return nil, fail(err)
	}
	if _, err := git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"); err != nil {
		return nil, diskFull(fail(err), dir)
	}
	if err := checkTop(dir, path); err != nil {
		return nil, err
	}
	src, err := openGitTree(ctx, dir, progress)
	if err != nil {
		return nil, err
	}
	// Once its content is known, the source is what git has of it, and not the
	// checkout, which is free for another commit.
	_, err = src.identity(ctx)
	return src, err
}

// networkEnv is what programs that go to the network need of our environment.
func networkEnv() (env []string) {
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		if strings.HasSuffix(strings.ToLower(name), "_proxy") || slices.Contains([]string{"SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"}, name) {
			env = append(env, setting)
		}
	}
	return env
}

// messageID matches the Message-ID of a mail, or where an archive has it.
var messageID = regexp.MustCompile(`^(?:https?://\S+/)?<?[^\s/<>@]+@[^\s/<>@]+>?/?$`)

// lists says whether a series is named by a mail of its thread.
func lists(path string) bool { return messageID.MatchString(path) && !exists(path) }

// thread has b4 fetch the series that a mail is of: with the trailers that replies
// gave it, and of the version that is wanted.
func (r *reader) thread(id string) (series, error) {
	const name = "thread"
	args := []string{"am", "-o", r.scratch, "-n", name}
	if r.version != 0 {
		args = append(args, "-v", fmt.Sprint(r.version))
	}
	fmt.Fprintf(r.progress, "b4 fetches %s\n", id)
	// b4 ends without a word where git knows no user, although it signs nothing here.
	user := []string{"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=user.name", "GIT_CONFIG_VALUE_0=ringproof", "GIT_CONFIG_KEY_1=user.email", "GIT_CONFIG_VALUE_1=ringproof@localhost"}
	_, err := command(r.ctx, "b4", append(args, "--", id)...).env(networkEnv()...).env(user...).output()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.scratch, name+".mbx")
	if !exists(file) {
		return nil, errors.New("b4 am found no series there")
	}
	defer os.Remove(file)
	items, err := r.file(file)
	if err != nil {
		return nil, err
	}
	r.found = true // or b4 had failed
	all, err := r.arrange(items)
	if err != nil {
		return nil, err
	}
	return all, nil
}
