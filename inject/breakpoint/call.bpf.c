//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps the arguments of the function that its breakpoint is set on, of the last
 * call. "go generate ./inject/breakpoint" compiles it.
 */
#include <linux/ptrace.h>
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>

__u64 arguments[3];

SEC("perf_event")
int keep_arguments(struct bpf_perf_event_data *ctx)
{
	arguments[0] = ctx->regs.rdi;
	arguments[1] = ctx->regs.rsi;
	arguments[2] = ctx->regs.rdx;
	return 0;
}

char __license[] SEC("license") = "GPL";
