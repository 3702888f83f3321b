package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// Export says what is written out as a raw image.
type Export struct {
	Content Content
	// Parallel is how many chunks are read at one time; each takes 16 MiB of
	// memory. Default 4.
	Parallel int
	// Progress, if set, is told how many bytes of the image are done. It is called
	// by one goroutine at a time.
	Progress func(done, total int64)
}

// Exported counts what an export has written.
type Exported struct {
	Size int64 // bytes of the image
	Data int64 // of these, written; a file's others are holes, which read as zeros
}

// ToFile writes the image to a file, holes as holes, or to a block device. The
// file appears under its name when it is whole and on stable storage; after a
// failure nothing is left of it. One that exists is replaced only with force.
func (x Export) ToFile(ctx context.Context, path string, force bool) (Exported, error) {
	result, err := x.toFile(ctx, path, force)
	if err != nil {
		return Exported{}, fmt.Errorf("export to %s: %w", path, err)
	}
	return result, nil
}

// ToStream writes the image to a pipe, zeros as zeros.
func (x Export) ToStream(ctx context.Context, w io.Writer) (Exported, error) {
	result, err := x.toStream(ctx, w)
	if err != nil {
		return Exported{}, fmt.Errorf("export: %w", err)
	}
	return result, nil
}

func (x Export) toFile(ctx context.Context, path string, force bool) (Exported, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && isDevice(info):
		return x.toDevice(ctx, path, force)
	case err == nil && !info.Mode().IsRegular():
		return Exported{}, errors.New("neither a file nor a block device")
	case err == nil && !force:
		return Exported{}, fs.ErrExist
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Exported{}, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return Exported{}, err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	written, err := x.toSparse(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return written, err
}

// toSparse writes the blocks of the image that are not zeros to an empty file.
func (x Export) toSparse(ctx context.Context, f *os.File) (Exported, error) {
	written := Exported{Size: x.Content.Size()}
	if err := f.Truncate(written.Size); err != nil {
		return written, err
	}
	err := x.inOrder(ctx, func(off int64, data []byte) error {
		for zero, run := range runs(data) {
			if !zero {
				if _, err := f.WriteAt(run, off); err != nil {
					return err
				}
				written.Data += int64(len(run))
			}
			off += int64(len(run))
		}
		return nil
	})
	return written, err
}

// toDevice overwrites a block device, which may hold anything.
func (x Export) toDevice(ctx context.Context, path string, force bool) (Exported, error) {
	if !force {
		return Exported{}, fmt.Errorf("a device: %w", fs.ErrExist)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_EXCL, 0) // exclusive: not if it is mounted
	if err != nil {
		return Exported{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Exported{}, err
	}
	if size < x.Content.Size() {
		return Exported{}, fmt.Errorf("the device has %d bytes, the image %d", size, x.Content.Size())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Exported{}, err
	}
	written, err := x.toStream(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	return written, err
}

func (x Export) toStream(ctx context.Context, w io.Writer) (Exported, error) {
	written := Exported{Size: x.Content.Size()}
	zeros := make([]byte, 1<<20)
	fill := func(to int64) error {
		for written.Data < to {
			n, err := w.Write(zeros[:min(to-written.Data, int64(len(zeros)))])
			written.Data += int64(n)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := x.inOrder(ctx, func(off int64, data []byte) error {
		if err := fill(off); err != nil {
			return err
		}
		n, err := w.Write(data)
		written.Data += int64(n)
		return err
	})
	if err == nil {
		err = fill(written.Size)
	}
	return written, err
}

// reading is a chunk on its way.
type reading struct {
	off  int64
	buf  []byte
	done chan struct{} // closed when buf is filled; never if the read failed
}

// inOrder reads the chunks of the content, several at a time, and hands them to
// write one after the other, cut to the image's size.
func (x Export) inOrder(ctx context.Context, write func(off int64, data []byte) error) error {
	size, parallel := x.Content.Size(), workers(x.Parallel)
	buffers := make(chan []byte, parallel)
	for range parallel {
		buffers <- nil // made when first used
	}
	queue := make(chan reading, parallel)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for chunk, err := range x.Content.Chunks(ctx) {
			if err != nil {
				return err
			}
			r := reading{off: int64(chunk) * chunks.Size, done: make(chan struct{})}
			select {
			case r.buf = <-buffers:
			case <-ctx.Done():
				return ctx.Err()
			}
			if r.buf == nil {
				r.buf = make([]byte, chunks.Size)
			}
			g.Go(func() error {
				if err := x.Content.ReadChunk(ctx, chunk, r.buf); err != nil {
					return err
				}
				close(r.done)
				return nil
			})
			queue <- r // has room: there are no more readings than buffers
		}
		return nil
	})
	g.Go(func() error {
		for r := range queue {
			select {
			case <-r.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			end := min(r.off+chunks.Size, size)
			if err := write(r.off, r.buf[:end-r.off]); err != nil {
				return err
			}
			x.progress(end)
			buffers <- r.buf
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	x.progress(size)
	return nil
}

func (x Export) progress(done int64) {
	if x.Progress != nil {
		x.Progress(done, x.Content.Size())
	}
}

// runs cuts data into runs of blocks that are all zeros and runs of others.
func runs(data []byte) func(yield func(zero bool, run []byte) bool) {
	return func(yield func(bool, []byte) bool) {
		for len(data) > 0 {
			zero, n := chunks.IsZero(data[:min(chunks.BlockSize, len(data))]), 0
			for n < len(data) {
				next := min(n+chunks.BlockSize, len(data))
				if n > 0 && chunks.IsZero(data[n:next]) != zero {
					break
				}
				n = next
			}
			if !yield(zero, data[:n]) {
				return
			}
			data = data[n:]
		}
	}
}

// workers is how many chunks are on their way at one time.
func workers(parallel int) int {
	if parallel <= 0 {
		return 4
	}
	return parallel
}
