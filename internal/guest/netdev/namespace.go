package netdev

import (
	"fmt"
	"runtime"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/vishvananda/netns"
)

// Namespace is a network namespace. It lives until it is closed and nothing that
// was made in it is left.
type Namespace struct{ handle netns.NsHandle }

// NewNamespace makes one. A kernel without them is a *kernelfeature.MissingError.
func NewNamespace() (*Namespace, error) {
	var n Namespace
	if err := andBack(func() (err error) {
		if n.handle, err = netns.New(); err != nil {
			return &kernelfeature.MissingError{Option: "CONFIG_NET_NS", What: "network namespaces", Err: err}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return &n, nil
}

// Do calls f in the namespace. Sockets, devices and processes that f makes belong
// to it; goroutines that f starts do not run in it.
func (n *Namespace) Do(f func() error) error {
	return andBack(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// Close gives the namespace up.
func (n *Namespace) Close() error { return n.handle.Close() }

// andBack calls f, which changes the network namespace of its thread, and
// changes it back.
func andBack(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open this network namespace: %w", err)
	}
	defer home.Close()
	err = f()
	if back := netns.Set(home); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return fmt.Errorf("return to the network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	return err
}
