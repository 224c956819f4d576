package tun

import (
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/vhost"
)

// readers are the ways to consume, other than blocking readers that run where
// the scheduler puts them, which the matrix has.
var readers = []driver.Readers{
	{Name: "epoll", Mode: "tun", Consumer: traffic.ConsumerConfig{Epoll: true}, Packets: 2000},
	{Name: "epoll-3", Mode: "tun", Consumer: traffic.ConsumerConfig{Readers: 3, Epoll: true}, Packets: 2000},
	{Name: "same-cpu", Mode: "tun", Consumer: traffic.ConsumerConfig{CPUs: []int{0}}, Packets: 2000},
	{Name: "other-cpu", Mode: "tun", Consumer: traffic.ConsumerConfig{CPUs: []int{3}}, Packets: 2000},
	// One packet at a time: the queue is woken on the last slot of each half.
	{Name: "slow", Mode: "tun", Consumer: traffic.ConsumerConfig{Interval: 2 * time.Millisecond}, Packets: 150},
	// And in the smallest ring that gives slots back late, half of it at once
	// (include/linux/ptr_ring.h: __ptr_ring_discard_one): woken earlier, the
	// queue has no room.
	{Name: "slow-late-slots", Mode: "tun", Consumer: traffic.ConsumerConfig{Interval: 2 * time.Millisecond}, Packets: 150, TxQueueLen: 32},
	{Name: "vhost", Mode: "vhost", Consumer: ByVhost(vhost.Config{}), Packets: 2000},
	{Name: "vhost-polled", Mode: "vhost", Consumer: ByVhost(vhost.Config{Mergeable: true, Polled: true}), Packets: 2000},
	{Name: "vhost-same-cpu", Mode: "vhost", Consumer: ByVhost(vhost.Config{Mergeable: true, CPU: new(int)}), Packets: 2000},
	// The worker waits for buffers with packets in hand.
	{Name: "vhost-2-buffers", Mode: "vhost", Consumer: ByVhost(vhost.Config{Size: 2}), Packets: 2000},
}
