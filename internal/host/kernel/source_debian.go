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

	"github.com/ringproof/ringproof/internal/host/cache"
)

// debian is the source archive of Debian's package.
type debian struct {
	hash     string // SHA-256 of the archive
	progress io.Writer
}

// archiveStamp remembers the hash of the archive, which takes half a second
// to compute, for as long as the file looks the same.
type archiveStamp struct {
	Size, ModTime int64
	SHA256        string
}

func openDebian(progress io.Writer) (source, error) {
	fail := func(err error) error { return fmt.Errorf("read the kernel's source archive: %w", err) }
	fi, err := os.Stat(debianSource)
	if err != nil {
		return nil, fail(err)
	}
	dir, err := cache.Dir("sources")
	if err != nil {
		return nil, err
	}
	stampFile := filepath.Join(dir, debianPackage+".json")
	stamp := archiveStamp{Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
	var known archiveStamp
	if data, err := os.ReadFile(stampFile); err == nil && json.Unmarshal(data, &known) == nil &&
		known.Size == stamp.Size && known.ModTime == stamp.ModTime && len(known.SHA256) == 2*sha256.Size {
		return &debian{known.SHA256, progress}, nil
	}
	f, err := os.Open(debianSource)
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
	os.WriteFile(stampFile, data, 0o644) // without it the next run hashes again
	return &debian{stamp.SHA256, progress}, nil
}

func (d *debian) name() string  { return debianPackage + "-" + d.hash[:8] }
func (d *debian) title() string { return "Debian's " + debianPackage }

func (d *debian) identity(context.Context) (string, error) { return "archive " + d.hash, nil }

func (d *debian) repo(ctx context.Context) (repo, error) {
	return openSourceRepo(ctx, d, "sha1", "")
}

// base unpacks the archive. The order of the steps makes t.src appear last:
// where it exists, the index and the tree's id do too.
func (d *debian) base(ctx context.Context, t *tree) (string, error) {
	idFile := filepath.Join(t.dir, "base")
	if exists(t.src) {
		id, err := os.ReadFile(idFile)
		if err != nil {
			return "", fmt.Errorf("read the cached tree (delete %s to unpack it again): %w", t.dir, err)
		}
		return string(id), nil
	}
	fmt.Fprintf(d.progress, "unpacking %s\n", debianSource)
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	_, err = command(ctx, "tar", "--extract", "--use-compress-program=xz -T0", "--strip-components=1", "--no-same-owner",
		"--directory="+scratch.Path, "--file="+debianSource).output()
	if err != nil {
		return "", fmt.Errorf("unpack the kernel's source: %w", err)
	}
	paths, err := allFiles(scratch.Path)
	if err != nil {
		return "", err
	}
	os.Remove(t.index)
	id, err := t.repo.scan(ctx, scratch.Path, paths, t.index)
	if err != nil {
		return "", fmt.Errorf("take stock of the kernel's source: %w", err)
	}
	if err := os.WriteFile(idFile, []byte(id), 0o644); err != nil {
		return "", fmt.Errorf("unpack the kernel's source: %w", err)
	}
	if err := os.Rename(scratch.Path, t.src); err != nil {
		return "", fmt.Errorf("unpack the kernel's source: %w", err)
	}
	return id, nil
}

// pristine: what no series has touched is as it was unpacked.
func (d *debian) pristine(t *tree) string { return t.src }
