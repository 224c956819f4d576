/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PT_REGS_PARM1() and the like of the context of a program that a breakpoint runs:
 * struct bpf_perf_event_data begins with the registers.
 */
#if defined(__TARGET_ARCH_arm64)
/* arch/arm64/include/uapi/asm/ptrace.h, which a machine of another architecture lacks. */
typedef struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
} bpf_user_pt_regs_t;
#else
#include <linux/bpf_perf_event.h>
#endif
#include <bpf/bpf_tracing.h>
