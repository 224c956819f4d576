package initramfs

import "testing"

func TestBuild(t *testing.T) {
	path, cached, err := Build(t.Context(), Options{Package: "../internal/host/vm/testguest"})
	t.Log(path, cached, err)
}
