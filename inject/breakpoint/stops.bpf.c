//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts how often CPUs execute the instruction that its breakpoints are set on.
 * "go generate ./inject/breakpoint" compiles it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 stops;

SEC("perf_event")
int count_stop(void *ctx)
{
	__sync_fetch_and_add(&stops, 1);
	return 0;
}

char __license[] SEC("license") = "GPL";
