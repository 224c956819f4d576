package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// probe is the place in the cache of a result that was found out by trying.
type probe string

// newProbe names the place by all that the finding depends on.
func newProbe(kind string, depends ...string) (probe, error) {
	dir, err := cache.Dir(kind)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(depends, "\x00")))
	return probe(filepath.Join(dir, hex.EncodeToString(sum[:16]))), nil
}

func (p probe) recall() (value string, known bool) {
	data, err := os.ReadFile(filepath.Join(string(p), "value"))
	return string(data), err == nil
}

func (p probe) remember(value string) error {
	return cache.Publish(string(p), func(tmp string) error {
		return os.WriteFile(filepath.Join(tmp, "value"), []byte(value), 0o666)
	})
}

// contentOf names a kernel: the path may hold another one tomorrow.
func contentOf(kernel string) (string, error) {
	f, err := os.Open(kernel)
	if err != nil {
		return "", fmt.Errorf("read the kernel: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read the kernel: %w", err)
	}
	return string(h.Sum(nil)), nil
}

// machineMemory is about the machine that a kernel needs.
func machineMemory(cfg *Config, q program) (probe, error) {
	content, err := contentOf(cfg.Kernel)
	if err != nil {
		return "", err
	}
	return newProbe("machine", content, strings.Join(cfg.Append, " "), q.identity())
}

// machineFor is the first machine to try.
func machineFor(cfg *Config, q program) (Machine, error) {
	machines := q.machinesOf(platformOf(cfg.Arch))
	if len(machines) == 1 {
		return machines[0], nil
	}
	m, err := machineMemory(cfg, q)
	if err != nil {
		return "", err
	}
	if value, known := m.recall(); known {
		return Machine(value), nil
	}
	return machines[0], nil
}

// rememberMachine makes it the first one to try from now on.
func rememberMachine(cfg *Config, q program, machine Machine) error {
	m, err := machineMemory(cfg, q)
	if err != nil {
		return err
	}
	return m.remember(string(machine))
}
