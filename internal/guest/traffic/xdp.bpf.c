//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that bring frames into the ring of a tap device; xdp.go says how.
 * "go generate ./internal/guest/traffic" compiles them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 ifindex; /* of the device to redirect to */

SEC("xdp")
int redirect(struct xdp_md *frame)
{
	return bpf_redirect(ifindex, 0);
}

SEC("xdp")
int transmit(struct xdp_md *frame)
{
	return XDP_TX;
}

char __license[] SEC("license") = "GPL";
