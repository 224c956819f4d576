// Package kconfigs has the kernel configuration fragments in the binary, so that a
// program finds them wherever it runs. Each fragment begins with its purpose.
package kconfigs

import "embed"

// FS holds each fragment as NAME.config.
//
//go:embed *.config
var FS embed.FS
