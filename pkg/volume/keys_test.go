package volume

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// pieces are parts of p, short enough to lie in one frame.
func pieces(p []byte) (list [][]byte) {
	for n := 0; n+64 <= len(p); n += 1 << 15 {
		list = append(list, p[n:][:64])
	}
	return list
}

// seen counts the pieces that are in chunks and packs of a container as they are,
// and these objects.
func (r *rig) seen(list [][]byte) (found, objects int) {
	r.t.Helper()
	rows, err := r.store.List(r.ctx, r.container, "", "", swift.MaxListing)
	r.must(err)
	for _, row := range rows {
		if !strings.HasPrefix(row.Name, chunks.ChunkPrefix) && !strings.HasPrefix(row.Name, "d/") {
			continue
		}
		objects++
		object, err := r.store.Get(r.ctx, r.container, row.Name, swift.GetOptions{})
		r.must(err)
		for _, piece := range list {
			found += bytes.Count(object.Body, piece)
		}
	}
	return found, objects
}

// What is in Swift of an encrypted volume and of its clones can be read with their
// keys only; of one that is not encrypted, by everybody, so the test can see it.
func TestEncryptedVolumesInSwift(t *testing.T) {
	for name, set := range map[string]keys.Set{"encrypted": keys.New(keys.Set{}), "not encrypted": {}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 32*mib, nil)
			r.Stop()
			c := &rig{t: r.t, ctx: r.ctx, store: r.store, root: r.root, size: r.size, keys: set}
			c.start(nil)
			chunk, patch, third := noise(1, chunks.Size), noise(2, 256<<10), noise(3, 64<<10)
			c.write(0, chunk)
			c.publish("")
			c.write(4096, patch) // into a chunk that has a base
			root := c.publish("")
			child := c.clone(root)
			child.write(20*mib, third)
			copy(chunk[4096:], patch)
			for range 2 {
				child.want(0, chunk)
				child.want(20*mib, third)
				child.head = child.close()
				child.nextEpoch()
			}
			found, objects := c.seen(pieces(patch))
			more, others := child.seen(pieces(third))
			if found, objects = found+more, objects+others; objects < 3 {
				t.Errorf("only %d objects with data", objects)
			}
			if (found > 0) != set.IsZero() {
				t.Errorf("%d pieces of plain text are in Swift", found)
			}
		})
	}
}

// A volume is not opened with keys that are not enough, or where it needs none.
func TestKeysOfAVolume(t *testing.T) {
	r := newRig(t, 32*mib, nil)
	r.Stop()
	c := &rig{t: r.t, ctx: r.ctx, store: r.store, root: r.root, size: r.size, keys: keys.New(keys.Set{})}
	c.start(nil)
	c.write(0, noise(1, 64<<10))
	root := c.close()
	child := &rig{t: r.t, ctx: r.ctx, store: r.store, root: r.root, size: r.size, keys: keys.New(keys.Set{})}
	open := func(p *rig) error {
		config := Config{Journal: p.journal, Store: p.store, Container: p.container, Head: root, Keys: p.keys}
		_, err := config.withDefaults()
		return err
	}
	child.start(nil)
	var missing *chunks.KeyError
	if err := open(child); !errors.As(err, &missing) || !errors.Is(err, chunks.ErrNoKey) {
		t.Errorf("a clone without the source's key: %v", err)
	}
	child.keys = keys.Set{}
	if err := open(child); err == nil || !strings.Contains(err.Error(), "the journal is encrypted: true, the volume: false") {
		t.Errorf("an encrypted journal without keys: %v", err)
	}
	plain := &rig{t: r.t, ctx: r.ctx, store: r.store, root: r.root, size: r.size}
	plain.start(nil)
	if err := open(plain); !errors.Is(err, chunks.ErrNoKey) {
		t.Errorf("a clone that is not encrypted: %v", err)
	}
	plain.keys = keys.New(keys.Set{})
	if err := open(plain); err == nil || !strings.Contains(err.Error(), "the journal is encrypted: false, the volume: true") {
		t.Errorf("a plain journal with keys: %v", err)
	}
}
