//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pause: runs when a CPU is about to execute the instruction that its
 * breakpoint or kprobe is set on, and holds that CPU there until it is
 * released. "go generate ./inject/breakpoint" compiles it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "control.h"

/* A round is a bpf_loop() of its own: one alone has 1 << 23 at most
 * (kernel/bpf/bpf_iter.c: BPF_MAX_LOOPS), which a fast CPU is through with
 * before limit.
 */
#define SPINS 1024

struct wait {
	volatile struct control *control;
	__u64 since;
};

static long spin(__u32 i, struct wait *w)
{
	volatile struct control *c = w->control;

	if (c->state != PAUSED)
		return 1;
	if (bpf_ktime_get_ns() - w->since < c->limit)
		return 0;
	/* Whoever releases it at this moment finds out that it was too late. */
	__sync_val_compare_and_swap(&w->control->state, PAUSED, EXPIRED);
	return 1;
}

static long round(__u32 i, struct wait *w)
{
	bpf_loop(SPINS, spin, w, 0);
	return w->control->state != PAUSED;
}

static __always_inline int release(__u32 cpu)
{
	struct control *c = bpf_map_lookup_elem(&controls, &cpu);

	return c && __sync_val_compare_and_swap(&c->state, PAUSED, RELEASED) == PAUSED;
}

static __always_inline int hold(struct control *c, bpf_user_pt_regs_t *ctx)
{
	struct wait w;

	c->task = bpf_get_current_task();
	if (c->state == ARMED && c->passes) {
		c->passes--;
		return 0;
	}
	/* Others that come by while it is idle, and it itself the second time,
	 * pass: only the first to find it armed is held up.
	 */
	if (__sync_val_compare_and_swap(&c->state, ARMED, PAUSED) != ARMED)
		return 0;
	if (ctx)
		keep(&c->registers, ctx);
	if (c->next)
		release(c->next - 1);
	w.control = c;
	w.since = bpf_ktime_get_ns();
	bpf_loop(c->rounds, round, &w, 0);
	__sync_val_compare_and_swap(&c->state, PAUSED, EXHAUSTED);
	return 0;
}

SEC("perf_event")
int pause_at_breakpoint(bpf_user_pt_regs_t *ctx)
{
	__u32 key = bpf_get_smp_processor_id();
	struct control *c = bpf_map_lookup_elem(&controls, &key);

	return c && c->pc == PT_REGS_IP(ctx) ? hold(c, ctx) : 0;
}

SEC("kprobe")
int pause_at_kprobe(void *ctx)
{
	__u32 key = bpf_get_smp_processor_id();
	struct control *c = bpf_map_lookup_elem(&controls, &key);

	return c ? hold(c, NULL) : 0;
}

/* For so long a CPU that is not held up has no lock: many times what a critical
 * section takes.
 */
#define LOCKED_FOR_LONG 200000 /* ns */

struct contention {
	const void *lock;
	__u64 since;
	__u32 freed;
};

static long watch(__u32 i, struct contention *w)
{
	__u8 locked; /* the first byte of struct qspinlock (asm-generic/qspinlock_types.h) */

	if (bpf_probe_read_kernel(&locked, sizeof(locked), w->lock) || !locked) {
		w->freed = 1;
		return 1;
	}
	return bpf_ktime_get_ns() - w->since > LOCKED_FOR_LONG;
}

/* Where a CPU begins to spin for a lock: if it is armed, and the lock is not
 * some third one's for a moment, then the one that it would let go on when it
 * is held up has it, and must go on before. So it is not held up any more.
 */
SEC("perf_event")
int wait_at_breakpoint(bpf_user_pt_regs_t *ctx)
{
	__u32 key = bpf_get_smp_processor_id();
	struct control *c = bpf_map_lookup_elem(&controls, &key);
	struct contention w = {};

	if (!c || c->state != ARMED || !c->next)
		return 0;
	w.lock = (const void *)PT_REGS_PARM1(ctx);
	w.since = bpf_ktime_get_ns();
	bpf_loop(1 << 20, watch, &w, 0);
	if (!w.freed && release(c->next - 1)) {
		c->waits = 1;
		c->state = IDLE;
	}
	return 0;
}

/* The same for a lock that sleeps: it knows who has it (rtlock_slowlock_locked()
 * in kernel/locking/rtmutex.c; the owner's lowest bit says that others wait).
 */
SEC("perf_event")
int sleep_at_breakpoint(bpf_user_pt_regs_t *ctx)
{
	__u32 key = bpf_get_smp_processor_id();
	struct control *c = bpf_map_lookup_elem(&controls, &key);
	struct control *next;
	__u64 owner;

	if (!c || c->state != ARMED || !c->next)
		return 0;
	key = c->next - 1;
	next = bpf_map_lookup_elem(&controls, &key);
	if (!next || bpf_probe_read_kernel(&owner, sizeof(owner), (const void *)PT_REGS_PARM1(ctx) + c->owner))
		return 0;
	if ((owner & ~1ULL) == next->task && release(key)) {
		c->waits = 1;
		c->state = IDLE;
	}
	return 0;
}

char __license[] SEC("license") = "GPL";
