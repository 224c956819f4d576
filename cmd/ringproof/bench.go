package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/host/bench"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/profile"
	"github.com/ringproof/ringproof/internal/host/proof"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// costFragment is what costs are measured on.
const costFragment = "cost"

// measure has workloads run on several kernels, and compares what they cost.
func measure(ctx context.Context, args []string) error {
	flags := newFlags("bench")
	base := flags.String("base", os.Getenv("BASE"), "the `kernel` that the others are compared with: a bzImage, a design of patches/designs, a series, a source; without one, the source as it is")
	var patched list
	flags.Var(&patched, "patched", "a `kernel` to compare, named like the base; may be given several times; without one, lossless and opt-in-2")
	series := flags.String("series", os.Getenv("SERIES"), "mbox, patch `file` or directory to measure, on top of the base")
	each := flags.Bool("each", os.Getenv("EACH") == "1", "measure each patch of the series against the one before it")
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source` of designs and series; without one, debian:6.12")
	ruler := flags.String("ruler", os.Getenv("RULER"), "instructions or time, or `both`, as without it")
	workloads := flags.String("run", "", "`workloads`, as go test's -run: Path, Pktgen, TCP, Latency, Multicast")
	all := flags.Bool("all", os.Getenv("WORKLOADS") == "all", "the workloads in every combination of what they have, which takes hours")
	boots := flags.Int("boots", 2, "how often each kernel is `booted` with the ruler of time")
	rounds := flags.Int("rounds", 3, "how often each workload is run in a boot")
	dir := flags.String("o", filepath.Join("artifacts", "bench"), "`directory` for what was measured; what is there of the same kernels is not measured again")
	cpus := flags.Int("cpus", 2, "virtual CPUs, with the ruler of time")
	planted := flags.Bool("planted", false, "measure the patches of patches/slow, or those that are named, and see whether each is seen by what its mail says")
	sample := flags.Bool("sample", false, "compare pktgen, as it is set up here, with the scripts of the kernel's samples/pktgen, on the base")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 && !*planted {
		return fmt.Errorf("bench: unexpected argument %q", flags.Arg(0))
	}
	if own := os.Getenv("PATCHED"); own != "" && patched == nil {
		patched = strings.Fields(own)
	}
	rulers := []bench.Ruler{bench.Instructions, bench.Time}
	switch r := bench.Ruler(*ruler); {
	case slices.Contains(rulers, r):
		rulers = []bench.Ruler{r}
	case r != "" && r != "both":
		return fmt.Errorf("bench: -ruler is %q, but should be instructions, time or both", r)
	}
	if *each && *series == "" {
		return errors.New("bench: EACH=1 of which series? Give SERIES=")
	}
	if *sample && (len(patched) > 0 || *series != "" || *workloads != "" || *planted) {
		return errors.New("bench: -sample measures the base and its own workload: leave out -patched, -series, -run and -planted")
	}
	to := progress()
	f, err := newFinder(ctx, *ksrc, to)
	if err != nil {
		return err
	}
	if !*planted { // those have directories of their own
		if err := bench.Claim(*dir); err != nil {
			return err
		}
	}
	cfg := bench.Config{
		Each: *each, Rulers: rulers, Workloads: *workloads, All: *all, Boots: *boots, Rounds: *rounds,
		Accel: vm.Accel(os.Getenv("ACCEL")), CPUs: *cpus, Dir: *dir, Command: benchCommand(args), Progress: to,
	}
	files := bench.Programs()
	if *sample {
		cfg.Workloads = bench.SampleWorkload
		k, err := f.named(cmp.Or(*base, "stock"))
		if err != nil {
			return err
		}
		cfg.Kernels = []bench.Kernel{k}
		if files, err = bench.SamplePrograms(ctx, k.Kernel, filepath.Join(*dir, "samples")); err != nil {
			return err
		}
	}
	if cfg.Image, _, err = initramfs.Build(ctx, initramfs.Options{Package: "./bench", Files: files, Progress: to}); err != nil {
		return err
	}
	if slices.Contains(rulers, bench.Instructions) {
		if cfg.Plugin, err = profile.Build(ctx); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			cfg.Unprofiled = err.Error()
		}
	}
	if *planted {
		return f.planted(cfg, flags.Args())
	}
	if !*sample {
		if cfg.Kernels, err = f.all(*base, patched, *series, *each); err != nil {
			return err
		}
	}
	result, err := measured(ctx, cfg)
	if err != nil {
		return err
	}
	if *sample {
		return agreement(result)
	}
	fmt.Print(result.Text())
	fmt.Printf("\nartifacts: %s\n", *dir)
	return costStatus(ctx, result)
}

// measured measures, and keeps what was measured. Of a kernel that cannot be booted it says
// so, and ends with the status that tells whose fault that is.
func measured(ctx context.Context, cfg bench.Config) (*bench.Result, error) {
	result, err := bench.Run(ctx, cfg)
	if died := (*bench.DiedError)(nil); errors.As(err, &died) {
		fmt.Fprintf(os.Stderr, "cannot be measured: %v\n", died)
		return nil, judged(ctx, &report.Run{Errors: []report.Fault{{Kind: died.Whose, What: died.What}}}, nil)
	}
	if err != nil {
		return nil, err
	}
	return result, result.Write()
}

// benchCommand does the same again: variables of make are flags in it.
func benchCommand(args []string) string {
	var words []string
	if accel := os.Getenv("ACCEL"); accel != "" {
		words = append(words, "ACCEL="+vm.Quote(accel))
	}
	words = append(words, "go", "run", "./cmd/ringproof", "bench")
	for _, v := range []struct{ name, flag string }{
		{"BASE", "-base"}, {"SERIES", "-series"}, {"KSRC", "-ksrc"}, {"RULER", "-ruler"},
	} {
		if value := os.Getenv(v.name); value != "" {
			words = append(words, v.flag+"="+vm.Quote(value))
		}
	}
	for _, name := range strings.Fields(os.Getenv("PATCHED")) {
		words = append(words, "-patched="+vm.Quote(name))
	}
	for _, v := range []struct{ name, value, flag string }{{"EACH", "1", "-each"}, {"WORKLOADS", "all", "-all"}} {
		if os.Getenv(v.name) == v.value {
			words = append(words, v.flag)
		}
	}
	for _, arg := range args {
		words = append(words, vm.Quote(arg))
	}
	return strings.Join(words, " ")
}

// costStatus is the status of what was measured.
func costStatus(ctx context.Context, r *bench.Result) error {
	if r.Interrupted {
		return interrupted
	}
	runs := r.Runs()
	if len(runs) == 0 { // a base alone, and nothing to compare it with
		return cannotTell
	}
	var statuses []error
	for _, run := range runs {
		if len(run.Verdicts) == 0 && len(run.Errors) == 0 { // all workloads are without a limit
			statuses = append(statuses, cannotTell)
			continue
		}
		statuses = append(statuses, judged(ctx, run, nil))
	}
	return worst(statuses...)
}

// agreement shows how pktgen compares with the kernel's samples.
func agreement(r *bench.Result) error {
	if r.Interrupted {
		return interrupted
	}
	text, err := r.SampleText()
	fmt.Print(text)
	fmt.Printf("\nartifacts: %s\n", r.Config.Dir)
	if err != nil {
		return fmt.Errorf("it cannot be said that with the same settings they agree: %w", err)
	}
	fmt.Println("With the same settings they agree within the noise.")
	return nil
}

// planted measures the patches that cost something, and shows what has seen each.
func (f *finder) planted(cfg bench.Config, names []string) error {
	all, err := bench.ReadPlanted(filepath.Join("patches", "slow"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(p bench.Planted) bool { return p.Name == name }) {
			return fmt.Errorf("bench: patches/slow has no %s", name)
		}
	}
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PATCH\tAS IT SHOULD BE\tSEEN BY")
	var statuses []error
	wrong := false
	for _, p := range all {
		if len(names) > 0 && !slices.Contains(names, p.Name) {
			continue
		}
		if !slices.Contains(cfg.Rulers, p.Ruler) {
			fmt.Fprintf(tw, "%s\t%s\t%s is left out\n", p.Name, bench.NotTried, p.Ruler)
			continue
		}
		fmt.Fprintf(f.progress, "%s: %s\n", p.Name, p.Subject)
		design := f.design(p.Design)
		if design == nil {
			return fmt.Errorf("%s: there is no design %q", p.File, p.Design)
		}
		one := cfg
		one.Dir = filepath.Join(cfg.Dir, "planted", p.Name)
		one.Rulers, one.Workloads = []bench.Ruler{p.Ruler}, cmp.Or(cfg.Workloads, p.Workloads())
		one.Kernels = []bench.Kernel{{Label: p.Design}, {Label: p.Name}}
		for i, series := range [][]string{design.Series, append(slices.Clone(design.Series), p.File)} {
			if one.Kernels[i].Kernel, err = f.build(kernel.Spec{Series: series}); err != nil {
				return err
			}
		}
		result, err := measured(f.ctx, one)
		if err != nil {
			return err
		}
		if result.Interrupted {
			return interrupted
		}
		for _, run := range result.Runs() {
			if len(run.Errors) > 0 {
				statuses = append(statuses, judged(f.ctx, &report.Run{Errors: run.Errors}, nil))
			}
		}
		by, verdict := p.Seen(result)
		if by == nil {
			by = []string{"nothing"}
		}
		wrong = wrong || verdict == bench.NotSeen
		fmt.Fprintf(tw, "%s\t%s\t%s\n", p.Name, verdict, strings.Join(append(by, result.Findings()...), "\n\t\t"))
	}
	tw.Flush()
	fmt.Print(table.String())
	if wrong {
		return errors.New("not everything is as it should be")
	}
	return worst(statuses...)
}

// finder finds or builds the kernels that are named.
type finder struct {
	ctx      context.Context
	ksrc     string
	progress io.Writer
	designs  []*proof.Design
}

func newFinder(ctx context.Context, ksrc string, progress io.Writer) (*finder, error) {
	if arch := kernel.Wanted(); arch != "amd64" {
		return nil, fmt.Errorf("bench: costs are measured on x86-64, whose instructions the profile knows, and not on %s: unset ARCH", arch)
	}
	designs, err := proof.Read("patches")
	return &finder{ctx, ksrc, progress, designs}, err
}

// design is the reference design of that name; nil if there is none.
func (f *finder) design(name string) *proof.Design {
	if i := slices.IndexFunc(f.designs, func(d *proof.Design) bool { return d.Name == name }); i >= 0 {
		return f.designs[i]
	}
	return nil
}

// all are those to be measured, the base first.
func (f *finder) all(base string, patched []string, series string, each bool) ([]bench.Kernel, error) {
	first := bench.Kernel{Label: "stock"}
	var err error
	if base != "" {
		first, err = f.named(base)
	} else {
		first.Kernel, err = f.build(kernel.Spec{})
	}
	if err != nil {
		return nil, err
	}
	kernels := []bench.Kernel{first}
	if series != "" {
		more, err := f.series(base, series, each)
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, more...)
	} else if len(patched) == 0 && base == "" && f.ksrc == "" {
		patched = []string{"lossless", "opt-in-2"}
	}
	for _, name := range patched {
		k, err := f.named(name)
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, k)
	}
	// A kernel is known by its label: two files may have one name.
	for i := range kernels {
		plain := kernels[i].Label
		for n := 2; slices.ContainsFunc(kernels[:i], func(k bench.Kernel) bool { return k.Label == kernels[i].Label }); n++ {
			kernels[i].Label = fmt.Sprintf("%s-%d", plain, n)
		}
	}
	return kernels, nil
}

// build builds a kernel. Of one that cannot be built it says so, and the error is the
// status that tells whose fault that is.
func (f *finder) build(spec kernel.Spec) (*kernel.Result, error) {
	if spec.Source == "" {
		spec.Source = f.ksrc
	}
	spec.Fragments = []string{costFragment}
	k, err := kernel.Build(f.ctx, spec, f.progress)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot be built: %v\n", err)
		return nil, unbuilt(f.ctx, err)
	}
	return k, nil
}

// series are the kernels with a series on top of the base's.
func (f *finder) series(base, series string, each bool) (kernels []bench.Kernel, err error) {
	spec := kernel.Spec{Series: []string{series}}
	var under []string
	if d := f.design(base); d != nil {
		under = d.Series
		spec.Series = append(slices.Clone(under), series)
	} else if base != "" {
		if fi, err := os.Stat(base); err == nil && !fi.IsDir() {
			return nil, fmt.Errorf("bench: a series cannot be applied to %s, which is built already: give BASE= a source or a design", base)
		}
		spec.Source = base
	}
	subjects, err := kernel.Subjects(f.ctx, spec)
	if err != nil {
		return nil, err
	}
	below := 0
	if under != nil {
		all, err := kernel.Subjects(f.ctx, kernel.Spec{Series: under})
		if err != nil {
			return nil, err
		}
		below = len(all)
	}
	from := len(subjects)
	if each {
		from = below + 1
	}
	for n := from; n <= len(subjects); n++ {
		spec.First = n
		label := "patched"
		if each {
			label = fmt.Sprintf("patch-%d", n-below)
		}
		fmt.Fprintf(f.progress, "%s: %s\n", label, subjects[n-1])
		k, err := f.build(spec)
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, bench.Kernel{Label: label, Kernel: k})
	}
	return kernels, nil
}

// named finds a bzImage, or builds a design, a series or a source.
func (f *finder) named(name string) (bench.Kernel, error) {
	k := bench.Kernel{Label: filepath.Base(name)}
	var err error
	fi, statErr := os.Stat(name)
	if statErr == nil && !fi.IsDir() {
		k.Label = strings.TrimSuffix(k.Label, filepath.Ext(name))
	}
	switch {
	case f.design(name) != nil:
		k.Label = name
		k.Kernel, err = f.build(kernel.Spec{Series: f.design(name).Series})
	case strings.HasPrefix(name, "debian:") || strings.Contains(name, "#"):
		k.Label = strings.NewReplacer(":", "-", "#", "-", "/", "-").Replace(name)
		k.Kernel, err = f.build(kernel.Spec{Source: name})
	case statErr != nil:
		var names []string
		for _, d := range f.designs {
			names = append(names, d.Name)
		}
		return k, fmt.Errorf("bench: %s is no file, no directory and no design (%s)", name, strings.Join(names, ", "))
	case !fi.IsDir():
		if _, imageErr := kernel.Inspect(name); imageErr == nil {
			k.Kernel, err = built(name)
			k.Label = imageLabel(name)
			break
		}
		k.Kernel, err = f.build(kernel.Spec{Series: []string{name}})
	case isKernelTree(name):
		k.Kernel, err = f.build(kernel.Spec{Source: name})
	default:
		if opened, openErr := kernel.Open(name); openErr == nil {
			k.Kernel = opened
			break
		}
		k.Kernel, err = f.build(kernel.Spec{Series: []string{name}})
	}
	return k, err
}

func isKernelTree(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "Kbuild"))
	return err == nil
}

// built is a bzImage that somebody has built, with the vmlinux beside it or at the
// top of its tree.
func built(image string) (*kernel.Result, error) {
	image, err := filepath.Abs(image)
	if err != nil {
		return nil, err
	}
	k := &kernel.Result{Dir: filepath.Dir(image), Image: image}
	for _, vmlinux := range []string{filepath.Join(k.Dir, "vmlinux"), filepath.Join(k.Dir, "..", "..", "..", "vmlinux")} {
		if _, err := os.Stat(vmlinux); err == nil {
			k.Vmlinux = vmlinux
			break
		}
	}
	return k, nil
}

// imageLabel names a bzImage by the directory of its tree.
func imageLabel(image string) string {
	dir := filepath.Dir(image)
	if filepath.Base(dir) == "boot" {
		dir = filepath.Join(dir, "..", "..", "..")
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if name := filepath.Base(dir); name != "/" {
		return name
	}
	return filepath.Base(image)
}
