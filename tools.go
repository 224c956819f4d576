//go:build tools

// Package ringproof keeps in go.mod what only other programs build: what
// vmtest's own runner puts into its image, for BenchmarkStart.
package ringproof

import (
	_ "github.com/hugelgupf/vmtest/vminit/gouinit"
	_ "github.com/hugelgupf/vmtest/vminit/shutdownafter"
	_ "github.com/hugelgupf/vmtest/vminit/vmmount"
	_ "github.com/u-root/u-root/cmds/core/init"
)
