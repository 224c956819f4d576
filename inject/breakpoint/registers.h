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

#define REGISTERS 32 /* of any architecture */

struct registers {
	__u64 pc, sp, flags;
	__u64 top; /* what is on top of the stack */
	__u64 gpr[REGISTERS];
};

/* In the order in which instructions number them. */
static __always_inline void keep(volatile struct registers *r, bpf_user_pt_regs_t *ctx)
{
#if defined(__TARGET_ARCH_arm64)
	int i;

#pragma unroll
	for (i = 0; i < 31; i++)
		r->gpr[i] = ctx->regs[i];
	r->gpr[31] = ctx->sp; /* as a base; as anything else it is zero */
	r->flags = ctx->pstate;
#else
	r->gpr[0] = ctx->rax;
	r->gpr[1] = ctx->rcx;
	r->gpr[2] = ctx->rdx;
	r->gpr[3] = ctx->rbx;
	r->gpr[4] = ctx->rsp;
	r->gpr[5] = ctx->rbp;
	r->gpr[6] = ctx->rsi;
	r->gpr[7] = ctx->rdi;
	r->gpr[8] = ctx->r8;
	r->gpr[9] = ctx->r9;
	r->gpr[10] = ctx->r10;
	r->gpr[11] = ctx->r11;
	r->gpr[12] = ctx->r12;
	r->gpr[13] = ctx->r13;
	r->gpr[14] = ctx->r14;
	r->gpr[15] = ctx->r15;
	r->flags = ctx->eflags;
#endif
	r->pc = PT_REGS_IP(ctx);
	r->sp = PT_REGS_SP(ctx);
}
