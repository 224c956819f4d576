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
	{"b4", "[flags] <mail", "test a series for b4 review", `
B4 reads a mail of a series on standard input, builds the kernel with the series, and
runs the contract on it. It prints what b4 review shows: a JSON array of tool, status,
summary and details. The status is fail if a promise is broken, pass if all were kept,
and warn if the series could not be judged. See docs/plugs.md.`},
	{"bench", "[flags]\n       ringproof bench -planted [NAME ...]", "measure what a patch costs", `
Bench runs workloads on a base kernel and on others, and compares them by two rulers:
instructions for each packet, which no load of the machine changes, and time. It prints
tables for a commit message, and says for each ratio whether it is within its limit.
Kernels that were measured before are not measured again. With -planted it measures the
patches of patches/slow. See docs/cost.md.`},
	{"bisect", "[flags]", "test a tree for git bisect run", `
Bisect builds a tree, or a series, as it is now, and runs the contract on it. The exit
status is what git bisect run expects. See docs/proof.md.`},
	{"check", "[flags]", "test a series, and the kernel without it", `
Check builds a kernel without and with a series, runs the contract on both, and shows
the results side by side.`},
	{"compare", "DIR ...", "show runs side by side, and what changed", `
Compare reads the artifacts of runs from these directories. It shows the runs side by
side, and what changed from each to the next: promises, findings, and checks.`},
	{"deps", "[flags]", "install what is missing", `
Deps installs the packages that a build or a run needs and that are missing. Without
the rights to do so, it says what to install.`},
	{"inside", "[flags]", "run the contract inside a VM, on the running kernel", `
Inside runs the contract on the kernel that is already running, in a VM that was
started for this: vng -- ringproof inside. It changes network devices and holds up
CPUs, and refuses to run elsewhere. See docs/plugs.md.`},
	{"kcidb", "-origin NAME [flags] DIR", "print a run for KernelCI's database", `
Kcidb reads the artifacts of a run from DIR and prints them as JSON of version 5.3 of
KernelCI's schema, for kcidb-submit.`},
	{"kernel", "[flags]", "build a kernel", `
Kernel builds a kernel, or finds it in the cache. It prints the path of the bzImage,
and nothing else, to standard output.`},
	{"merge", "[-o DIR] DIR ...", "put the shards of a run together", `
Merge reads the artifacts of all shards of one run (SHARD=1/3) from these directories,
and prints the result of the whole run. Its exit status is that of the whole run. A
missing shard is a fault of the set-up.`},
	{"nipa", "[flags]", "test a tree as an executor of netdev's CI", `
Nipa builds the tree in the working directory and runs the contract on it, for the
generic executor of netdev's CI. It reads BRANCH, BASE and RESULTS_DIR from the
environment. The exit status is 0 if all promises were kept, 1 if one is broken, 5 if
the kernel could not be judged, and 4 for a fault that is not the kernel's. See
docs/plugs.md.`},
	{"proof", "[flags] [NAME ...]\n       ringproof proof -merge DIR ...", "test the designs and the planted bugs in patches/", `
Proof tests each design and each planted bug, or those that are named, and compares
the verdict with the one that is known. With -merge it tests nothing: it puts the
outcomes of shards together.`},
	{"pull", "[-o DIR] IMAGE", "take a kernel out of a container image", `
Pull takes a kernel out of a container image of the kind that cilium/little-vm-helper
publishes. IMAGE is the name of an image in a registry, oci:DIR for a directory in
OCI's layout, or a tar file. It prints the path of the kernel, and nothing else, to
standard output. The kernel's modules, and its vmlinux if the image has one, are in the
same directory.`},
	{"report", "[flags] DIR", "print the results of a run in one of several formats", `
Report reads the artifacts of a run from DIR and prints its results. If the run was cut
off, or its guest died, it prints what there is, and says so.`},
	{"revisions", "[flags] SERIES ...", "test the revisions of a series, one after the other", `
Revisions tests the source without a series and then with each of these series. It
shows which revision broke a promise, and which one fixed it. Its exit status is that
of the last revision.`},
	{"run", "-kernel DIR [flags]", "run the contract on a kernel that was built", `
Run runs the contract, or a shard of it, on a kernel that ringproof kernel -o has
written to a directory.`},
	{"soak", "[flags]", "test the sound designs again and again", `
Soak tests the designs that break nothing again and again. Each alarm is a false one.`},
}

const intro = `Ringproof proves or refutes what a TX-queue backpressure patch promises.

Usage:

	ringproof <command> [arguments]

The commands are:

`

const outro = `
Use "ringproof help <command>" for more information about a command. To test one kernel
you need no command: KERNEL=path go test ./vmtests

The exit status of bench, bisect, check, inside, merge, revisions and run is 0 if all promises
were kept, 1 if one is broken, 125 if the kernel cannot be built, booted or judged, 128
for a fault of the set-up, 129 for a fault of ringproof, and 130 after an interrupt. The
other commands, except nipa, exit with 0, or with 128 if something went wrong.
`

// usage lists the commands.
func usage(w io.Writer) {
	fmt.Fprint(w, intro)
	for _, d := range docs {
		fmt.Fprintf(w, "\t%-11s %s\n", d.name, d.short)
	}
	fmt.Fprint(w, outro)
}

// newFlags makes the flags of a command. Its -h prints what help prints.
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
