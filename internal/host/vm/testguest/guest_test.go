// Package testguest holds what this tree's VM tests run in the guest.
package testguest

import (
	"fmt"
	"testing"
)

func TestTrivial(t *testing.T) { fmt.Println("a line from the guest") }
