package multicast

import (
	"bytes"
	"strings"
	"testing"
)

func TestBitmap(t *testing.T) {
	for _, chunks := range []int{1, 7, 8, 9, 500} {
		b := newBitmap(chunks)
		for c := 0; c < chunks; c += 3 {
			b.set(c)
			b.set(c) // a chunk that comes twice is there once
		}
		if n := b.count(); n != (chunks+2)/3 {
			t.Errorf("%d chunks: %d are there, want %d", chunks, n, (chunks+2)/3)
		}
		other := newBitmap(chunks)
		for c := range chunks {
			if b.has(c) != (c%3 == 0) {
				t.Errorf("%d chunks: chunk %d is there: %v", chunks, c, b.has(c))
			}
			if c%3 != 0 {
				other.set(c)
			}
		}
		if err := b.merge(other); err != nil || b.count() != chunks {
			t.Errorf("%d chunks, all of them merged: %d, %v", chunks, b.count(), err)
		}
		if err := b.merge(append(other, 0)); err == nil {
			t.Errorf("%d chunks: a bitmap that is too long was merged", chunks)
		}
		if err := b.merge(other[1:]); err == nil {
			t.Errorf("%d chunks: a bitmap that is too short was merged", chunks)
		}
	}
}

// TestEveryChunkHasAGroup: what a sender asks its groups for is all that it has.
func TestEveryChunkHasAGroup(t *testing.T) {
	for _, chunks := range []int{1, 4, 5, 7, 2000} {
		for _, groups := range []int{1, 3, 4, 8} {
			transfer := Transfer{Chunks: chunks, Groups: groups}
			placed := make([]int, groups)
			for c := range chunks {
				if at := c / groups; at != placed[c%groups] {
					t.Fatalf("chunk %d of group %d is at %d, after %d", c, c%groups, at, placed[c%groups])
				}
				placed[c%groups]++
			}
			for g := range groups {
				if n := transfer.chunksOf(g); n != placed[g] {
					t.Errorf("%d chunks, %d groups: group %d has %d, want %d", chunks, groups, g, n, placed[g])
				}
			}
		}
	}
}

func TestMessages(t *testing.T) {
	sent := message{report, 7, 3, 1 << 20, []byte{1, 2, 3}}
	got, err := parse(sent.append(nil))
	if err != nil || got.kind != sent.kind || got.sender != sent.sender || got.group != sent.group || got.number != sent.number || !bytes.Equal(got.rest, sent.rest) {
		t.Errorf("%+v came as %+v, %v", sent, got, err)
	}
	for name, wrong := range map[string]string{"short": "\x01\x00\x00\x00\x00\x00\x00", "kind": strings.Repeat("\x00", 8), "kind beyond": "\x04" + strings.Repeat("\x00", 7), "padding": "\x01\x00\x00\x01" + strings.Repeat("\x00", 4)} {
		if m, err := parse([]byte(wrong)); err == nil {
			t.Errorf("%s: parsed as %+v", name, m)
		}
	}
}
