package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

const maxSize = snapshots.MaxSize // bytes of a volume, and so of an image

// Target is a volume that nobody sees yet, made to be filled by one import.
type Target struct {
	Volume    ident.Volume
	Container string
	Size      int64 // bytes, at least what was asked for
	Epoch     ident.Epoch
	Key       chunks.Key // that the volume's objects are encrypted with, if any
}

// Volumes keeps the records of volumes.
type Volumes interface {
	// Begin makes a volume, or goes on with one whose import was interrupted: in
	// the same epoch. If it fails amid that, it returns the volume with the error.
	Begin(ctx context.Context, name string, size int64) (Target, error)
	// Complete makes the volume visible, with root as its head.
	Complete(ctx context.Context, t Target, root snapshots.Ref) error
	// Abort removes the volume.
	Abort(ctx context.Context, t Target) error
}

// Config says what becomes which volume.
type Config struct {
	Store   swift.Store
	Volumes Volumes

	Image *Image
	Name  string // of the volume
	Size  int64  // bytes of the volume at least; 0: the image's

	// Keep leaves what is stored where it is after a failure that a repetition may
	// not meet, for that repetition to use.
	Keep bool

	Parallel int // chunks on their way at one time, each takes 16 MiB of memory. Default 4.

	// Progress, if set, is told how many bytes of the image are done. It is called
	// by one goroutine at a time.
	Progress func(done, total int64)
}

// Result is what an import has made.
type Result struct {
	Volume  ident.Volume
	Size    int64 // bytes of the volume
	Objects int   // stored, the root included
	Bytes   int64 // of these objects
	Reused  int   // objects that an interrupted import had stored
}

// ErrInterrupted is an import that failed with what it has stored left in place.
// Nobody sees the volume; an import of the same name and size goes on with it.
var ErrInterrupted = errors.New("interrupted")

// Import makes a volume of an image. If it fails, nothing is left of the volume,
// except with [ErrInterrupted]: when the store is away, or Config.Keep is set. That,
// and an import whose process died, the next one of the same name and size takes
// up, see leftovers.
func Import(ctx context.Context, c Config) (Result, error) {
	result, err := c.run(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("import of %s as volume %q: %w", c.Image.Path, c.Name, err)
	}
	return result, nil
}

func (c Config) run(ctx context.Context) (Result, error) {
	img := c.Image
	if img.Size > maxSize {
		return Result{}, refuse(img.Path, "%d bytes, a volume has at most %d", img.Size, int64(maxSize))
	}
	target, err := c.Volumes.Begin(ctx, c.Name, max(img.Size, c.Size))
	switch {
	case err != nil && target.Volume != "":
		return Result{}, c.giveUp(ctx, target, err)
	case err != nil:
		return Result{}, err
	}
	i := &importer{
		config: c, image: img, target: target,
		origin:  snapshots.Origin{Container: target.Container, Epoch: target.Epoch, Open: ident.NewOpen()},
		entries: map[uint64]snapshots.Entry{},
	}
	if err := i.fill(ctx); err != nil {
		return Result{}, c.giveUp(ctx, target, err)
	}
	return Result{Volume: target.Volume, Size: target.Size, Objects: i.objects, Bytes: i.bytes, Reused: i.reused}, nil
}

// giveUp removes what a failed import has made, unless another one may use it.
func (c Config) giveUp(ctx context.Context, target Target, failure error) error {
	switch {
	case errors.Is(failure, errTwice):
		return failure // the volume is the other's to complete
	case c.Keep || errors.Is(failure, swift.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrInterrupted, failure)
	}
	// The context may be what failed, yet nothing is to stay behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	return errors.Join(failure, c.Volumes.Abort(ctx, target))
}

const abortLimit = 30 * time.Second

var errTwice = errors.New("another import of that name has filled the volume meanwhile: wait for it, or use another name")

// importer is one import under way.
type importer struct {
	config Config
	image  *Image
	target Target
	origin snapshots.Origin

	mu      sync.Mutex
	entries map[uint64]snapshots.Entry
	objects int
	reused  int   // of objects
	bytes   int64 // of objects
	done    int64 // bytes of the image
}

// fill stores the chunks, the table and the root, and completes the volume.
func (i *importer) fill(ctx context.Context) error {
	if i.target.Size < i.image.Size {
		return fmt.Errorf("volume %s has %d bytes, the image %d", i.target.Volume, i.target.Size, i.image.Size)
	}
	gen, err := i.generation(ctx)
	if err != nil {
		return err
	}
	if err := i.storeChunks(ctx, gen); err != nil {
		return err
	}
	if err := i.image.unchanged(); err != nil {
		return err
	}
	update, err := snapshots.BlankTable().Update(ctx, snapshots.Change{
		Origin: i.origin, Gen: gen, Key: i.target.Key.ID, Entries: i.entries,
		State: snapshots.State{
			Size:   i.target.Size,
			Mark:   snapshots.Formatted, // the content is the user's: no mkfs, ever
			Clean:  true,
			Sealed: time.Now().Truncate(time.Millisecond),
		},
	})
	if err != nil {
		return err
	}
	for _, page := range update.Pages {
		if err := i.put(ctx, page.Location, page.Body); err != nil {
			return err
		}
	}
	if err := i.putRoot(ctx, update.RootObject); err != nil {
		return err
	}
	return i.config.Volumes.Complete(ctx, i.target, update.Root.Ref)
}

// generation finds the number of the root. All names but a root's carry the
// opening; an import that died after it put its root leaves one behind, and this
// one's takes the next number.
func (i *importer) generation(ctx context.Context) (uint64, error) {
	for gen := uint64(1); ; gen++ {
		name := chunks.RootName(i.origin.Epoch, gen)
		_, err := i.config.Store.Head(ctx, i.origin.Container, name, swift.HeadOptions{Newest: true})
		if errors.Is(err, swift.ErrNotFound) {
			return gen, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// job is a chunk with the parts of it, counted from its first byte, that may hold
// something else than zeros, and what earlier attempts have stored of it.
type job struct {
	chunk   uint64
	parts   []Span
	earlier []leftover
}

// storeChunks stores every chunk that is not all zeros.
func (i *importer) storeChunks(ctx context.Context, gen uint64) error {
	parallel := workers(i.config.Parallel)
	buffers := make(chan []byte, parallel)
	for range parallel {
		buffers <- nil // made when first used
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	earlier := newLeftovers(i.config.Store, i.target)
	next := uint64(0) // chunks before it are under way, or zeros
	for j, err := range i.jobs() {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err == nil {
			j.earlier, err = earlier.of(ctx, j.chunk)
		}
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		i.advance(next, j.chunk)
		next = j.chunk + 1
		g.Go(func() error {
			buf := <-buffers
			if buf == nil {
				buf = make([]byte, chunks.Size)
			}
			defer func() { buffers <- buf }()
			if err := i.storeChunk(ctx, j, gen, buf); err != nil {
				return err
			}
			i.advance(j.chunk, j.chunk+1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	i.advance(next, uint64((i.image.Size+chunks.Size-1)/chunks.Size))
	return nil
}

// jobs groups the image's spans by chunk.
func (i *importer) jobs() func(func(job, error) bool) {
	return func(yield func(job, error) bool) {
		var j job
		for s, err := range i.image.Spans() {
			if err != nil {
				yield(job{}, err)
				return
			}
			for s.Len > 0 {
				chunk, off := uint64(s.Off/chunks.Size), s.Off%chunks.Size
				n := min(s.Len, chunks.Size-off)
				if chunk != j.chunk && len(j.parts) > 0 {
					if !yield(j, nil) {
						return
					}
					j.parts = nil
				}
				j.chunk = chunk
				j.parts = append(j.parts, Span{off, n})
				s = Span{s.Off + n, s.Len - n}
				if off+n == chunks.Size { // nothing to wait for: of a stream the next span may take long
					if !yield(j, nil) {
						return
					}
					j.parts = nil
				}
			}
		}
		if len(j.parts) > 0 {
			yield(j, nil)
		}
	}
}

// storeChunk reads and stores one chunk, with buf to work in.
func (i *importer) storeChunk(ctx context.Context, j job, gen uint64, buf []byte) error {
	if j.parts[0].Len < chunks.Size { // the buffer holds another chunk
		clear(buf)
	}
	for _, p := range j.parts {
		if err := i.image.ReadFull(buf[p.Off:p.Off+p.Len], int64(j.chunk)*chunks.Size+p.Off); err != nil {
			return err
		}
	}
	if chunks.IsZero(buf) {
		return nil
	}
	options := chunks.Options{Key: i.target.Key}
	earlier := j.earlier
	if i.target.Key.ID != 0 {
		earlier = nil // no two encrypted objects are the same
	}
	for _, l := range earlier {
		if same, err := l.reuse(ctx, i.config.Store, j.chunk, buf, options); err != nil {
			return err
		} else if same {
			i.count(l.info.Size, 1)
			i.enter(j.chunk, l.ref)
			return nil
		}
	}
	ref := snapshots.ChunkRef{Origin: i.origin, Gen: gen}
	at := ref.Location(j.chunk)
	object, err := chunks.EncodeChunk(at, buf, options)
	if err != nil {
		return err
	}
	if err := i.put(ctx, at, object); err != nil {
		return err
	}
	i.enter(j.chunk, ref)
	return nil
}

// enter puts a stored chunk into the table.
func (i *importer) enter(chunk uint64, ref snapshots.ChunkRef) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.entries[chunk] = snapshots.Entry{Base: ref}
}

// put stores an object and counts it.
func (i *importer) put(ctx context.Context, at snapshots.Location, body []byte) error {
	if _, err := i.config.Store.Put(ctx, at.Container, at.Name, body, swift.PutOptions{}); err != nil {
		return err
	}
	i.count(int64(len(body)), 0)
	return nil
}

// count counts an object of the import, and whether it was there already.
func (i *importer) count(bytes int64, reused int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.objects++
	i.bytes += bytes
	i.reused += reused
}

// putRoot publishes the root (R2) and counts it.
func (i *importer) putRoot(ctx context.Context, root snapshots.Object) error {
	err := snapshots.PutRoot(ctx, i.config.Store, root)
	switch {
	case errors.Is(err, snapshots.ErrRootTaken):
		return errTwice
	case err == nil:
		i.count(int64(len(root.Body)), 0)
	}
	return err
}

// advance counts the bytes of the image in the chunks from first up to, and
// without, end.
func (i *importer) advance(first, end uint64) {
	if first >= end {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.done += min(int64(end)*chunks.Size, i.image.Size) - int64(first)*chunks.Size
	if i.config.Progress != nil {
		i.config.Progress(i.done, i.image.Size)
	}
}
