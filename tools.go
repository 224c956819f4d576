//go:build tools

// Package ringproof keeps modules in go.mod that only other programs need: those of
// the image that vmtest's own runner builds, for BenchmarkStart.
package ringproof

import (
	_ "github.com/hugelgupf/vmtest/vminit/gouinit"
	_ "github.com/hugelgupf/vmtest/vminit/shutdownafter"
	_ "github.com/hugelgupf/vmtest/vminit/vmmount"
	_ "github.com/u-root/u-root/cmds/core/init"
)
