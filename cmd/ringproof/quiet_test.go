package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestQuiet: progress is shown unless it is unwanted.
func TestQuiet(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{{nil, "building"}, {[]string{"-q"}, ""}} {
		var shown strings.Builder
		flags := newFlags("kernel")
		progress := quiet(flags, &shown)
		if err := flags.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(progress(), "building")
		if shown.String() != tt.want {
			t.Errorf("%q shows %q", tt.args, shown.String())
		}
	}
}
