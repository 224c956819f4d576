package initramfs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/child"
	"golang.org/x/sync/errgroup"
)

// build is the pair of programs of an image, in a directory that nobody else
// writes to while lock is held.
type build struct {
	lock        *cache.Lock
	init, guest string
}

const initPackage = "github.com/ringproof/ringproof/initramfs/init"

// programs has the go command bring both programs up to date. They are built
// in place, where it recognises its earlier result and does not link again.
func programs(ctx context.Context, o Options) (*build, error) {
	where, err := filepath.Abs(filepath.Join(o.Dir, "."))
	if err != nil {
		return nil, err
	}
	arch := cmp.Or(o.Arch, "amd64")
	of := where + "\x00" + o.Package
	if arch != "amd64" {
		of += "\x00" + arch
	}
	sum := sha256.Sum256([]byte(of))
	name := "programs/" + hex.EncodeToString(sum[:8])
	lock, err := cache.Acquire(ctx, name, o.Progress)
	if err != nil {
		return nil, err
	}
	dir, err := cache.Dir(name)
	if err != nil {
		lock.Release()
		return nil, err
	}
	b := &build{lock: lock, init: filepath.Join(dir, "init"), guest: filepath.Join(dir, "guest.test")}
	if _, err := os.Stat(b.guest); err != nil {
		fmt.Fprintf(o.Progress, "building the guest's programs (%s)\n", o.Package)
	}
	var both errgroup.Group
	both.Go(func() error { return goCommand(ctx, arch, where, "build", b.init, initPackage) })
	both.Go(func() error { return goCommand(ctx, arch, where, "test -c", b.guest, o.Package) })
	if err := both.Wait(); err != nil {
		lock.Release()
		return nil, err
	}
	// Without test files, go test -c succeeds and writes nothing.
	if _, err := os.Stat(b.guest); err != nil {
		lock.Release()
		return nil, fmt.Errorf("package %s has no tests to run in the guest", o.Package)
	}
	return b, nil
}

// goCommand builds pkg into out for the guest: static, for there is no libc;
// without DWARF, which only costs time to load, and is not needed to print
// a panic's stack.
func goCommand(ctx context.Context, arch, dir, verb, out, pkg string) error {
	args := append(strings.Fields(verb), "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := child.Run(cmd, syscall.SIGTERM, cmd.Run); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(text.Bytes()))
	}
	return nil
}
