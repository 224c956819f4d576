package selftest

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clang is the version that compiled what is kept. Another one may lawfully
// make something else of the same source.
const clang = "14.0.6"

// TestGenerated: the eBPF programs that are kept are what their sources say.
func TestGenerated(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Skip("not run: no clang at hand: ", err)
	}
	if !strings.Contains(string(version), clang) {
		t.Skipf("not run: the programs were compiled by clang %s, here is %s", clang, version)
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil {
		t.Skip("not run: no libbpf-dev at hand: ", err)
	}
	packages := make(map[string]bool)
	if err := fs.WalkDir(os.DirFS(".."), ".", func(path string, _ fs.DirEntry, err error) error {
		if path == ".git" || path == "artifacts" {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".bpf.c") {
			packages[filepath.Dir(path)] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(packages) == 0 {
		t.Fatal("no sources of eBPF programs")
	}
	for dir := range packages {
		t.Run(dir, func(t *testing.T) { regenerate(t, dir) })
	}
}

// regenerate makes what is generated in a copy of a package, from its sources
// alone, and compares.
func regenerate(t *testing.T, dir string) {
	root := t.TempDir()
	copied := filepath.Join(root, dir)
	if err := os.MkdirAll(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("..", dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string][]byte)
	for _, file := range append(files, "../go.mod", "../go.sum") {
		to := filepath.Join(root, strings.TrimPrefix(file, "../"))
		if info, err := os.Stat(file); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if isGenerated(file) {
			kept[filepath.Base(file)] = content
			continue
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	generate := exec.Command("go", "generate", "./"+dir)
	generate.Dir = root
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", generate, err, out)
	}
	made, err := filepath.Glob(filepath.Join(copied, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range made {
		name := filepath.Base(file)
		if !isGenerated(name) {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(kept[name], content) {
			t.Errorf("%s/%s is not what its source says; go generate ./%s makes it", dir, name, dir)
		}
		delete(kept, name)
	}
	for name := range kept {
		t.Errorf("%s/%s is kept, and nothing makes it", dir, name)
	}
}

// isGenerated says whether bpf2go makes a file of that name.
func isGenerated(name string) bool {
	return strings.HasSuffix(name, "_bpfel.go") || strings.HasSuffix(name, "_bpfel.o")
}
