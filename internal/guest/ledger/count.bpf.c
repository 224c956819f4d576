//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that count the skbs which the kernel frees; ledger.go says how they
 * work together. "go generate ./internal/guest/ledger" compiles them.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Whose skbs are counted. LOST and CAUGHT, which have neither place nor reason,
 * count events of the programs' own.
 */
enum owner {
	OTHERS,
	OURS,   /* skb->dev is the device under test */
	LOST,   /* events for which the map had no room */
	CAUGHT, /* events that the second program counted */
	FAR,    /* skb->dev is the device at the other end */
};

struct key {
	__u64 location; /* return address into the function that freed */
	__u32 reason;   /* enum skb_drop_reason, 0 where the tracepoint has none */
	enum owner owner;
};

/* One for all CPUs: the programs add with an atomic instruction, so that
 * neither another CPU nor an interrupt can lose an update. The keys of LOST and
 * CAUGHT are there from the start, so that counting them cannot fail.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* far above the places in a kernel that free skbs */
	__type(key, struct key);
	__type(value, __u64);
} counts SEC(".maps");

/* The skbs that the first program has counted and the second has not come to
 * yet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* CPUs that free skbs at once, and what the second missed */
	__type(key, __u64);
	__type(value, __u64);
} seen SEC(".maps");

/* The task in which the first program is at work on this CPU, 0 if it is not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} busy SEC(".maps");

volatile const __u64 device;      /* address of the struct net_device */
volatile const __u64 far;         /* that of the device at the other end; 0 is none */
volatile const __u32 dev_in_skb;  /* offset of dev in struct sk_buff */
volatile const bool has_location; /* the tracepoint's second argument is one */
volatile const bool has_reason;   /* and its third */

static __always_inline enum owner owner(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 dev;

	/* 0 if it cannot be read: an skb in an rbtree has no dev. */
	bpf_probe_read_kernel(&dev, sizeof(dev), (const void *)ctx->args[0] + dev_in_skb);
	if (dev == device)
		return OURS;
	return far && dev == far ? FAR : OTHERS;
}

static __always_inline void add(__u64 *n)
{
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline void count(struct bpf_raw_tracepoint_args *ctx, enum owner owner)
{
	const struct key lost = { .owner = LOST };
	struct key key = { .owner = owner };
	__u64 *n, none = 0;

	if (has_location)
		key.location = ctx->args[1];
	if (has_reason)
		key.reason = ctx->args[2];
	n = bpf_map_lookup_elem(&counts, &key);
	if (!n) {
		/* The first at this place. Another CPU may be faster: the update
		 * then fails, and the entry is there all the same.
		 */
		bpf_map_update_elem(&counts, &key, &none, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&counts, &key);
		if (!n)
			n = bpf_map_lookup_elem(&counts, &lost);
	}
	add(n);
}

/* The first of two on a tracepoint notes each skb, and leaves it to the second
 * if there is no room to.
 */
SEC("raw_tp")
int count_first(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 skb = ctx->args[0];
	__u32 zero = 0;
	volatile __u64 *task = bpf_map_lookup_elem(&busy, &zero);

	if (!task)
		return 0;
	*task = bpf_get_current_task();
	if (!bpf_map_update_elem(&seen, &skb, &skb, BPF_ANY))
		count(ctx, owner(ctx));
	*task = 0;
	return 0;
}

/* The second leaves alone what is noted, unless the first is at work in this
 * task, and so cannot have noted it just now. At work in another task, the first
 * was preempted there, and says nothing about this one: tracepoints no longer
 * disable preemption (include/linux/tracepoint.h in 7.2: srcu_fast_notrace).
 */
SEC("raw_tp")
int count_second(struct bpf_raw_tracepoint_args *ctx)
{
	const struct key caught = { .owner = CAUGHT };
	__u64 skb = ctx->args[0];
	__u32 zero = 0;
	volatile __u64 *task = bpf_map_lookup_elem(&busy, &zero);
	bool interrupted, noted;

	if (!task)
		return 0;
	interrupted = *task == bpf_get_current_task();
	noted = !bpf_map_delete_elem(&seen, &skb);
	if (noted && !interrupted)
		return 0;
	add(bpf_map_lookup_elem(&counts, &caught));
	count(ctx, owner(ctx));
	return 0;
}

/* The only one on a tracepoint counts the skbs of the device, and of that at the other
 * end.
 */
SEC("raw_tp")
int count_ours(struct bpf_raw_tracepoint_args *ctx)
{
	enum owner whose = owner(ctx);

	if (whose != OTHERS)
		count(ctx, whose);
	return 0;
}

/* anchor.go says what this is for. */
SEC("raw_tp")
int anchor(void *ctx)
{
	return 0;
}

char __license[] SEC("license") = "GPL";
