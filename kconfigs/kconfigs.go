// Package kconfigs holds the kernel configuration fragments, so that a
// program finds them wherever it runs. Each states at its top what it is for.
package kconfigs

import "embed"

// FS holds each fragment as NAME.config.
//
//go:embed *.config
var FS embed.FS
