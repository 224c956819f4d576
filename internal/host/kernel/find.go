package kernel

import (
	"context"
	"io"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// Find returns the kernel of spec if Build would find it in the cache, and nil
// if it would have to build it.
func Find(ctx context.Context, spec Spec) (*Result, error) {
	what, _, err := describeSpec(ctx, spec, io.Discard)
	if err != nil {
		return nil, err
	}
	root, err := cache.Dir("kernels")
	if err != nil {
		return nil, err
	}
	if result, ok := open(filepath.Join(root, what.Key)); ok {
		return result, nil
	}
	return nil, nil
}
