//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps the registers of a CPU when it is about to execute the instructions that
 * its breakpoints are set on, and what is in memory where an instruction will
 * read or write. "go generate ./inject/breakpoint" compiles it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "control.h"

#define PLACES 4 /* as many breakpoints as a CPU has */
#define RECORDS 256
#define NONE 0xff

/* An instruction, and how it computes the address of its operand. */
struct place {
	__u64 pc;
	__s64 disp;
	__u8 base, index, scale, bytes; /* registers, or NONE; bytes is 0 if there is no operand */
	__u8 again; /* the operand is that of the first place, when it was executed last */
	__u8 extend; /* of the index: 0 is all of it, 1 the lower half, 2 with its sign */
	__u8 padding[2];
};

struct record {
	struct registers registers;
	__u64 address, content; /* of the operand */
};

struct recorder {
	__u32 on;    /* what comes by is kept */
	__u32 after; /* on when the first place is executed for the nth time; 0 is never */
	__u32 arms;  /* and its CPU is held up then, where its trap is set */
	__u32 task;  /* keep only what this thread executes; 0 is any */
	__u64 address;
	__u32 n;     /* records, of which the first RECORDS are kept */
	__u32 padding;
	struct place places[PLACES];
	struct record records[RECORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recorder);
} recorders SEC(".maps");

SEC("perf_event")
int record_at_breakpoint(bpf_user_pt_regs_t *ctx)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), n, bytes;
	struct recorder *all = bpf_map_lookup_elem(&recorders, &zero);
	struct control *c = bpf_map_lookup_elem(&controls, &cpu);
	struct place *p = 0;
	struct record *r;
	__u64 pc = PT_REGS_IP(ctx), address;
	int i;

	if (!all || !c || (all->task && all->task != (__u32)bpf_get_current_pid_tgid()))
		return 0;
#pragma unroll
	for (i = PLACES - 1; i >= 0; i--)
		if (all->places[i].pc == pc)
			p = &all->places[i];
	if (!p)
		return 0;
	if (p == &all->places[0] && all->after && !--all->after) {
		all->on = 1;
		if (all->arms)
			c->state = ARMED;
	}
	n = all->n;
	if (!all->on || n >= RECORDS)
		return 0;
	r = &all->records[n & (RECORDS - 1)];
	keep(&r->registers, ctx);
	bpf_probe_read_kernel(&r->registers.top, sizeof(r->registers.top), (const void *)r->registers.sp);
	address = p->disp;
	if (p->base != NONE)
		address += r->registers.gpr[p->base & (REGISTERS - 1)];
	if (p->index != NONE) {
		__u64 index = r->registers.gpr[p->index & (REGISTERS - 1)];

		if (p->extend == 1)
			index = (__u32)index;
		else if (p->extend == 2)
			index = (__s64)(__s32)index;
		address += index * p->scale;
	}
	if (p->again)
		address = all->address;
	else if (p == &all->places[0])
		all->address = address;
	r->address = address;
	r->content = 0;
	bytes = p->bytes;
	if (bytes > sizeof(r->content))
		bytes = sizeof(r->content);
	bpf_probe_read_kernel(&r->content, bytes, (const void *)address);
	all->n = n + 1;
	return 0;
}

char __license[] SEC("license") = "GPL";
