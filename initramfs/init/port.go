package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/hugelgupf/vmtest/guest"
	"github.com/ringproof/ringproof/internal/contract"
)

// noPort begins the line on the console that says why there is no port. The
// host recognises it (internal/host/vm: noPort), so as not to wait any longer.
const noPort = "no port to the host"

// openPort opens the virtio-serial port to the host. The driver learns the
// names of its ports from the host a moment after it has found the device
// (drivers/char/virtio_console.c: handle_control_message), so it waits.
func openPort() (*guest.Emitter[contract.Event], error) {
	var err error
	for begin := time.Now(); time.Since(begin) < 2*time.Second; time.Sleep(time.Millisecond) {
		var port *guest.Emitter[contract.Event]
		port, err = guest.SerialEventChannel[contract.Event](contract.PortName)
		if err == nil {
			return port, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: the kernel lacks CONFIG_VIRTIO_CONSOLE", noPort)
		}
	}
	return nil, fmt.Errorf("%s: %w; for a port, the kernel needs CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES on QEMU's microvm, CONFIG_VIRTIO_PCI on q35", noPort, err)
}
