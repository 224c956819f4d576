package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/cost"
	"golang.org/x/perf/benchfmt"
)

// Stalled says whether a kernel stalled while it was measured.
func (r *Result) Stalled() bool {
	return slices.ContainsFunc(r.Findings(), func(f string) bool { return strings.HasPrefix(f, "no-stall: broken") })
}

// Write writes, into the directory of the configuration,
//
//	bench.txt    Text
//	bench.json   the Result
//	where.txt    Where
//	NAME.bench   for each variant, all samples as Go benchmark lines: benchstat
//	             reads them (https://golang.org/design/14313-benchmark-format)
func (r *Result) Write() error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	files := map[string][]byte{"bench.json": append(text, '\n'), "bench.txt": []byte(r.Text())}
	if where := r.Where(); where != "" {
		files["where.txt"] = []byte(where)
	}
	for _, v := range r.Variants {
		if files[strings.ReplaceAll(v.String(), "/", "_")+".bench"], err = r.lines(v); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(r.Config.Dir, name), data, 0o666); err != nil {
			return fmt.Errorf("keep what was measured: %w", err)
		}
	}
	return nil
}

// lines are a variant's samples as Go benchmark lines.
func (r *Result) lines(v Variant) ([]byte, error) {
	var b strings.Builder
	w := benchfmt.NewWriter(&b)
	for _, u := range cost.Units {
		better := "lower"
		if u.Higher {
			better = "higher"
		}
		if err := w.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: u.Name, Key: "better"}, OrigUnit: u.Name, Value: better}); err != nil {
			return nil, err
		}
	}
	for _, o := range r.Boots {
		if o.Variant != v.String() {
			continue
		}
		for _, s := range o.Samples {
			if len(s.Values) == 0 || s.Workload == "Features" {
				continue
			}
			result := &benchfmt.Result{Name: benchfmt.Name(s.Workload), Iters: 1}
			result.SetConfig("kernel", v.Label)
			result.SetConfig("ruler", string(o.Ruler))
			for _, unit := range slices.Sorted(maps.Keys(s.Values)) {
				result.Values = append(result.Values, benchfmt.Value{Value: s.Values[unit], Unit: unit})
			}
			if err := w.Write(result); err != nil {
				return nil, err
			}
		}
	}
	return []byte(b.String()), nil
}
