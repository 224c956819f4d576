/* SPDX-License-Identifier: GPL-2.0-only */
/* The control block of the pause, for all programs that set it. */

#include "registers.h"

/* What a CPU is to do, and does. */
enum state {
	IDLE,      /* let it pass */
	ARMED,     /* hold it up the next time */
	PAUSED,    /* it is held up */
	RELEASED,  /* let it go on */
	EXPIRED,   /* it went on by itself, after limit */
	EXHAUSTED, /* it went on by itself, after so many rounds, before limit */
};

/* One for each CPU, in memory that is shared with the
 * program in user space, in cache lines of its own: both sides spin on state.
 */
struct control {
	enum state state;
	__u32 next;  /* CPU + 1 that is let go on when this one is held up */
	__u64 limit; /* ns for which a CPU is held up at most */
	__u32 waits; /* it needs a spinlock before it gets where it is held up */
	__u32 rounds; /* times SPINS looks at state that a CPU takes at most */
	__u32 owner; /* offset of the owner in a spinlock that sleeps */
	__u64 task; /* the one that is held up */
	__u32 passes; /* times it comes by and is not held up, once it is armed */
	__u32 padding;
	__u64 pc; /* the instruction of those with a breakpoint where it is held up */
	__u64 padding2;
	struct registers registers; /* where a breakpoint holds it up */
	__u64 padding3[4];
};

#define CPUS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, struct control);
} controls SEC(".maps");
