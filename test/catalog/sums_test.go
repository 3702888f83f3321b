package catalog_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/image"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// sum is the SHA-256 of a chunk.
type sum = [sha256.Size]byte

// sums are the chunks of a disk that are not all zeros.
type sums map[uint64]sum

// sumsOf reads a file, and returns the checksum of all of it as well.
func sumsOf(path string) (sums, sum, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, sum{}, err
	}
	defer f.Close()
	s, whole, r, buf := sums{}, sha256.New(), bufio.NewReaderSize(f, 1<<20), make([]byte, chunks.Size)
	for chunk := uint64(0); ; chunk++ {
		n, err := io.ReadFull(r, buf)
		if err == io.EOF {
			return s, sum(whole.Sum(nil)), nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, sum{}, err
		}
		whole.Write(buf[:n])
		clear(buf[n:])
		s.set(chunk, buf)
	}
}

// set notes the content of a chunk.
func (s sums) set(chunk uint64, data []byte) {
	if chunks.IsZero(data) {
		delete(s, chunk)
	} else {
		s[chunk] = sha256.Sum256(data)
	}
}

// reading reads disks as they are in Swift, every byte that they consist of. What
// several of them have in common is read once. Between two times at which everything is
// read anew, an object that was read before is only looked at: it must be there, with
// the ETag that it had.
type reading struct {
	world *world
	mu    sync.Mutex
	known map[string]*sum               // by chunk and table entry; nil: zeros
	etags map[snapshots.Location]string // of what was read
	done  map[string]bool               // entries that were looked at this time
	bytes int64                         // of chunks that were read
	disks int
}

// begin begins to look at what there is now.
func (r *reading) begin(anew bool) {
	r.done = map[string]bool{}
	if anew || r.known == nil {
		r.known, r.etags = map[string]*sum{}, map[snapshots.Location]string{}
	}
}

// recorded checks the disk of a root that the authority has recorded.
func (r *reading) recorded(name string, at *authority.Root, want sums) {
	r.world.t.Helper()
	if at == nil {
		r.world.t.Fatalf("%s has no root", name)
	}
	ref := snapshots.Ref{Epoch: at.Epoch, Gen: at.Generation, Hash: snapshots.Hash(at.Hash)}
	root, err := snapshots.LoadRoot(r.world.ctx, r.world.store, at.Container, ref)
	r.world.check(err)
	r.disk(name, root, want)
}

// disk checks that a root is that of the disk that is wanted.
func (r *reading) disk(name string, root *snapshots.Root, want sums) {
	r.world.t.Helper()
	have, err := r.sums(r.world.ctx, root)
	if err != nil {
		r.world.t.Fatalf("%s: %v", name, err)
	}
	if maps.Equal(have, want) {
		r.disks++
		return
	}
	for chunk := range 1 + uint64(root.State.Size)/chunks.Size {
		if have[chunk] != want[chunk] {
			r.world.t.Errorf("%s, chunk %d: %x, want %x", name, chunk, have[chunk], want[chunk])
		}
	}
	r.world.t.FailNow()
}

func (r *reading) sums(ctx context.Context, root *snapshots.Root) (sums, error) {
	version, all := image.NewVersion(r.world.store, root, 0, nil), sums{}
	buffers := make(chan []byte, 6)
	for range cap(buffers) {
		buffers <- nil // made when first used
	}
	var failure error
	g, ctx := errgroup.WithContext(ctx)
	for e, err := range snapshots.OpenTable(r.world.store, root).Entries(ctx) {
		if err != nil {
			failure = err
			break
		}
		buf := <-buffers
		g.Go(func() error {
			defer func() { buffers <- buf }()
			one, err := r.chunk(ctx, version, e, &buf)
			if err != nil {
				return fmt.Errorf("chunk %d: %w", e.Chunk, err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if one != nil {
				all[e.Chunk] = *one
			}
			return nil
		})
	}
	return all, errors.Join(failure, g.Wait())
}

// chunk returns the checksum of a chunk, nil if it is all zeros.
func (r *reading) chunk(ctx context.Context, version *image.Version, e snapshots.ChunkEntry, buf *[]byte) (*sum, error) {
	key := fmt.Sprintf("%+v", e)
	r.mu.Lock()
	known, read := r.known[key]
	done := r.done[key]
	r.mu.Unlock()
	if done {
		return known, nil
	}
	if !read {
		if *buf == nil {
			*buf = make([]byte, chunks.Size)
		}
		if err := version.ReadChunk(ctx, e.Chunk, *buf); err != nil {
			return nil, err
		}
		one := sums{}
		one.set(e.Chunk, *buf)
		if s, ok := one[e.Chunk]; ok {
			known = &s
		}
	}
	if err := r.look(ctx, e); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[key], r.done[key] = known, true
	if !read {
		r.bytes += chunks.Size
	}
	return known, nil
}

// look checks that the objects of an entry are there and what they were.
func (r *reading) look(ctx context.Context, e snapshots.ChunkEntry) error {
	var objects []snapshots.Location
	if !e.Base.IsZero() {
		objects = append(objects, e.Base.Location(e.Chunk))
	}
	for _, p := range e.Patches {
		objects = append(objects, p.Location())
	}
	for _, at := range objects {
		info, err := r.world.store.Head(ctx, at.Container, at.Name, swift.HeadOptions{Newest: true})
		if err != nil {
			return err
		}
		r.mu.Lock()
		was, known := r.etags[at]
		r.etags[at] = info.ETag
		r.mu.Unlock()
		if known && was != info.ETag {
			return fmt.Errorf("%s has ETag %s, had %s", at, info.ETag, was)
		}
	}
	return nil
}
