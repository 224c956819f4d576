package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// doc is what help says of a command.
type doc struct {
	name, args, short, long string
}

var docs = []doc{
	{"bench", "[flags]\n       ringproof bench -planted [NAME ...]", "measure what a patch costs", `
Bench has workloads run on a base kernel and on others, and compares them by two rulers:
instructions for each packet, which no load of the machine changes, and time. It prints
tables for a commit message, and says of each ratio whether it is within its limit. What
was measured of the same kernels is not measured again. With -planted it measures the
patches of patches/slow. See docs/cost.md.`},
	{"b4", "[flags] <mail", "judge a series for b4 review", `
B4 reads a mail of a series, builds the kernel with it, runs the contract on that, and
prints what b4 review shows: a JSON array of tool, status, summary and details. The
status is fail if a promise is broken, pass if all were kept, and warn if the series
could not be judged. See docs/plugs.md.`},
	{"bisect", "[flags]", "judge a tree for git bisect run", `
Bisect builds a tree, or a series, as it stands, and runs the contract on it. The exit
status is what git bisect run expects: see docs/proof.md.`},
	{"check", "[flags]", "judge a series, beside the kernel without it", `
Check builds a kernel with and without a series, runs the contract on both and shows
them side by side.`},
	{"compare", "DIR ...", "show runs side by side, and what changed", `
Compare shows the runs whose artifacts are in these directories, and what changed from
each to the next: promises, findings that appeared and went, and checks.`},
	{"deps", "[flags]", "install what is missing, or say how", `
Deps installs the packages that a build or a run needs and that are missing. Without
the rights for that, it says what to install.`},
	{"inside", "[flags]", "run the contract on the kernel that runs, inside a VM", `
Inside runs the contract on the kernel that is booted already, in a VM that is there
for that: vng -- ringproof inside. It changes network devices and holds CPUs up, and is
refused elsewhere. See docs/plugs.md.`},
	{"kcidb", "-origin NAME [flags] DIR", "print a run for KernelCI's database", `
Kcidb prints the run whose artifacts are in DIR as JSON of version 5.3 of KernelCI's
schema, for kcidb-submit.`},
	{"kernel", "[flags]", "build a kernel", `
Kernel builds a kernel, or finds it in the cache, and prints the path of its bzImage
and nothing else to standard output.`},
	{"merge", "[-o DIR] DIR ...", "put the shards of a run together", `
Merge puts together what the shards of one run found out (SHARD=1/3), whose artifacts
are in these directories, prints it, and ends as that run would have. That a shard is
missing is a fault of the set-up.`},
	{"nipa", "[flags]", "judge a tree as an executor of netdev's CI", `
Nipa builds the tree in the working directory and runs the contract on it, for the
generic executor of netdev's CI: BRANCH, BASE and RESULTS_DIR are in the environment.
The exit status is 0 if all promises were kept, 1 if one is broken, 5 if the kernel
could not be judged, and 4 if the fault is not the kernel's. See docs/plugs.md.`},
	{"proof", "[flags] [NAME ...]\n       ringproof proof -merge DIR ...", "judge the designs and the planted bugs in patches/", `
Proof holds the harness to what is known of each design and each planted bug, or of
those that are named. With -merge it proves nothing and puts the outcomes of shards
together.`},
	{"pull", "[-o DIR] IMAGE", "take a kernel out of a container image", `
Pull takes a kernel out of a container image, as those of cilium/little-vm-helper are:
the name of an image in a registry, oci: and a directory in OCI's layout, or a tar
file. It prints the path of the kernel and nothing else to standard output; beside it
are its modules, and its vmlinux if the image has one.`},
	{"report", "[flags] DIR", "print what a run found out, in any of several forms", `
Report prints what the run whose artifacts are in DIR found out. A run that was cut
off, or whose guest died, is reported as far as it came, and says so.`},
	{"revisions", "[flags] SERIES ...", "judge the revisions of a series, one after the other", `
Revisions judges the source without any series, and then with each of them, and shows
which revision broke what and which mended it. It ends with the status of the last.`},
	{"run", "-kernel DIR [flags]", "run the contract on a kernel that was built", `
Run runs the contract, or a shard of it, on the kernel that ringproof kernel -o has
left in a directory.`},
	{"soak", "[flags]", "judge the sound designs again and again", `
Soak judges the designs that break nothing again and again. Each alarm is a false one.`},
}

const intro = `Ringproof proves or refutes what a TX-queue backpressure patch promises.

Usage:

	ringproof <command> [arguments]

The commands are:

`

const outro = `
Use "ringproof help <command>" for more information about a command. One kernel
needs none: KERNEL=path go test ./vmtests

The exit status of bench, bisect, check, inside, merge, revisions and run is 0 if all promises
were kept, 1 if one is broken, 125 if the kernel cannot be built, booted or judged, 128
for a fault of the set-up, 129 for one of ringproof, and 130 if it was interrupted.
Other commands, but for nipa, end with 0 or, if something is wrong, 128.
`

// usage lists the commands.
func usage(w io.Writer) {
	fmt.Fprint(w, intro)
	for _, d := range docs {
		fmt.Fprintf(w, "\t%-11s %s\n", d.name, d.short)
	}
	fmt.Fprint(w, outro)
}

// newFlags makes the flags of a command, whose -h says what help does.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet("ringproof "+name, flag.ContinueOnError)
	flags.Usage = func() {
		for _, d := range docs {
			if d.name == name {
				fmt.Fprintf(flags.Output(), "usage: ringproof %s %s\n\n%s\n", name, d.args, strings.TrimSpace(d.long))
			}
		}
		any := false
		flags.VisitAll(func(*flag.Flag) { any = true })
		if any {
			fmt.Fprint(flags.Output(), "\nThe flags are:\n\n")
			flags.PrintDefaults()
		}
	}
	return flags
}
