package ringproof

import (
	_ "github.com/cilium/ebpf"
	_ "github.com/hugelgupf/vmtest/govmtest"
	_ "github.com/hugelgupf/vmtest/guest"
	_ "github.com/hugelgupf/vmtest/qemu"
	_ "github.com/hugelgupf/vmtest/qemu/qevent"
	_ "github.com/hugelgupf/vmtest/qemu/quimage"
	_ "github.com/u-root/mkuimage/uimage"
	_ "github.com/u-root/u-root/pkg/kmodule"
	_ "github.com/u-root/u-root/pkg/libinit"
	_ "github.com/vishvananda/netlink"
	_ "github.com/vishvananda/netns"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
)
