// Package vmtests holds a kernel to the promises of a TX-queue backpressure
// patch:
//
//	KERNEL=~/linux/arch/x86/boot/bzImage go test ./vmtests
//
// Each test here boots, or shares, a VM that runs the test of the same name
// from vmtests/guest, and replays it: same names, same output, same ending, as
// it happens. The flags of go test select and shape tests as usual. What a run
// reads from the environment is documented at run.ConfigFromEnv.
package vmtests
