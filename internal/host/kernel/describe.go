package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// Description says what a kernel was made of. It is kept beside the kernel as
// build.json.
type Description struct {
	Key string // names the content of all that follows
	// Arch is ARCH= of its build; "" is x86_64, of a version that built no other.
	Arch      string
	Source    string   // the source as the user knows it
	Identity  string   // the source's content
	Series    []string `json:",omitempty"` // the subject of each patch
	Fragments []string // names, in order
	Toolchain []string // the version lines of compiler and linker, and what the user has chosen of the build's programs and their options
	Release   string   // uname -r
	Copy      string   // the directory in trees/ of the cache in which it was built
	Patched   string   // the git tree there that was built: the source with the series
	// Lacks says which optional options of its fragments the kernel lacks, why,
	// and what it costs.
	Lacks []string `json:",omitempty"`
	// Sizes of the files in bytes, by which a damaged cache is noticed.
	Sizes map[string]int64
}

// recipe is part of every key: raise it when the way of building changes the
// result, so that what was cached before is not used.
const recipe = "ringproof kernel recipe 1"

// Names of the files in a cached kernel's directory.
const (
	vmlinuxFile     = "vmlinux"
	configFile      = "config"
	modulesDir      = "modules"
	descriptionFile = "build.json"
)

// describe fills in what is known before anything is built.
//
// The key is made of everything that Kconfig and make read: the resolved
// configuration and the patched tree follow from it, so that a warm run needs
// to make neither.
func describe(ctx context.Context, src source, series series, frags []fragment) (*Description, error) {
	identity, err := src.identity(ctx)
	if err != nil {
		return nil, err
	}
	toolchain, err := readToolchain(ctx)
	if err != nil {
		return nil, err
	}
	d := &Description{Arch: targetArch().arch, Source: src.title(), Identity: identity, Toolchain: toolchain}
	parts := []string{recipe, d.Arch, identity, strings.Join(toolchain, "\n")}
	for _, p := range series {
		d.Series = append(d.Series, p.Subject)
		parts = append(parts, "patch", string(p.text))
		if p.strip != "" {
			parts = append(parts, "strip", p.strip)
		}
	}
	for _, f := range frags {
		d.Fragments = append(d.Fragments, f.name)
	}
	for _, o := range asked(frags) { // not the text: comments change nothing
		parts = append(parts, "option", o.name, o.value)
	}
	d.Key = key(parts)
	return d, nil
}

// key hashes parts, each with its length so that no two lists collide.
func key(parts []string) string {
	h := sha256.New()
	e := json.NewEncoder(h) // quotes and separates
	for _, part := range parts {
		e.Encode([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// open returns the cached kernel in dir, if it is there and whole.
func open(dir string) (*Result, bool) {
	data, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return nil, false
	}
	r := &Result{
		Dir:     dir,
		Vmlinux: filepath.Join(dir, vmlinuxFile),
		Config:  filepath.Join(dir, configFile),
		Cached:  true,
	}
	if err := json.Unmarshal(data, &r.Description); err != nil || len(r.Sizes) == 0 {
		return nil, false
	}
	a := &architectures[0]
	if r.Arch != "" {
		if a = byARCH(r.Arch); a == nil {
			return nil, false
		}
	}
	r.Image = filepath.Join(dir, a.imageFile())
	for name, size := range r.Sizes {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Size() != size {
			return nil, false
		}
	}
	// A kernel of another build may lack both.
	if _, ok := r.Sizes[vmlinuxFile]; !ok {
		r.Vmlinux = ""
	}
	if _, ok := r.Sizes[configFile]; !ok {
		r.Config = ""
	}
	if fi, err := os.Stat(filepath.Join(dir, modulesDir)); err == nil && fi.IsDir() {
		r.Modules = filepath.Join(dir, modulesDir)
	}
	return r, true
}
