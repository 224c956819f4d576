package kernel

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// patchName matches the names that git format-patch gives.
var patchName = regexp.MustCompile(`^(?:v(\d+)-)?(\d{4,})-`)

// numberByName numbers the items of a directory as git format-patch names
// files, where all are named so and the subjects agree. Else the order of the
// names is all that counts: who collects patches keeps "[PATCH 3/8]" in them.
func numberByName(items []item) {
	numbers := make([]int, len(items))
	versions := make([]int, len(items))
	trusted, numbered := true, false
	for i, it := range items {
		m := patchName.FindStringSubmatch(filepath.Base(it.File))
		if m == nil {
			trusted = false
			break
		}
		numbers[i], _ = strconv.Atoi(m[2])
		versions[i] = max(it.version, 1)
		if m[1] != "" {
			versions[i], _ = strconv.Atoi(m[1])
		}
		trusted = trusted && (it.total == 0 || it.number == numbers[i])
		numbered = numbered || it.total != 0 || m[1] != ""
	}
	for i := range items {
		it := &items[i]
		if !trusted || !numbered {
			if it.number != 0 { // or it is a cover letter
				it.total, it.number = 0, 0
			}
			it.version = 1
			continue
		}
		it.number, it.version = numbers[i], versions[i]
		if it.total == 0 {
			it.total = -1 // some number, not known
		}
	}
}

// baseCommit matches the line that git format-patch --base writes, below the
// cover letter or the first patch.
var baseCommit = regexp.MustCompile(`(?m)^base-commit: ([0-9a-f]{40,64})\s*$`)

// subjectsOf returns the subjects of each version of a numbered series, that of
// its cover letter among them.
func subjectsOf(items []item) map[int]map[string]bool {
	subjects := make(map[int]map[string]bool)
	for _, it := range items {
		if it.total == 0 || it.reply {
			continue
		}
		if subjects[it.version] == nil {
			subjects[it.version] = make(map[string]bool)
		}
		subjects[it.version][patchName.ReplaceAllString(it.Subject, "")] = true
	}
	return subjects
}

// numberRevisions numbers the patches of versions that have no numbers, as a
// version does that is one patch, where another version of the same patch has
// one.
func numberRevisions(items []item) {
	subjects := subjectsOf(items)
	plain := func(it *item) bool {
		return it.total == 0 && it.tagged && !it.reply && it.diff != nil && subjects[it.version] == nil
	}
	revisions := make(map[int]bool)
	for i := range items {
		for _, known := range subjects {
			if it := &items[i]; plain(it) && known[it.Subject] {
				revisions[it.version] = true
			}
		}
	}
	for i := range items {
		if it := &items[i]; plain(it) && revisions[it.version] {
			it.number, it.total = 1, 1
		}
	}
}

// arrange picks the patches of one series from what was found, and puts them
// in order.
func (r *reader) arrange(items []item) (series, error) {
	items, err := r.withoutCopies(items)
	if err != nil {
		return nil, err
	}
	numberRevisions(items)
	var numbered, others, replies []item
	first := 0 // how many others come before the numbered
	for _, it := range items {
		switch {
		case it.reply:
			replies = append(replies, it)
		case it.total != 0 && it.number == 0:
			r.leaveOut(it)
		case it.total != 0:
			if len(numbered) == 0 {
				first = len(others)
			}
			numbered = append(numbered, it)
		default:
			others = append(others, it)
		}
	}
	if len(numbered) != 0 {
		if numbered, err = r.newest(numbered, subjectsOf(items)); err != nil {
			return nil, err
		}
		// What answers and is not numbered is no part of the series.
		var before, after []item
		for i, it := range others {
			switch {
			case it.answer || it.damage == noDiff:
				r.leaveOut(it)
			case i < first:
				before = append(before, it)
			default:
				after = append(after, it)
			}
		}
		others = slices.Concat(before, numbered, after)
	} else if others, err = r.newestOfEach(others); err != nil {
		return nil, err
	}
	for _, it := range replies {
		if it.diff != nil && len(others) == 0 {
			return nil, fmt.Errorf("the reply %q carries a diff, and only you know whether it is a patch: give that as a file of its own", it.header)
		}
		r.leaveOut(it)
	}
	bases := make(map[int]string) // of each version
	for _, it := range items {
		if m := baseCommit.FindSubmatch(it.text); m != nil && !it.reply {
			bases[it.version] = string(m[1])
		}
	}
	var patches series
	for _, it := range others {
		it.base = bases[it.version]
		if it.damage != "" && !(it.damage == noDiff && len(others) > 1 && !it.tagged) {
			return nil, it.lost()
		}
		if it.damage != "" {
			r.leaveOut(it)
			continue
		}
		patches = append(patches, it.patch)
	}
	if len(patches) == 0 {
		return nil, errors.New("there is no patch in it")
	}
	return patches, nil
}

func (r *reader) leaveOut(it item) {
	what := "no patch in"
	if it.diff != nil {
		what = "not of the series, though it carries a diff:"
	}
	fmt.Fprintf(r.progress, "%s %q of %s: left out\n", what, it.name(), it.File)
}

// body is a diff without what a mailing list adds below it.
func (it *item) body() string {
	body, _, _ := strings.Cut(string(it.diff), "\n-- \n")
	return strings.TrimRight(body, "\n")
}

// withoutCopies takes each mail once.
func (r *reader) withoutCopies(items []item) ([]item, error) {
	seen := make(map[string]item)
	var once []item
	for _, it := range items {
		if it.id != "" {
			if before, ok := seen[it.id]; ok {
				if before.body() != it.body() {
					return nil, fmt.Errorf("the mail %q is there twice, and its diffs differ", it.header)
				}
				fmt.Fprintf(r.progress, "%q is there twice: taken once\n", it.header)
				continue
			}
			seen[it.id] = it
		}
		once = append(once, it)
	}
	return once, nil
}

// newest returns the patches of the version that is wanted in their order.
func (r *reader) newest(items []item, subjects map[int]map[string]bool) ([]item, error) {
	var versions []int
	for _, it := range items {
		if !slices.Contains(versions, it.version) {
			versions = append(versions, it.version)
		}
	}
	slices.Sort(versions)
	want := versions[len(versions)-1]
	if slices.Contains(versions, r.version) {
		want, r.found = r.version, true
	}
	if len(versions) > 1 {
		if r.version != 0 && !slices.Contains(versions, r.version) {
			return nil, fmt.Errorf("there is no version %d in it, but %s", r.version, numbers(versions, "%d"))
		}
		for _, v := range versions[:len(versions)-1] {
			if r.version == 0 && !overlap(subjects[v], subjects[want]) {
				return nil, fmt.Errorf("versions %d and %d in it have no subject in common: if they are one series, say which with -v N, else give each series as a file of its own", v, want)
			}
		}
		fmt.Fprintf(r.progress, "versions %s of the series are there: version %d is taken (-v N takes another)\n", numbers(versions, "%d"), want)
		items = slices.DeleteFunc(items, func(it item) bool { return it.version != want })
	}
	if consecutive(items) {
		return items, nil
	}
	total := items[0].total
	have := make(map[int]item)
	var ordered []item
	for _, it := range items {
		if it.total != total && it.total > 0 && total > 0 {
			return nil, fmt.Errorf("%q and %q are of two series: give each as a file of its own", items[0].name(), it.name())
		}
		total = max(total, it.total)
		if before, ok := have[it.number]; ok {
			if before.body() != it.body() {
				return nil, fmt.Errorf("number %d is there twice, and differs: %q in %s and %q in %s", it.number, before.name(), before.File, it.name(), it.File)
			}
			fmt.Fprintf(r.progress, "%q is there twice: taken once\n", it.name())
			continue
		}
		have[it.number] = it
		ordered = append(ordered, it)
	}
	if byNumber := func(a, b item) int { return a.number - b.number }; !slices.IsSortedFunc(ordered, byNumber) {
		slices.SortStableFunc(ordered, byNumber)
		fmt.Fprintf(r.progress, "the patches are put in the order of their numbers\n")
	}
	of := ""
	if total > 0 {
		of = fmt.Sprintf("/%d", total)
	}
	var missing []int
	for n := 1; n <= max(total, ordered[len(ordered)-1].number); n++ {
		if _, ok := have[n]; !ok {
			missing = append(missing, n)
		}
	}
	switch {
	case missing == nil:
	case len(ordered) == 1:
		fmt.Fprintf(r.progress, "%q is taken alone: there is no %s\n", ordered[0].name(), numbers(missing, "%d"+of))
	default:
		return nil, fmt.Errorf("the series of %q lacks %s: get the whole thread, or give the patches that you mean one by one", ordered[0].name(), numbers(missing, "%d"+of))
	}
	return ordered, nil
}

// consecutive says whether the items are whole series, one after the other.
func consecutive(items []item) bool {
	next, total := 1, 0
	for _, it := range items {
		if next == 1 {
			total = it.total
		}
		if it.number != next || it.total != total {
			return false
		}
		if next++; next > total {
			next = 1
		}
	}
	return next == 1
}

func overlap(a, b map[string]bool) bool {
	for s := range a {
		if b[s] {
			return true
		}
	}
	return false
}

// newestOfEach keeps of patches without numbers that have one subject the
// version that is wanted.
func (r *reader) newestOfEach(items []item) ([]item, error) {
	versions := make(map[string][]int)
	for _, it := range items {
		if it.tagged && it.diff != nil && !slices.Contains(versions[it.Subject], it.version) {
			versions[it.Subject] = append(versions[it.Subject], it.version)
		}
	}
	var kept []item
	for _, it := range items {
		// As what a robot finds in the patch, or would change in it.
		if it.answer && len(versions) != 0 && (!it.tagged || len(kept) != 0 && it.from != kept[0].from) {
			r.leaveOut(it)
			continue
		}
		v := versions[it.Subject]
		if slices.Contains(v, r.version) {
			r.found = true
		}
		if len(v) > 1 && it.tagged {
			want := slices.Max(v)
			if r.version != 0 {
				want = r.version
			}
			if !slices.Contains(v, want) {
				return nil, fmt.Errorf("there is no version %d of %q, but %s", want, it.Subject, numbers(v, "%d"))
			}
			if it.version != want {
				fmt.Fprintf(r.progress, "%q is there in version %d, too: left out (-v N takes another)\n", it.Subject, it.version)
				continue
			}
		}
		kept = append(kept, it)
	}
	return kept, nil
}

// numbers lists numbers in a sentence.
func numbers(list []int, format string) string {
	slices.Sort(list)
	var words []string
	for _, n := range list {
		words = append(words, fmt.Sprintf(format, n))
	}
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
