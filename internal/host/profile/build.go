package profile

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/child"
	"github.com/ringproof/ringproof/internal/host/vm"
)

//go:embed plugin.c
var source []byte

// Plugin is the plugin that counts, built for the QEMU that runs VMs here.
type Plugin struct{ path string }

// versions are those of QEMU's plugin interface that plugin.c can be compiled
// for. Each stands for those above it up to the next, as far as QEMU takes them.
var versions = []int{7, 3, 2, 1}

// Build compiles the plugin. The error says what this host lacks for it: gcc, or a
// QEMU that takes plugins, and takes this one.
func Build(ctx context.Context) (*Plugin, error) {
	var refused string
	for _, version := range versions {
		path, err := compile(ctx, version)
		if err != nil {
			return nil, err
		}
		// Without its argument it refuses, but only if QEMU takes this version.
		said, err := vm.AskQEMU(ctx, "-M", "none", "-nodefaults", "-display", "none", "-plugin", escape(path))
		if strings.Contains(said, "profile: no dir= is given") {
			return &Plugin{path}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if said == "" && err != nil {
			return nil, fmt.Errorf("try a plugin in QEMU: %w", err)
		}
		refused = said
	}
	return nil, fmt.Errorf("QEMU does not take the plugin that counts where instructions are executed, which is for versions 1 to %d of its interface: %s", versions[0], strings.TrimSpace(refused))
}

// compile returns the plugin's path in the cache.
func compile(ctx context.Context, version int) (string, error) {
	plugins, err := cache.Dir("plugins")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(source)
	dir := filepath.Join(plugins, fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:16]), version))
	path := filepath.Join(dir, "profile.so")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("compile the plugin of QEMU that counts where instructions are executed: %w", err)
	}
	return path, cache.Publish(dir, func(tmp string) error {
		c := exec.CommandContext(ctx, gcc, "-x", "c", "-O2", "-shared", "-fPIC", "-fvisibility=hidden",
			fmt.Sprintf("-DAPI=%d", version), "-o", filepath.Join(tmp, "profile.so"), "-")
		c.Stdin = bytes.NewReader(source)
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		if err := child.Run(c, syscall.SIGKILL, c.Run); err != nil {
			return fmt.Errorf("%s: %w\n%s", c, err, said.String())
		}
		return nil
	})
}

// Prepare readies dir, which is made if need be, for the profile of a VM that boots the
// kernel, and returns the argument of QEMU's -plugin for it. Take takes each window
// once the guest has closed it.
func (p *Plugin) Prepare(dir string, k *Kernel) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	stale, err := filepath.Glob(filepath.Join(dir, "profile.*"))
	for _, file := range stale {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		return "", err
	}
	entries, err := k.entries()
	if err != nil {
		return "", err
	}
	return escape(p.path) + ",dir=" + escape(dir), os.WriteFile(filepath.Join(dir, "profile.entries"), entries, 0o666)
}

// escape makes a path part of an argument of QEMU's.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
