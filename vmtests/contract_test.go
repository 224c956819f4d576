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

// The tests of vmtests/guest, by the same names and in the order in which they
// run there: by file, and within a file as they stand.

func TestBaseline(t *testing.T)         { inGuest(t) }
func TestKernel(t *testing.T)           { inGuest(t) }
func TestMirror(t *testing.T)           { inGuest(t) }
func TestNoqueueDrops(t *testing.T)     { inGuest(t) }
func TestNoStall(t *testing.T)          { inGuest(t) }
func TestNoTailDrop(t *testing.T)       { inGuest(t) }
func TestBackpressureFlag(t *testing.T) { inGuest(t) }
func TestRequeue(t *testing.T)          { inGuest(t) }
func TestRequeueSchedules(t *testing.T) { inGuest(t) }
func TestFaults(t *testing.T)           { inGuest(t) }
func TestStoreSchedules(t *testing.T)   { inGuest(t) }
func TestPairSchedules(t *testing.T)    { inGuest(t) }
func TestSchedules(t *testing.T)        { inGuest(t) }
func TestControlSchedules(t *testing.T) { inGuest(t) }

// TestNothingIsLeftOut holds the list above to what the guest has. A test that
// is not in it would never run, and one that is out of order would seem to
// take the time of others.
func TestNothingIsLeftOut(t *testing.T) {
	replayed := slices.DeleteFunc(testsIn(t, "."), func(name string) bool { return name == t.Name() })
	if guest := testsIn(t, "guest"); !slices.Equal(replayed, guest) {
		t.Errorf("vmtests replays %v, but vmtests/guest has %v", replayed, guest)
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
