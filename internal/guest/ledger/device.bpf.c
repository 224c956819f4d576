//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that find a device in the kernel; device.go says how. "go generate
 * ./internal/guest/ledger" compiles them.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int read_ifindex(struct __sk_buff *skb)
{
	return skb->ifindex;
}

/* What BPF_PROG_TEST_RUN is told about the skb that it makes: the beginning of
 * its struct __sk_buff.
 */
struct context {
	__u8 before[offsetof(struct __sk_buff, ifindex)];
	__u32 ifindex;
};

SEC("tc")
int nothing(struct context *skb)
{
	return 0;
}

volatile const __u32 thread;    /* the one that frees the skb */
volatile const __u32 ifindex;   /* of the device */
volatile const __u32 in_skb;    /* offset of dev in struct sk_buff */
volatile const __u32 in_device; /* offset of ifindex in struct net_device */

__u64 found; /* address of the struct net_device */

SEC("raw_tp")
int find_device(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 dev;
	__u32 index;

	if ((__u32)bpf_get_current_pid_tgid() != thread)
		return 0;
	bpf_probe_read_kernel(&dev, sizeof(dev), (const void *)ctx->args[0] + in_skb);
	bpf_probe_read_kernel(&index, sizeof(index), (const void *)dev + in_device);
	if (index == ifindex)
		found = dev;
	return 0;
}

char __license[] SEC("license") = "GPL";
