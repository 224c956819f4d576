package report

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/joshdk/go-junit"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// sample is a run with something of everything in it, and names that need care.
func sample() *Run {
	found := schedule(contract.NoTailDrop, "consumer", "tun_ring_consume+0x2f/send-three/ring=2/fq_codel/left=1", 0x27, 0x3a)
	found.Test = "TestSchedules/tun_chr_read_iter/send-three/ring=2/fq_codel/left=1"
	found.At = []uint64{0x27, 0x2f, 0x3a}
	found.Evidence = "evidence"
	found.Source = []Source{{Symbol: "tun_ring_consume", Function: "tun_ring_consume", File: "drivers/net/tun.c", Held: []int{12, 13}, Lines: []Line{
		{11, "\tlock(&ring->consumer);"}, {12, "\tpacket = take(ring);"}, {13, "\tif (packet && room < half) /* <b>not bold</b> */"}, {14, "\t\twake(txq);"}, {15, "\tunlock(&ring->consumer);"},
	}}}
	states := []*contract.Queue{nil, {Ring: 1, Size: 2}, nil, {Ring: 2, Size: 2, Backlog: 2, Stopped: true}, {Ring: 2, Size: 2, Backlog: 1}}
	for i, q := range states {
		found.TimeLine[i].Queue = q
	}
	kept := append([]contract.Moment(nil), found.TimeLine...)
	kept[4].Queue = states[3]
	found.Kept = &contract.Neighbour{Place: contract.Place{Name: "tun_ring_consume+0x3e", Text: "ret"}, Schedule: "s", TimeLine: kept, Books: found.Books}
	pair := schedule(contract.NoTailDrop, "producer", "tun_net_xmit+0x26f&tun_ring_consume+0x2d/ring=1/fq_codel", 0x26f, 0x26f)
	pair.Test = "TestPairSchedules/producer-first/ring=1"
	pair.Second = &contract.Place{Name: "tun_ring_consume+0x2d", Text: "je 0xffffffff81263149"}
	script := Finding{Test: "TestFaults", Replay: "SEED=7 go test ./vmtests -run '^TestFaults$'", Finding: contract.Finding{
		Promise: contract.NoStall, Contract: contract.Lossless, Script: "1. fill the ring\n2. detach the queue", Seed: 7, Failed: 1, Tries: 1,
		Why: "a fresh packet stayed in the qdisc for 1s although the ring is empty", Books: &contract.Books{Offered: 3, Drops: map[string]uint64{"NOT_SPECIFIED@tun_queue_purge": 2}, LeftQdisc: 1},
	}}
	return &Run{
		Dir: "/artifacts/one", Label: "mine", Kernel: "/home/me/it's mine/bzImage", Arch: "x86_64", Release: "7.3.0-rc7", Preemption: "PREEMPT_LAZY", BuildID: "12ab", Accel: "tcg",
		AccelReason: "there is no /dev/kvm", Modules: []string{"vhost_net: exec format error"}, Contract: contract.Auto,
		Command: `KERNEL='/home/me/it'\''s mine/bzImage' go test ./vmtests`, Seed: 7, Started: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC), Seconds: 61.5,
		Suite: []string{"TestNoTailDrop", "TestSchedules"}, Shard: "1/2",
		Verdicts: []contract.Verdict{
			{Test: "TestNoTailDrop/tap#1", Promise: contract.NoTailDrop, Contract: contract.Lossless, Outcome: contract.Kept, Why: "0 of 9 <packets> & \x01", Books: &contract.Books{Offered: 9, Refused: 1, Received: 8, Drops: map[string]uint64{"QDISC_DROP@f": 1}}},
			{Test: found.Test, Promise: contract.NoTailDrop, Contract: contract.Lossless, Outcome: contract.Broken, Why: found.Why, Books: found.Books},
			{Test: pair.Test, Promise: contract.NoTailDrop, Contract: contract.Lossless, Outcome: contract.Broken, Why: pair.Why},
			{Test: "TestNoTailDrop/shrink", Promise: contract.NoTailDrop, Contract: contract.Lossless, Outcome: contract.Broken, Why: "2 of 70", Evidence: "stacks", Nth: 3},
			{Test: "TestNoqueueDrops/tap", Promise: contract.NoqueueDrops, Contract: contract.Lossless, Outcome: contract.Undecided, Why: "the books do not balance: “9 ≠ 8”"},
			{Test: "TestFaults", Promise: contract.NoStall, Contract: contract.Lossless, Outcome: contract.Broken, Why: script.Why},
			{Test: "TestRequeue", Promise: contract.RequeueIntact, Contract: contract.Lossless, Outcome: contract.NotRun, Why: "this kernel lacks CONFIG_X"},
		},
		Findings:  []Finding{pair, found, script},
		Baselines: []contract.Baseline{{Method: "random", Limit: time.Second, Promise: contract.NoStall, Tried: 9, After: time.Millisecond}},
		Unknown:   contract.Paths{"BURST@f": {contract.NoCounter}},
		Tests:     Tests{Passed: 1, Failed: 5, Skipped: 1},
		Errors:    []Fault{{Kind: Kernel, Test: "TestNoTailDrop/shrink", Title: "WARNING at f", What: "WARNING at f\nCall Trace:\n f+0x1/0x2"}, {Kind: SetUp, What: "the disk is full"}},
		Cost:      "a table",
		Measured:  measured("stock", "mine"),
		Noise:     []Fault{{Kind: Kernel, What: "WARNING at g"}},
	}
}

// TestReadBack: what is made of the artifacts later is what the run has left.
func TestReadBack(t *testing.T) {
	r := sample()
	r.Dir = t.TempDir()
	if err := r.WriteAll(); err != nil {
		t.Fatal(err)
	}
	again, err := Read(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range formats {
		left, err := os.ReadFile(filepath.Join(r.Dir, f.file))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := again.Format(f.name); err != nil || string(text) != string(left) {
			t.Errorf("%s: %v\n%s\nwas\n%s", f.name, err, text, left)
		}
	}
}

// TestKTAP has the kernel's own parser read it.
func TestKTAP(t *testing.T) {
	const parser = "tools/testing/kunit/kunit.py"
	trees := []string{os.Getenv("KSRC")}
	if dir, err := cache.Root(); err == nil {
		built, _ := filepath.Glob(filepath.Join(dir, "trees", "*", "src"))
		trees = append(trees, built...)
	}
	var tools []string
	for _, tree := range trees {
		if file := filepath.Join(tree, parser); tree != "" {
			if _, err := os.Stat(file); err == nil {
				tools = append(tools, file)
			}
		}
	}
	if tools == nil {
		t.Skipf("not run: no kernel source with %s at hand; KSRC names a tree", parser)
	}
	for _, tool := range tools {
		t.Run(tool, func(t *testing.T) { readKTAP(t, tool) })
	}
}

// group is what the parser makes of a test with subtests.
type group struct {
	SubGroups []group                   `json:"sub_groups"`
	TestCases []struct{ Status string } `json:"test_cases"`
}

// count adds up how many test cases have which status.
func (g *group) count(statuses map[string]int) {
	for _, c := range g.TestCases {
		statuses[c.Status]++
	}
	for _, sub := range g.SubGroups {
		sub.count(statuses)
	}
}

func readKTAP(t *testing.T, tool string) {
	read := func(r *Run) map[string]int {
		t.Helper()
		file := filepath.Join(t.TempDir(), "verdict.ktap")
		text, err := r.Format("ktap")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("python3", "-B", tool, "parse", "--json="+file+".json", file).CombinedOutput()
		data, missing := os.ReadFile(file + ".json")
		if missing != nil {
			t.Skipf("not run: %s: %v\n%s", tool, err, out)
		}
		if strings.Contains(string(out), "[ERROR]") {
			t.Errorf("the parser finds fault with\n%s\n%s", text, out)
		}
		var all group
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		statuses := make(map[string]int)
		all.count(statuses)
		return statuses
	}
	// One kept, four broken, one undecided, one not run, two faults.
	if n, want := read(sample()), map[string]int{"PASS": 1, "FAIL": 7, "SKIP": 1}; !maps.Equal(n, want) {
		t.Errorf("%s reads %v, want %v", tool, n, want)
	}
	if n, want := read(&Run{}), map[string]int{"FAIL": 1}; !maps.Equal(n, want) {
		t.Errorf("%s reads a run without a verdict as %v, want %v", tool, n, want)
	}
}

// TestJUnit has a parser read it that others use.
func TestJUnit(t *testing.T) {
	text, err := sample().Format("junit")
	if err != nil {
		t.Fatal(err)
	}
	suites, err := junit.Ingest(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var n junit.Totals
	for _, s := range suites {
		n.Tests += s.Totals.Tests
		n.Passed += s.Totals.Passed
		n.Failed += s.Totals.Failed
		n.Error += s.Totals.Error
		n.Skipped += s.Totals.Skipped
	}
	if n.Tests != 9 || n.Passed != 1 || n.Failed != 4 || n.Error != 3 || n.Skipped != 1 {
		t.Errorf("read as %+v\n%s", n, text)
	}
	if !strings.Contains(string(text), `<testsuites name="ringproof" tests="9" failures="4" errors="3" skipped="1" time="61.500">`) {
		t.Errorf("its own count differs:\n%s", text)
	}
}

// TestSchema holds verdict.json to its schema, and the schema to what there is.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../../docs/verdict.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(r *Run) error {
		text, err := r.Format("json")
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	full := sample()
	early := *delayed
	early.Early = true
	full.Findings[0].Delayed = &early
	for name, r := range map[string]*Run{"a run": full, "an empty run": {Started: time.Now()}} {
		if err := check(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := sample()
	wrong.Verdicts[0].Outcome = "perhaps"
	if check(wrong) == nil {
		t.Error("an outcome that there is not is valid")
	}
	// Every field is set somewhere in the sample, or its name is not held to anything.
	for _, field := range unset(reflect.ValueOf(full), make(map[string]bool)) {
		switch field {
		case "Books.Unallocated", "Books.Quiet", "Books.LeftRing", "Books.Duplicated", "Books.Reordered", "Books.Corrupted", "Books.Foreign",
			"Books.DeviceTxDropped", "Books.QdiscDropped", "Books.QdiscRequeues", "Books.Unknown", "Finding.Reached", "Place.Addr":
			// Which are always there, or of a type that others have.
		default:
			t.Errorf("%s is not set in the sample", field)
		}
	}
}

// unset returns the fields that are zero wherever they are.
func unset(v reflect.Value, set map[string]bool) (fields []string) {
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() && v.Type() != reflect.TypeFor[time.Time]() {
					name := v.Type().Name() + "." + f.Name
					set[name] = set[name] || !v.Field(i).IsZero()
					walk(v.Field(i))
				}
			}
		}
	}
	walk(v)
	for name, is := range set {
		if !is {
			fields = append(fields, name)
		}
	}
	return fields
}

// TestMail: what goes into a mail is plain ASCII in short lines, and a shell takes
// its commands for what they were.
func TestMail(t *testing.T) {
	r := sample()
	r.Verdicts[3].Test = "TestControlSchedules/tun_chr_read_iter/supplant/ring=2/noqueue/left=2/backpressure"
	r.Verdicts[4].Why = strings.Repeat("x", 200)
	r.Command = "KERNEL='" + strings.Repeat("/home/me/it'\\''s mine", 9) + "' VMLINUX=" + strings.Repeat("/a_b", 40) + `/c\ d go test ./vmtests`
	text, err := r.Format("mail")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > mailWidth || strings.Trim(line, "\n") != strings.TrimRight(strings.Trim(line, "\n"), " ") {
			t.Errorf("%d columns: %q", n, line)
		}
		for _, c := range line {
			if c > '~' || c < ' ' && c != '\n' {
				t.Errorf("%q in %q", c, line)
			}
		}
	}
	for _, says := range []string{"no-tail-drop    BROKEN     (checks: 1 kept, 3 broken)", "1. no-tail-drop is broken, seen in 2 settings, in 10 of 10 runs", "A fault of the set-up: the disk is full", "no-tail-drop is broken in 1 check"} {
		if !strings.Contains(string(text), says) {
			t.Errorf("%s\ndoes not say %q", text, says)
		}
	}
	for _, command := range []string{r.Command, r.Findings[0].Replay, r.Findings[2].Replay} {
		said := func(command string) string {
			t.Helper()
			out, err := exec.Command("sh", "-c", "printf '%s\\n' "+command).Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			return string(out)
		}
		broken := shell("  ", command, mailWidth)
		if was, is := said(command), said(strings.TrimSpace(broken)); was != is {
			t.Errorf("%s\nbecomes\n%sand that is\n%sinstead of\n%s", command, broken, is, was)
		}
	}
}

// TestMarkdown: nothing of what the kernel says is taken for markup.
func TestMarkdown(t *testing.T) {
	r := sample()
	r.Errors[0] = Fault{Kind: Kernel, What: "```\n<script>"}
	text, err := r.Format("markdown")
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"## ringproof: 2 promises broken, 1 promise undecided, 1 promise not run, 2 faults\n",
		"| no-tail-drop | **BROKEN** | 1 | 3 | 0 | 0 |\n",
		"### Finding 1: no-tail-drop is broken, seen in 2 settings\n",
		"the books do not balance: “9 ≠ 8”",
		"````text\nfault of the kernel: ```\n<script>\n````\n",
		">    13 \tif (packet && room < half) /* <b>not bold</b> */\n",
		"<details><summary>Not run</summary>\n\n- 1 check: this kernel lacks CONFIG\\_X\n",
	} {
		if !strings.Contains(string(text), says) {
			t.Errorf("%s\ndoes not say %q", text, says)
		}
	}
	if _, err := r.Format("yaml"); err == nil || !strings.Contains(err.Error(), "ktap") {
		t.Errorf("a form that there is not: %v", err)
	}
}
