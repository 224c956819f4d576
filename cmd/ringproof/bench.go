package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/bench"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// measure runs workloads on kernels and compares their cost.
func measure(ctx context.Context, args []string) error {
	flags := newFlags("bench")
	dir := flags.String("kernel", "", "`directory` of a kernel")
	ruler := flags.String("ruler", "time", "instructions or time")
	run := flags.String("run", "", "workloads")
	rounds := flags.Int("rounds", 1, "rounds")
	bp := flags.Bool("backpressure", false, "open devices with IFF_BACKPRESSURE")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	k, err := kernel.Open(*dir)
	if err != nil {
		return err
	}
	image, _, err := initramfs.Build(ctx, initramfs.Options{Package: "./bench", Progress: os.Stderr})
	if err != nil {
		return err
	}
	r, err := bench.Boot{
		Kernel: k, Ruler: bench.Ruler(*ruler), Workloads: *run, Rounds: *rounds, Backpressure: *bp, Image: image, CPUs: 2,
		Dir: "artifacts/bench-" + time.Now().Format("150405"), Progress: os.Stderr,
		OnSample: func(s cost.Sample) {
			text, _ := json.Marshal(s)
			fmt.Println(string(text))
		},
	}.Run(ctx)
	fmt.Println(r)
	return err
}
