//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is attached to a device by TUNSETFILTEREBPF and
 * TUNSETSTEERINGEBPF. "go generate ./internal/guest/driver/tun" compiles them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 cut; /* bytes that each packet loses */

SEC("socket")
int trim(struct __sk_buff *skb)
{
	return skb->len - cut;
}

__u32 txq; /* the one that all packets go to */

SEC("socket")
int steer(struct __sk_buff *skb)
{
	return txq;
}

char __license[] SEC("license") = "GPL";
