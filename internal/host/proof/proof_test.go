package proof

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

// TestPatches: the designs and bugs that are kept say what they have to.
func TestPatches(t *testing.T) {
	designs, err := Read("../../../patches")
	if err != nil {
		t.Fatal(err)
	}
	if len(designs) < 5 {
		t.Errorf("%d designs, want at least 5", len(designs))
	}
	for _, d := range designs {
		if d.Name != "stock" && d.Name != "mainline" && d.Name != "macvtap" && len(d.Series) == 0 {
			t.Errorf("%s has no patches", d.Name)
		}
		if d.Driver == "macvtap" && !slices.Equal(d.Fragments, []string{"macvtap"}) {
			t.Errorf("%s is configured by %v, which has no macvtap", d.Name, d.Fragments)
		}
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const bug = `From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A <a@localhost>
Subject: [PATCH] tun: forget
 to wake

Design: sound
Promise: no-stall
Caught-by: TestNoStall/fq_codel
---
diff --git a/x b/x
`

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   string
	}{
		{"good", nil, ""},
		{"a verdict that is none", map[string]string{"designs/sound/verdict": "no-stall perhaps\n"}, `"no-stall perhaps"`},
		{"a fragment that is none", map[string]string{"designs/sound/verdict": "config macvtop\n"}, `there is no fragment "macvtop"`},
		{"a promise that is none", map[string]string{"designs/sound/verdict": "no-fun broken\n"}, `there is no promise "no-fun"`},
		{"a bug of no design", map[string]string{"bugs/b.patch": strings.Replace(bug, "sound", "loud", 1)}, `there is no design "loud"`},
		{"a bug that nothing catches", map[string]string{"bugs/b.patch": strings.Replace(bug, "Caught-by", "Seen-by", 1)}, `no line "Caught-by: ..."`},
		{"no mail", map[string]string{"bugs/b.patch": "diff\n"}, "not a mail"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"designs/sound/verdict": "contract lossless\n", "designs/sound/1.patch": "", "bugs/b.patch": bug})
			write(t, dir, tt.files)
			designs, err := Read(dir)
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Fatalf("error %v, want %q", err, tt.err)
			case err != nil:
				return
			}
			if b := designs[0].Bugs[0]; b.Subject != "tun: forget to wake" || b.Promise != contract.NoStall || b.Check != "TestNoStall/fq_codel" {
				t.Errorf("%+v", b)
			}
		})
	}
}

// TestWrong: whatever is not as it should be is said.
func TestWrong(t *testing.T) {
	d := &Design{Name: "d", Broken: []contract.Promise{contract.NoStall}}
	b := &Bug{Name: "b", Design: d, Promise: contract.NoTailDrop, Check: "TestA"}
	d.Bugs = []*Bug{b}
	asReviewed := map[contract.Promise]contract.Outcome{
		contract.NoTailDrop: contract.Kept, contract.NoqueueDrops: contract.Kept, contract.NoStall: contract.Broken, contract.RequeueIntact: contract.Kept,
		contract.OptInFlag: contract.Kept,
	}
	notOptIn := maps.Clone(asReviewed)
	notOptIn[contract.OptInFlag] = contract.NotRun
	for _, tt := range []struct {
		name        string
		design, bug *Outcome
		driver      string
		want        string
	}{
		{"as it should be", &Outcome{Promises: asReviewed}, &Outcome{CaughtBy: "TestA"}, "", ""},
		{"not judged", nil, &Outcome{CaughtBy: "TestA"}, "", "d: was not judged"},
		{"a promise that nothing tried", &Outcome{}, &Outcome{CaughtBy: "TestA"}, "", "no-tail-drop is not tried, and should be kept"},
		{"not tried", &Outcome{Promises: asReviewed}, nil, "", "b: was not tried"},
		{"survives", &Outcome{Promises: asReviewed}, &Outcome{}, "", "b: survives"},
		{"elsewhere", &Outcome{Promises: asReviewed}, &Outcome{CaughtBy: "TestB", Elsewhere: true}, "", "caught by TestB, and not by TestA"},
		{"without it, too", &Outcome{Promises: asReviewed, Tests: map[contract.Promise][]string{contract.NoTailDrop: {"TestA"}}}, &Outcome{CaughtBy: "TestA"}, "", "fails without it"},
		{"what no check of the driver tries", &Outcome{Promises: notOptIn}, &Outcome{CaughtBy: "TestA"}, "veth", ""},
		{"what no check of the driver tries, and one does", &Outcome{Promises: asReviewed}, &Outcome{CaughtBy: "TestA"}, "veth", "opt-in-flag is kept, and should be not run"},
		{"an error of the guest's", &Outcome{Promises: asReviewed, Errors: []string{"panic"}}, &Outcome{CaughtBy: "TestA"}, "", "d: panic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.Driver = tt.driver
			p := &Proof{Designs: []*Design{d}, Outcomes: map[string]*Outcome{}}
			if tt.design != nil {
				p.Outcomes["d"] = tt.design
			}
			if tt.bug != nil {
				p.Outcomes["d+b"] = tt.bug
			}
			if wrong := strings.Join(p.Wrong(), "\n"); (wrong == "") != (tt.want == "") || !strings.Contains(wrong, tt.want) {
				t.Errorf("wrong: %q, want %q", wrong, tt.want)
			}
		})
	}
}

// TestCompared: a way to look for a bug that the guest died of has caught it, and
// those behind it are tried with another guest.
func TestCompared(t *testing.T) {
	panicked := report.Fault{Kind: report.Kernel, Test: "TestBaseline/stress/race#05", What: "the guest ended early: kernel panic"}
	complained := report.Fault{Kind: report.Kernel, Test: "TestBaseline/random", Title: "WARNING: in tun_net_xmit"}
	random := contract.Baseline{Method: "random", Limit: time.Second, Promise: contract.NoStall, Tried: 5, After: 300 * time.Millisecond}
	systematic := contract.Baseline{Method: "systematic", Limit: time.Second, Tried: 9, After: time.Second}
	o := &Outcome{CaughtBy: "TestA"}
	if left := o.compared(&report.Run{Errors: []report.Fault{panicked}}, methods); !slices.Equal(left, []string{"random", "systematic"}) {
		t.Errorf("after a panic in stress %v are left", left)
	}
	if left := o.compared(&report.Run{Errors: []report.Fault{complained}, Baselines: []contract.Baseline{random, systematic}}, methods[1:]); left != nil {
		t.Errorf("a report of the kernel leaves %v, as if the guest had died", left)
	}
	d := &Design{Name: "d"}
	d.Bugs = []*Bug{{Name: "b", Design: d}, {Name: "c", Design: d}}
	p := &Proof{Designs: []*Design{d}, Outcomes: map[string]*Outcome{
		"d+b": o, "d+c": {CaughtBy: "TestA", Baselines: []contract.Baseline{{Method: "stress", Limit: time.Second, Tried: 3}}},
	}}
	rows := make(map[string]string)
	for line := range strings.Lines(p.baselines()) {
		name, cells, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows[name] = strings.Join(strings.Fields(cells), " ")
	}
	for name, want := range map[string]string{
		"b": "guest died 0.3 s not in 9", "c": "not in 3 no answer no answer", "caught": "1 of 2 1 of 2 0 of 2", "median": "- 0.3 s -",
	} {
		if rows[name] != want {
			t.Errorf("%s: %q, want %q", name, rows[name], want)
		}
	}
}

// TestNames: a name that is none is not passed over.
func TestNames(t *testing.T) {
	all := []job{{name: "d"}, {name: "d+b", bug: &Bug{Name: "b"}}}
	for _, tt := range []struct {
		only []string
		jobs int
		err  string
	}{
		{nil, 2, ""},
		{[]string{"b"}, 1, ""},
		{[]string{"d", "d+b"}, 2, ""},
		{[]string{"b", "c"}, 0, `"c"`},
	} {
		mine, err := (&Config{Only: tt.only}).mine(all)
		if len(mine) != tt.jobs || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: %d jobs, %v; want %d, %q", tt.only, len(mine), err, tt.jobs, tt.err)
		}
	}
}

// TestShards: every job is in one shard.
func TestShards(t *testing.T) {
	all := make([]job, 10)
	done := 0
	for shard := 1; shard <= 3; shard++ {
		mine, err := (&Config{Shard: shard, Shards: 3}).mine(all)
		if err != nil {
			t.Fatal(err)
		}
		done += len(mine)
	}
	if done != len(all) {
		t.Errorf("%d jobs in all shards, of %d", done, len(all))
	}
}

// TestWhatAnOutcomeDependsOn: when any of it changes, the job is done again.
func TestWhatAnOutcomeDependsOn(t *testing.T) {
	passes := [][]string{{"-short"}}
	first := key("k", "/cache/initramfs/1/initramfs.cpio", passes, contract.Stock, 0)
	if again := key("k", "/elsewhere/initramfs/1/initramfs.cpio", passes, contract.Stock, 0); again != first {
		t.Error("another cache changes the key")
	}
	for what, other := range map[string]string{
		"kernel":   key("l", "/cache/initramfs/1/initramfs.cpio", passes, contract.Stock, 0),
		"image":    key("k", "/cache/initramfs/2/initramfs.cpio", passes, contract.Stock, 0),
		"checks":   key("k", "/cache/initramfs/1/initramfs.cpio", nil, contract.Stock, 0),
		"contract": key("k", "/cache/initramfs/1/initramfs.cpio", passes, contract.Auto, 0),
	} {
		if other == first {
			t.Errorf("another %s does not change the key", what)
		}
	}
}
