package kernel

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/srcline"
)

// BuiltSource is the source of a kernel in the cache, with its series.
type BuiltSource struct {
	copy string // the source's copy in the cache, with whatever series it has now
	repo repo
	tree string // as it was built
}

// FindSource finds the source of the kernel whose vmlinux this is, or is a copy
// of: by its build id. It is nil if the cache does not know.
func FindSource(vmlinux string) (*BuiltSource, error) {
	id, err := srcline.BuildID(vmlinux)
	if err != nil || id == "" {
		return nil, err
	}
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(root, "kernels"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		r, ok := open(filepath.Join(root, "kernels", entry.Name()))
		if !ok {
			continue
		}
		if other, err := srcline.BuildID(r.Vmlinux); err != nil || other != id {
			continue
		}
		if r.Patched == "" { // of a version that did not keep it
			return nil, nil
		}
		dir := filepath.Join(root, "trees", r.Copy)
		return &BuiltSource{copy: filepath.Join(dir, "src"), repo: repo{filepath.Join(dir, "git")}, tree: r.Patched}, nil
	}
	return nil, nil
}

// Read returns the text of a file, by its name from the top of the tree on, as
// it was when the kernel was built; false if that is not known.
func (b *BuiltSource) Read(ctx context.Context, file string) (text string, ok bool) {
	id, err := b.repo.git(ctx, "rev-parse", "--verify", "--quiet", b.tree+":"+file).output()
	if err != nil {
		return "", false
	}
	id = strings.TrimSpace(id)
	if text, err := b.repo.git(ctx, "cat-file", "blob", id).output(); err == nil {
		return text, true
	}
	// No series has touched it: it is in the copy alone.
	data, err := os.ReadFile(filepath.Join(b.copy, file))
	if err != nil {
		return "", false
	}
	is, err := b.repo.git(ctx, "hash-object", "--stdin").input(strings.NewReader(string(data))).output()
	return string(data), err == nil && strings.TrimSpace(is) == id
}
