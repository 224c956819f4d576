package kernel

// What is particular to the one architecture that is built and booted now.
const (
	arch        = "x86_64"                // ARCH= of make
	kconfigArch = "x86"                   // its directory in arch/
	imageTarget = "bzImage"               // the make target
	imagePath   = "arch/x86/boot/bzImage" // where make leaves it
)
