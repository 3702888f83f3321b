package image

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// A lost journal's writes and zeros are laid over the version that it continued;
// alone they stand in zeros.
func TestSalvage(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	root, content := imported(t, w)
	size := int64(len(content)) + 20<<20 // grown by the node
	config := delta.Config{
		Dir: filepath.Join(t.TempDir(), "journal"), SegmentSize: 1 << 20, Quota: 16 << 20, Prewrite: -1, AllowAnyFS: true,
	}
	id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(3)}
	j, err := delta.Create(config, id, delta.State{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	content = append(content, make([]byte, 20<<20)...)
	alone := make([]byte, len(content))
	put := func(off int64, data []byte) {
		if err := j.Write(ctx, off, data, false); err != nil {
			t.Fatal(err)
		}
		copy(content[off:], data)
		copy(alone[off:], data)
	}
	put(512, noise(20, 1024))
	put(chunks.Size-4096, noise(21, 8192)) // over the end of a chunk
	if _, err := j.Seal(ctx, "", false); err != nil {
		t.Fatal(err)
	}
	put(size-4096, noise(22, 4096)) // where the base has nothing
	put(1024, noise(23, 512))       // over an older write
	if err := j.Zero(ctx, 1<<20, 1<<20, false); err != nil {
		t.Fatal(err)
	}
	clear(content[1<<20 : 2<<20])
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	remains, err := delta.Inspect(config, id)
	if err != nil {
		t.Fatal(err)
	}
	defer remains.Close()

	for name, c := range map[string]struct {
		base *Version
		want []byte
	}{
		"over its base": {NewVersion(w, root, 0, nil), content},
		"alone":         {NewVersion(w, nil, 0, nil), alone},
	} {
		s := NewSalvage(remains, c.base)
		var got bytes.Buffer
		if _, err := (Export{Content: s}).ToStream(ctx, &got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), c.want) {
			t.Errorf("%s: %d bytes differ", name, got.Len())
		}
		var held []Span
		for span, err := range s.Held(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, span)
		}
		want := []Span{{512, 1024}, {1 << 20, 1 << 20}, {chunks.Size - 4096, 4096}, {chunks.Size, 4096}, {size - 4096, 4096}}
		if !slices.Equal(held, want) {
			t.Errorf("%s: holds %v, want %v", name, held, want)
		}
	}
}
