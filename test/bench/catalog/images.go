package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// picture is an image file, whole and in pieces of a chunk each.
type picture struct {
	file   string
	pieces []string
	size   int64
	sum    [sha256.Size]byte
}

// newPicture makes an image whose bytes compress by about half, as those of a
// distribution's do, or not at all.
func newPicture(b *rig.Bench, compressible bool) (*picture, error) {
	p := &picture{file: b.Path("image.raw"), size: rig.Pick[int64](b, gib, 64*mib)}
	dir := b.Path("pieces")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	whole, err := os.Create(p.file)
	if err != nil {
		return nil, err
	}
	defer whole.Close()
	hash := sha256.New()
	for i := range uint64(p.size / chunks.Size) {
		body := rig.Noise(1000+i, chunks.Size)
		for off := 0; compressible && off < len(body); off += 4 * kib {
			for at := off; at < off+2*kib; at++ {
				body[at] = byte(at >> 6)
			}
		}
		hash.Write(body)
		if _, err := whole.Write(body); err != nil {
			return nil, err
		}
		piece := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(piece, body, 0o666); err != nil {
			return nil, err
		}
		p.pieces = append(p.pieces, piece)
	}
	copy(p.sum[:], hash.Sum(nil))
	return p, whole.Sync()
}

// imports measures `image import` against curls that store the same bytes.
func imports(b *rig.Bench) error {
	return errors.Join(importsOf(b, "that does not compress", false), importsOf(b, "that compresses by half", true))
}

func importsOf(b *rig.Bench, what string, compressible bool) error {
	p, err := newPicture(b, compressible)
	if err != nil {
		return err
	}
	defer p.remove()
	s, err := newSite(b, b.Main)
	if err != nil {
		return err
	}
	curl, err := rig.NewCurl(b, b.Main)
	if err != nil {
		return err
	}
	ours, peer, err := rig.Turns(5, func() (float64, error) {
		rate, container, err := s.imported(p, "image")
		return rate, errors.Join(err, s.empty(container), s.forget("image"))
	}, func() (float64, error) {
		container, err := b.Main.Container(b.Ctx)
		if err != nil {
			return 0, err
		}
		t, err := rig.Seconds(func() error { return curl.Store(b, p.pieces, chunks.Size, container) })
		return float64(p.size) / t / mib, errors.Join(err, s.empty(container))
	})
	if err != nil {
		return err
	}
	b.Compare(fmt.Sprintf("`image import` of %d MiB %s, %s", p.size/mib, what, b.Main.Name), "MiB/s",
		ours, fmt.Sprintf("%d parallel curls", rig.CurlProcesses), peer, report.RatioAtLeast(0.8))
	return nil
}

// imported imports an image and returns how many MiB a second that were, and the
// container that they are in.
func (s *site) imported(p *picture, name string) (rate float64, container string, err error) {
	var v struct {
		Volume ident.Volume
		Size   int64
	}
	t, err := s.json(&v, "image", "import", "--name", name, p.file)
	if err == nil && v.Size != p.size {
		err = fmt.Errorf("a volume of %d bytes", v.Size)
	}
	container = s.prefix + string(v.Volume)
	s.store.Remove(container)
	return float64(p.size) / t.Seconds / mib, container, err
}

// forget deletes a volume, whose objects are removed by another way.
func (s *site) forget(name string) error {
	_, err := s.run(io.Discard, "volume", "rm", name)
	return err
}

// empty removes what is in a container, so that the disk does not fill up.
func (s *site) empty(container string) error {
	rows, err := s.store.List(s.Ctx, container, "", "", 10000)
	if err != nil {
		return err
	}
	var names []string
	for _, row := range rows {
		names = append(names, row.Name)
	}
	return s.store.DeleteMany(s.Ctx, container, names)
}

// exports measures `image export` against curls that fetch the same objects: to
// files that are synced, and to nowhere.
func exports(b *rig.Bench) error {
	p, err := newPicture(b, false)
	if err != nil {
		return err
	}
	defer p.remove()
	s, err := newSite(b, b.Main)
	if err != nil {
		return err
	}
	curl, err := rig.NewCurl(b, b.Main)
	if err != nil {
		return err
	}
	_, container, err := s.imported(p, "image")
	if err != nil {
		return err
	}
	rows, err := s.store.List(b.Ctx, container, chunks.ChunkPrefix, "", 10000)
	if err != nil {
		return err
	}
	var objects []rig.Stored
	for _, row := range rows {
		objects = append(objects, rig.Stored{At: snapshots.Location{Container: container, Name: row.Name}, Size: int(row.Size)})
	}
	peerName := fmt.Sprintf("%d parallel curls", rig.CurlProcesses)
	rate := func(seconds float64) float64 { return float64(p.size) / seconds / mib }

	ours, peer, err := rig.Turns(5, func() (float64, error) {
		file := b.Path("exported.raw")
		defer os.Remove(file)
		t, err := s.run(io.Discard, "image", "export", "image", file)
		return rate(t.Seconds), errors.Join(err, p.same(file))
	}, func() (float64, error) {
		dir := b.Path("fetched")
		defer os.RemoveAll(dir)
		if err := os.Mkdir(dir, 0o777); err != nil {
			return 0, err
		}
		t, err := rig.Seconds(func() error {
			return errors.Join(curl.Fetch(b, objects, dir), syncFiles(dir))
		})
		return rate(t), err
	})
	if err != nil {
		return err
	}
	b.Compare(fmt.Sprintf("`image export` of %d MiB to a file, synced, %s", p.size/mib, b.Main.Name), "MiB/s",
		ours, peerName+", to files, synced", peer, report.RatioAtLeast(0.8))

	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer nowhere.Close()
	ours, peer, err = rig.Turns(5, func() (float64, error) {
		t, err := s.run(nowhere, "image", "export", "image")
		return rate(t.Seconds), err
	}, func() (float64, error) {
		t, err := rig.Seconds(func() error { return curl.Fetch(b, objects, "") })
		return rate(t), err
	})
	if err != nil {
		return err
	}
	b.Compare(fmt.Sprintf("`image export` of %d MiB to nowhere, %s", p.size/mib, b.Main.Name), "MiB/s",
		ours, peerName+", to nowhere", peer, report.RatioAtLeast(0.8))
	return nil
}

// remove gives its space back.
func (p *picture) remove() {
	os.Remove(p.file)
	os.RemoveAll(filepath.Dir(p.pieces[0]))
}

// same holds a file to the image's bytes.
func (p *picture) same(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if !slices.Equal(hash.Sum(nil), p.sum[:]) {
		return errors.New("other bytes came out than went in")
	}
	return nil
}

func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	return rig.Workers(rig.CurlProcesses, func(i int) error {
		for ; i < len(entries); i += rig.CurlProcesses {
			f, err := os.Open(filepath.Join(dir, entries[i].Name()))
			if err != nil {
				return err
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}
