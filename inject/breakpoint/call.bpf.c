//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps the arguments of the function that its breakpoints are set on, of the last
 * call by a thread. "go generate ./inject/breakpoint" compiles it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "registers.h"

volatile const __u32 thread;
__u64 arguments[3];

SEC("perf_event")
int keep_arguments(bpf_user_pt_regs_t *ctx)
{
	if ((__u32)bpf_get_current_pid_tgid() != thread)
		return 0;
	arguments[0] = PT_REGS_PARM1(ctx);
	arguments[1] = PT_REGS_PARM2(ctx);
	arguments[2] = PT_REGS_PARM3(ctx);
	return 0;
}

char __license[] SEC("license") = "GPL";
