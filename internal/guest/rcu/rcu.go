// Package rcu waits until all RCU readers of the kernel have finished.
package rcu

import (
	"time"

	"golang.org/x/sys/unix"
)

// Synchronize returns when everything that ran in the kernel inside an RCU
// read-side section when it was called has left that section: every packet
// that was on its way from a qdisc through the driver, for example
// (net/core/dev.c: __dev_queue_xmit), and every softirq.
func Synchronize() {
	// It is synchronize_rcu() on a kernel that has it and no nohz_full CPU
	// (kernel/sched/membarrier.c).
	const membarrierGlobal = 1 // include/uapi/linux/membarrier.h
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		// Several ticks of any CONFIG_HZ: an ordinary grace period's length.
		time.Sleep(50 * time.Millisecond)
	}
}
