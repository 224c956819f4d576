package kernel

import (
	"fmt"
	"runtime"
)

// What is particular to the one architecture that is built and booted now.
const (
	arch        = "x86_64"                // ARCH= of make
	kconfigArch = "x86"                   // its directory in arch/
	imageTarget = "bzImage"               // the make target
	imagePath   = "arch/x86/boot/bzImage" // where make leaves it
)

// CheckHost says why nothing can be judged on this machine; nil if all can.
func CheckHost() error { return checkHost(runtime.GOARCH) }

func checkHost(goarch string) error {
	if goarch == "amd64" {
		return nil
	}
	return fmt.Errorf("ringproof runs on x86-64 machines only, and this one is %s: QEMU cannot promise an x86-64 guest its memory order there, and a race that it adds would be a false alarm", goarch)
}
