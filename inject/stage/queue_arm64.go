package stage

import "regexp"

// stopBit is the first that the kernel does to clear the bit that stops a txq. Atomics
// have no offset, and so the address of the state is computed before
// (include/linux/netdevice.h: QUEUE_STATE_DRV_XOFF is bit 0).
var stopBit = regexp.MustCompile(`^add x\d+, x\d+, #(0x[0-9a-f]+)$`)
