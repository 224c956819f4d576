// Package vmtests tests whether a kernel keeps the promises of a TX-queue backpressure
// patch:
//
//	KERNEL=~/linux/arch/x86/boot/bzImage go test ./vmtests
//
// Each test here runs the test of the same name from vmtests/guest in a VM, which the
// tests share, and replays it as it happens: the same names, output and result. The
// flags of go test work as usual. The environment variables are documented at
// run.ConfigFromEnv.
package vmtests
