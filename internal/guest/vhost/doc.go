// Package vhost receives the packets of a tap queue as a virtual machine's
// network card does: the kernel's vhost-net worker takes them from the queue's
// ring and writes them into the buffers of a virtqueue, here one in our own
// memory.
//
// The worker takes up to 64 packets from the ring at once (drivers/vhost/net.c:
// VHOST_NET_BATCH), whether it has buffers for them or not. So a packet is in
// the qdisc, in the ring, in the worker's hands, or in the used ring; only what
// is in the used ring has arrived. What the worker has in hand goes back into
// the ring when the backend is unset (vhost_net_buf_unproduce).
package vhost
