package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/ringproof/ringproof/internal/host/bench"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// deps installs the Debian packages that a run needs, or a build of kernels from
// the source that is named, and that are missing, after it has said which and why.
func deps(ctx context.Context, args []string) error {
	flags := newFlags("deps")
	spec := kernel.Spec{}
	flags.StringVar(&spec.Source, "ksrc", os.Getenv("KSRC"), "kernel `source`, as for ringproof kernel")
	flags.Var((*list)(&spec.Fragments), "config", "`fragment` that kernels will be built with; may be given several times")
	run := flags.Bool("run", false, "install what a run needs, but not what a build needs")
	measure := flags.Bool("bench", false, "install what measuring costs needs, too")
	flags.Var((*list)(&spec.Series), "series", "`series` to apply, as for ringproof kernel; without one, that of SERIES")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if series := os.Getenv("SERIES"); spec.Series == nil && series != "" {
		spec.Series = []string{series}
	}
	var missing []kernel.Package
	if !*run {
		missing = kernel.MissingPackages(spec)
	}
	for _, name := range vm.MissingPackages(kernel.Wanted()) {
		missing = append(missing, kernel.Package{Name: name, Why: "runs the kernels"})
	}
	if *measure {
		missing = append(missing, bench.MissingPackages()...)
	}
	if len(missing) == 0 {
		return nil
	}
	install := &kernel.MissingError{Packages: missing}
	fmt.Println("missing:")
	var names []string
	for _, p := range missing {
		fmt.Printf("  %-18s %s\n", p.Name, p.Why)
		names = append(names, p.Name)
	}
	var sudo []string
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil || exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
			return fmt.Errorf("this needs root; run this, then try again:\n  sudo %s", install.Install())
		}
		sudo = []string{"sudo"}
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("there is no apt-get: install these programs with your own package manager, and name a kernel source with KSRC=, a tree or a tar file")
	}
	for _, args := range [][]string{
		{"apt-get", "-q", "update"},
		append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install", "--no-install-recommends"}, names...),
	} {
		fmt.Println("+", strings.Join(args, " "))
		args = append(sudo, args...)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}
