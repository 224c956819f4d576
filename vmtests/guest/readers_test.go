package guest

import (
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/vhost"
)

// readers are the ways to consume, other than blocking readers that run where
// the scheduler puts them, which the matrix has. packets is how many to wait
// for.
var readers = []struct {
	name    string
	mode    string
	cfg     traffic.ConsumerConfig
	packets uint64
	txQueue int // 0 is 16
}{
	{"epoll", "tun", traffic.ConsumerConfig{Epoll: true}, 2000, 0},
	{"epoll-3", "tun", traffic.ConsumerConfig{Readers: 3, Epoll: true}, 2000, 0},
	{"same-cpu", "tun", traffic.ConsumerConfig{CPUs: []int{0}}, 2000, 0},
	{"other-cpu", "tun", traffic.ConsumerConfig{CPUs: []int{3}}, 2000, 0},
	// One packet at a time: the queue is woken on the last slot of each half.
	{"slow", "tun", traffic.ConsumerConfig{Interval: 2 * time.Millisecond}, 150, 0},
	// And in the smallest ring that gives slots back late, half of it at once
	// (include/linux/ptr_ring.h: __ptr_ring_discard_one): woken earlier, the
	// queue has no room.
	{"slow-late-slots", "tun", traffic.ConsumerConfig{Interval: 2 * time.Millisecond}, 150, 32},
	{"vhost", "vhost", tun.ByVhost(vhost.Config{}), 2000, 0},
	{"vhost-polled", "vhost", tun.ByVhost(vhost.Config{Mergeable: true, Polled: true}), 2000, 0},
	{"vhost-same-cpu", "vhost", tun.ByVhost(vhost.Config{Mergeable: true, CPU: new(int)}), 2000, 0},
	// The worker waits for buffers with packets in hand.
	{"vhost-2-buffers", "vhost", tun.ByVhost(vhost.Config{Size: 2}), 2000, 0},
}
