package volume

import "testing"

func TestChunksAreStoredAnew(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes int64
		packs uint64
		anew  bool
	}{
		{"little has changed", 4096, 0, false},
		{"half has changed", rewriteAt, 0, true},
		{"just less than half", rewriteAt - 1, packsAtMost - 1, false},
		{"the packs' numbers run out", 4096, packsAtMost, true},
	} {
		if got := (work{bytes: c.bytes}).anew(c.packs); got != c.anew {
			t.Errorf("%s: anew %v", c.name, got)
		}
	}
}
