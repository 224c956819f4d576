package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/host/proof"
)

// prove judges the designs and the planted bugs under patches/.
func prove(ctx context.Context, args []string) error {
	flags := newFlags("proof")
	cfg := proof.Config{Patches: "patches"}
	flags.DurationVar(&cfg.Baseline, "baseline", 0, "compare with plain stress and with random schedules, each for this `duration`")
	progress := quiet(flags, os.Stderr)
	shard := flags.String("shard", os.Getenv("SHARD"), "do part `I/N` of the jobs")
	merge := flags.Bool("merge", false, "test nothing: read the outcomes in these directories")
	flags.StringVar(&cfg.Dir, "dir", filepath.Join("artifacts", "proof"), "`directory` of the outcomes; finished jobs are not repeated")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	cfg.Progress = progress()
	var p *proof.Proof
	var err error
	if *merge {
		p, err = proof.Merge(cfg.Patches, flags.Args())
	} else {
		if *shard != "" {
			if _, err := fmt.Sscanf(*shard, "%d/%d", &cfg.Shard, &cfg.Shards); err != nil || cfg.Shard < 1 || cfg.Shard > cfg.Shards {
				return fmt.Errorf("proof: -shard (or SHARD) is %q, but should be like 1/3", *shard)
			}
		}
		cfg.Only = flags.Args()
		p, err = proof.Run(ctx, cfg)
	}
	if err != nil {
		return err
	}
	fmt.Print(p.Text())
	if len(p.Wrong()) > 0 {
		return errors.New("not everything is as it should be")
	}
	return nil
}

// soak runs the sound designs again and again.
func soak(ctx context.Context, args []string) error {
	flags := newFlags("soak")
	n := flags.Int("n", 100, "how many `times` each sound design is tested")
	var fragments list
	flags.Var(&fragments, "config", "`fragment` on top of base, such as rt; may be given several times")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	return proof.Soak(ctx, "patches", fragments, *n, os.Stdout)
}
