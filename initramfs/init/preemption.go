package main

import (
	"compress/gzip"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// preemption is the running kernel's preemption model, as Hello has it.
func preemption(version string) string {
	var config []byte
	if f, err := os.Open("/proc/config.gz"); err == nil {
		defer f.Close()
		if z, err := gzip.NewReader(f); err == nil {
			config, _ = io.ReadAll(z)
		}
	}
	// It is there with CONFIG_PREEMPT_DYNAMIC (kernel/sched/debug.c:
	// sched_dynamic_show).
	dynamic, _ := os.ReadFile("/sys/kernel/debug/sched/preempt")
	return preemptionModel(version, string(config), string(dynamic))
}

var chosen = regexp.MustCompile(`\((\w+)\)`)

// preemptionModel tells the model from uname -v, the configuration, and what
// the scheduler says of a model that is chosen at boot; the last two may be "".
//
// uname -v says less than the rest: PREEMPT is CONFIG_PREEMPT or, from 6.13 on,
// CONFIG_PREEMPT_LAZY, and without a word about it the model is
// CONFIG_PREEMPT_NONE or CONFIG_PREEMPT_VOLUNTARY (init/Makefile: preempt-flag).
func preemptionModel(version, config, dynamic string) string {
	has := func(word string) bool { return slices.Contains(strings.Fields(version), word) }
	// Since 6.13 one of the other models is set beside it, and says only how
	// eagerly tasks are preempted.
	if has("PREEMPT_RT") {
		return "PREEMPT_RT"
	}
	if m := chosen.FindStringSubmatch(dynamic); m != nil {
		model := "PREEMPT"
		if m[1] != "full" {
			model += "_" + strings.ToUpper(m[1])
		}
		return model + " (PREEMPT_DYNAMIC)"
	}
	if has("PREEMPT_DYNAMIC") {
		return "PREEMPT_DYNAMIC"
	}
	for _, model := range []string{"PREEMPT_LAZY", "PREEMPT", "PREEMPT_VOLUNTARY", "PREEMPT_NONE"} {
		if strings.Contains(config, "\nCONFIG_"+model+"=y\n") {
			return model
		}
	}
	if has("PREEMPT") {
		return "PREEMPT or PREEMPT_LAZY"
	}
	return "PREEMPT_NONE or PREEMPT_VOLUNTARY"
}
