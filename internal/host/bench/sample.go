package bench

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/profile"
	"golang.org/x/perf/benchmath"
)

// SampleWorkload runs the kernel's own samples of pktgen and our pktgen in turn. It tells
// nothing of what a patch costs, so it is left out unless it is asked for.
const SampleWorkload = "^TestSample$"

// SamplePrograms are those that the kernel's samples of pktgen are scripts for or call,
// and the samples themselves, as initramfs.Options.Files has them. The scripts are those
// of the source that the kernel was built from, and are written to dir. What there is none
// of on this machine is left out; the workload says so.
func SamplePrograms(ctx context.Context, k *kernel.Result, dir string) (map[string]string, error) {
	files := make(map[string]string)
	for _, name := range []string{"bash", "cat", "dirname", "grep"} {
		if path, err := exec.LookPath(name); err == nil {
			files["/bin/"+name] = path
		}
	}
	if k.Vmlinux == "" {
		return files, nil
	}
	source, err := kernel.FindSource(k.Vmlinux)
	if err != nil {
		return nil, fmt.Errorf("find the source of %s for its samples: %w", k.Image, err)
	}
	if source == nil {
		return files, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	for _, name := range []string{"functions.sh", "parameters.sh", "pktgen_sample01_simple.sh", "pktgen_sample02_multiqueue.sh"} {
		text, ok := source.Read(ctx, "samples/pktgen/"+name)
		if !ok {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			return nil, err
		}
		files["/samples/pktgen/"+name] = path
	}
	return files, nil
}

// triple is one unit of what pktgen gave as the harness sets it up, as it would with the
// settings of the kernel's sample, and as the sample does.
type triple struct {
	workload, unit            string
	harness, likewise, sample Interval
	p                         float64 // of the last two being alike
}

// significance is the chance that two are said to differ that are alike, of all that a run
// compares together.
const significance = 0.05

const (
	byHarness  = "/by=harness"
	byLikewise = "/by=likewise"
	bySample   = "/by=sample"
)

// SampleText compares pktgen with the kernel's samples. The error says why it cannot be
// said that with the same settings they agree.
func (r *Result) SampleText() (text string, err error) {
	var b strings.Builder
	var all []triple
	var errs []error
	for _, o := range r.Boots {
		if o.Failed != "" {
			errs = append(errs, fmt.Errorf("%s in %s: %s", o.Variant, o.Ruler, o.Failed))
		}
	}
	b.WriteString("pktgen as the harness sets it up, likewise with the sample's settings,\nand set up by the kernel's sample\n")
	for _, v := range r.Variants {
		for _, ruler := range r.Config.Rulers {
			order, series := r.gather(v.String(), ruler, anyBoot)
			for _, workload := range order {
				shape, found := strings.CutSuffix(workload, byHarness)
				if !found {
					continue
				}
				triples, err := triplesOf(ruler, shape, series)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s of %s: %w", shape, v, err))
					continue
				}
				all = append(all, triples...)
				fmt.Fprintf(&b, "\n%s, %s, %d rounds\n", v, cost.Short(shape), triples[0].sample.N)
				fmt.Fprintf(&b, "%-13s%12s%12s%12s%8s%8s%7s\n", "", "harness", "likewise", "sample", "h/s", "l/s", "p(l=s)")
				for _, t := range triples {
					fmt.Fprintf(&b, "  %-11s%12s%12s%12s%8.4f%8.4f%7.2g\n", t.unit, number(t.harness, 1), number(t.likewise, 1), number(t.sample, 1),
						ratio(t.harness.Center, t.sample.Center), ratio(t.likewise.Center, t.sample.Center), t.p)
				}
				for _, by := range []string{byHarness, byLikewise} {
					if where := r.sampleWhere(v, shape, by); where != "" {
						b.WriteString("\n" + where)
					}
				}
			}
		}
	}
	if len(all) == 0 {
		return "", errors.Join(append(errs, errors.New("there is nothing to compare"))...)
	}
	limit := significance / float64(len(all))
	for _, t := range all {
		switch {
		case t.p < limit:
			errs = append(errs, fmt.Errorf("%s: %s differs, p is %.2g", t.workload, t.unit, t.p))
		case t.leastP() >= limit:
			errs = append(errs, fmt.Errorf("%s: %d and %d values of %s are too few to tell", t.workload, t.likewise.N, t.sample.N, t.unit))
		}
	}
	return b.String(), errors.Join(errs...)
}

// leastP is p if all values of one side are below all of the other's: of so many ways to
// put them in order, two are like that.
func (t triple) leastP() float64 {
	orders, _ := new(big.Int).Binomial(int64(t.likewise.N+t.sample.N), int64(t.sample.N)).Float64()
	return 2 / orders
}

// triplesOf compares each unit of one workload.
func triplesOf(ruler Ruler, shape string, all map[string]*series) (triples []triple, err error) {
	var of [3]*series
	for i, by := range []string{byHarness, byLikewise, bySample} {
		s := all[shape+by]
		switch {
		case s == nil:
			return nil, fmt.Errorf("%s has not run", strings.TrimPrefix(by, "/by="))
		case s.missing != "":
			return nil, errors.New(s.missing)
		case len(s.failed) > 0:
			return nil, errors.New(s.failed[0])
		}
		of[i] = s
	}
	for _, u := range cost.Units {
		h, l, s := of[0].values[u.Name], of[1].values[u.Name], of[2].values[u.Name]
		if len(h) == 0 || len(l) == 0 || len(s) == 0 {
			continue
		}
		p := benchmath.AssumeNothing.Compare(benchmath.NewSample(l, &benchmath.DefaultThresholds), benchmath.NewSample(s, &benchmath.DefaultThresholds)).P
		triples = append(triples, triple{shape, u.Name, intervalOf(ruler, h), intervalOf(ruler, l), intervalOf(ruler, s), p})
	}
	if triples == nil {
		return nil, errors.New("it has no value")
	}
	return triples, nil
}

// sampleWhere tells by function where the instructions of a packet go by one way and by
// the sample; "" if that is not known.
func (r *Result) sampleWhere(v Variant, shape, by string) string {
	if r.Config.Plugin == nil {
		return ""
	}
	var sides [2]profile.Side
	for i, by := range []string{by, bySample} {
		var err error
		if sides[i], err = r.side(v.String(), shape+by); err != nil {
			return ""
		}
		_, sides[i].Name, _ = strings.Cut(by, "=")
	}
	c, err := profile.Compare(sides[0], sides[1])
	if err != nil {
		return ""
	}
	return c.String()
}
