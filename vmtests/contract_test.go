package vmtests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests of vmtests/guest, by the same names.

func TestKernel(t *testing.T)       { inGuest(t) }
func TestNoTailDrop(t *testing.T)   { inGuest(t) }
func TestNoqueueDrops(t *testing.T) { inGuest(t) }
func TestNoStall(t *testing.T)      { inGuest(t) }

// TestNothingIsLeftOut holds the list above to what the guest has: a test that
// is not in it would never run.
func TestNothingIsLeftOut(t *testing.T) {
	replayed := testsIn(t, ".")
	for _, name := range testsIn(t, "guest") {
		if !slices.Contains(replayed, name) {
			t.Errorf("vmtests/guest has a %s that nothing here replays", name)
		}
	}
}

// testsIn returns the names of the tests in a directory's package.
func testsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	var names []string
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
