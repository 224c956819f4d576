package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// archive is a source as a tar file. Where it came from makes no difference:
// its content names it.
type archive struct {
	path     string
	what     string // as the user knows it
	hash     string // SHA-256 of the file
	progress io.Writer
}

// archiveName matches files that are taken for archives.
var archiveName = regexp.MustCompile(`\.(tar|tar\.(xz|gz|zst|bz2)|tgz|txz)$`)

// archiveStamp remembers the hash of an archive, which takes half a second
// to compute, for as long as the file looks the same.
type archiveStamp struct {
	Size, ModTime int64
	SHA256        string
}

func openArchive(path, what string, progress io.Writer) (source, error) {
	fail := func(err error) error { return fmt.Errorf("read the kernel's source archive: %w", err) }
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fail(err)
	}
	dir, err := cache.Dir("sources")
	if err != nil {
		return nil, err
	}
	stampFile := filepath.Join(dir, sourceName(path, path)+".json")
	stamp := archiveStamp{Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
	var known archiveStamp
	if data, err := os.ReadFile(stampFile); err == nil && json.Unmarshal(data, &known) == nil &&
		known.Size == stamp.Size && known.ModTime == stamp.ModTime && len(known.SHA256) == 2*sha256.Size {
		return &archive{path, what, known.SHA256, progress}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fail(err)
	}
	stamp.SHA256 = hex.EncodeToString(h.Sum(nil))
	data, err := json.Marshal(stamp)
	if err != nil {
		return nil, fail(err)
	}
	os.WriteFile(stampFile, data, 0o666) // without it the next run hashes again
	return &archive{path, what, stamp.SHA256, progress}, nil
}

func (a *archive) name() string {
	return unfit.ReplaceAllString(archiveName.ReplaceAllString(filepath.Base(a.path), ""), "_") + "-" + a.hash[:8]
}

func (a *archive) title() string { return a.what }

func (a *archive) identity(context.Context) (string, error) { return "archive " + a.hash, nil }

func (a *archive) repo(ctx context.Context) (repo, error) {
	return openSourceRepo(ctx, a, "sha1", "")
}

// base unpacks the archive. The order of the steps makes t.src appear last:
// where it exists, the index and the tree's id do too.
func (a *archive) base(ctx context.Context, t *tree) (string, error) {
	idFile := filepath.Join(t.dir, "base")
	if exists(t.src) {
		id, err := os.ReadFile(idFile)
		if err != nil {
			return "", fmt.Errorf("read the cached tree (delete %s to unpack it again): %w", t.dir, err)
		}
		return string(id), nil
	}
	fmt.Fprintf(a.progress, "unpacking %s\n", a.path)
	scratch, err := cache.NewScratchBeside(t.src)
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	args := []string{"--extract", "--no-same-owner", "--directory=" + scratch.Path, "--file=" + a.path, "--force-local"}
	if filepath.Ext(a.path) == ".xz" {
		args = append(args, "--use-compress-program=xz -T0")
	}
	if _, err = command(ctx, "tar", args...).output(); err != nil {
		return "", fmt.Errorf("unpack the kernel's source %s: %w", a.path, err)
	}
	top, err := topOf(scratch.Path)
	if err != nil {
		return "", fmt.Errorf("unpack the kernel's source %s: %w", a.path, err)
	}
	if err := checkTop(top, a.path); err != nil {
		return "", err
	}
	fmt.Fprintf(a.progress, "taking stock of its files\n")
	paths, err := allFiles(top)
	if err != nil {
		return "", err
	}
	os.Remove(t.index)
	id, err := t.repo.scan(ctx, top, paths, t.index)
	if err != nil {
		return "", fmt.Errorf("take stock of the kernel's source: %w", err)
	}
	if err := os.WriteFile(idFile, []byte(id), 0o666); err != nil {
		return "", fmt.Errorf("unpack the kernel's source: %w", err)
	}
	if err := os.Rename(top, t.src); err != nil {
		return "", fmt.Errorf("unpack the kernel's source: %w", err)
	}
	return id, nil
}

// topOf is where the tree is in what was unpacked: archives have it in a
// directory, or they do not (git archive without --prefix).
func topOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) == 1 && entries[0].IsDir() {
		return filepath.Join(dir, entries[0].Name()), nil
	}
	return dir, err
}

// pristine: what no series has touched is as it was unpacked.
func (a *archive) pristine(t *tree) string { return t.src }
