package stage

import "regexp"

// stopBit is how the kernel clears the bit that stops a txq: a locked instruction on
// its state, at that offset (include/linux/netdevice.h: QUEUE_STATE_DRV_XOFF is bit 0).
var stopBit = regexp.MustCompile(`^lock btr\w* \$0x0,(0x[0-9a-f]+)\(`)
