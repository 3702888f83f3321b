package delta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// testKey is the key of a volume.
func testKey() *keys.Secret {
	secret := keys.New(keys.Set{}).Secret()
	return &secret
}

// wiretap is a file system that looks at every block of data which is written to the
// log, also by calls that fail: what a disk may have had on it at any time.
type wiretap struct {
	delta.FS
	mu     sync.Mutex
	blocks int
	places map[string]int // how often each was written
	see    func(block []byte)
}

func (w *wiretap) tap(f delta.File, name string, err error) (delta.File, error) {
	if err != nil || !strings.Contains(name, "segment.") {
		return f, err
	}
	return tapped{f, w, name}, nil
}

func (w *wiretap) Create(name string) (delta.File, error) {
	f, err := w.FS.Create(name)
	return w.tap(f, name, err)
}

func (w *wiretap) Open(name string) (delta.File, error) {
	f, err := w.FS.Open(name)
	return w.tap(f, name, err)
}

type tapped struct {
	delta.File
	w    *wiretap
	name string
}

func (f tapped) WriteAt(p []byte, off int64) (int, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for at := delta.Block; at < len(p); at += delta.Block { // after the header
		f.w.blocks++
		f.w.places[fmt.Sprint(f.name, off+int64(at))]++
		f.w.see(p[at:][:delta.Block])
	}
	return f.File.WriteAt(p, off)
}

// B8: over crashes, torn ends that are written over, recycled segments and several
// epochs nothing is encrypted twice with the same part of a keystream. Of known
// content the keystream is known; it must always be another one.
func TestKeystreamIsNeverUsedTwice(t *testing.T) {
	known := bytes.Repeat([]byte("known to whoever looks "), delta.Block)[:delta.Block]
	streams := map[string]int{}
	var plain, again int
	see := func(block []byte) {
		stream := bytes.Clone(block)
		for i := range stream {
			stream[i] ^= known[i]
		}
		for n := 0; n < delta.Block; n += 16 { // each block of AES
			streams[string(stream[n:n+16])]++
		}
		if bytes.Equal(block, known) {
			plain++
		}
	}
	r := rand.New(rand.NewPCG(8, 8))
	disk := crashfs.New(r)
	tap := &wiretap{FS: disk, places: map[string]int{}, see: see}
	id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
	cfg := delta.Config{
		Dir: "/journal", RunDir: "/run", FS: tap, SegmentSize: 64 << 10, Quota: 10 * 64 << 10,
		IdleWatermark: time.Hour, Prewrite: -1, MaxDelay: 1, Key: testKey(),
	}
	j, err := delta.Create(cfg, id, delta.State{Size: volumeSize})
	if err != nil {
		t.Fatal(err)
	}
	for opening := range 40 {
		if opening == 20 { // another journal of the volume, in the same place
			if err := j.Destroy(); err != nil {
				t.Fatal(err)
			}
			id.Epoch = ident.NewEpoch(2)
			if j, err = delta.Create(cfg, id, delta.State{Size: volumeSize}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for range 30 {
			off := r.Int64N(volumeSize/delta.Block-8) * delta.Block
			if err := j.Write(ctx, off, bytes.Repeat(known, 1+r.IntN(8)), false); err != nil {
				break
			}
			if j.Pressed() {
				layer, err := j.Seal(ctx, "", false)
				if err == nil {
					err = j.Retire(ctx, layer.Gen())
				}
				if err != nil {
					break
				}
			}
			if r.IntN(20) == 0 {
				disk.CrashAfter(1 + r.IntN(3))
			}
		}
		cancel()
		disk.Kill()
		j.Close()
		disk.PowerLoss()
		if j, err = delta.Open(cfg, id); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	for _, n := range streams {
		if n > 1 {
			again++
		}
	}
	over := 0
	for _, n := range tap.places {
		if n > 1 {
			over++
		}
	}
	if plain > 0 || again > 0 {
		t.Errorf("of %d blocks %d were not encrypted, and %d parts of the keystream were used again", tap.blocks, plain, again)
	}
	if over < 20 || tap.blocks < 1000 {
		t.Errorf("only %d blocks were written, %d places more than once: the test has seen nothing", tap.blocks, over)
	}
	t.Logf("%d blocks, %d places written more than once", tap.blocks, over)
}

// What an encrypted volume holds is nowhere in its journal, and it is in one that is
// not encrypted: so the test can see it.
func TestPlaintextIsNotOnTheDisk(t *testing.T) {
	secret := []byte("what nobody may read on the disk")
	for name, key := range map[string]*keys.Secret{"encrypted": testKey(), "not encrypted": nil} {
		found := 0
		disk := crashfs.New(rand.New(rand.NewPCG(1, 1)))
		tap := &wiretap{FS: disk, places: map[string]int{}, see: func(block []byte) { found += bytes.Count(block, secret) }}
		cfg := delta.Config{Dir: "/journal", FS: tap, SegmentSize: 64 << 10, Quota: 6 * 64 << 10, IdleWatermark: time.Hour, Prewrite: -1, Key: key}
		id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
		j, err := delta.Create(cfg, id, delta.State{Size: volumeSize})
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat(secret, 3*delta.Block/len(secret)) // 3 blocks
		const off = 5*delta.Block + 512
		if err := j.Write(t.Context(), off, want, true); err != nil {
			t.Fatal(err)
		}
		for range 2 { // as it was written, and as it was recovered
			got := make([]byte, len(want)-1024)
			if _, err := j.Read(t.Context(), got, off+512); err != nil || !bytes.Equal(got, want[512:len(want)-512]) {
				t.Errorf("%s: read: %v", name, err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if j, err = delta.Open(cfg, id); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
		if (found > 0) != (key == nil) {
			t.Errorf("%s: found %d times in the log", name, found)
		}
	}
}

// A wrong key is told from damage, and nothing is changed.
func TestWrongKeyIsRefused(t *testing.T) {
	for _, c := range []struct {
		name        string
		made, given *keys.Secret
		want        error
	}{
		{"another key", testKey(), testKey(), delta.ErrWrongKey},
		{"no key", testKey(), nil, delta.ErrNoKey},
		{"a key for a journal without", nil, testKey(), delta.ErrForeign},
	} {
		disk := crashfs.New(rand.New(rand.NewPCG(1, 1)))
		cfg := delta.Config{Dir: "/journal", FS: disk, SegmentSize: 64 << 10, Quota: 6 * 64 << 10, IdleWatermark: time.Hour, Prewrite: -1, Key: c.made}
		id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
		j, err := delta.Create(cfg, id, delta.State{Size: volumeSize})
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{7}, delta.Block)
		if err := j.Write(t.Context(), 0, want, true); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		cfg.Key = c.given
		if _, err := delta.Open(cfg, id); !errors.Is(err, c.want) || errors.Is(err, delta.ErrDamaged) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		cfg.Key = c.made
		if j, err = delta.Open(cfg, id); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, delta.Block)
		if _, err := j.Read(t.Context(), got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: afterwards %v", c.name, err)
		}
		j.Close()
	}
}
