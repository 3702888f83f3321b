package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// tree is the content of a directory: the SHA-256 of each file by its path.
type tree map[string][sha256.Size]byte

// plant makes files of pseudo-random content in dir.
func plant(dir string, files int, bytes int64, seed uint64) (tree, error) {
	known := make(tree)
	for i := range files {
		name := fmt.Sprintf("d%d/file%02d", i%4, i)
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], seed+uint64(i))
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		_, err = io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8(key), bytes)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		known[name] = [sha256.Size]byte(sum.Sum(nil))
	}
	return known, nil
}

// verify reads the given files below dir and compares.
func (known tree) verify(dir string, names ...string) (read int64, err error) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return read, err
		}
		if sha256.Sum256(b) != known[name] {
			return read, fmt.Errorf("%s is not what was written", name)
		}
		read += int64(len(b))
	}
	return read, nil
}

func (known tree) names() []string {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	return names
}

// writer appends numbered, synced records to a file, as a database does to its
// log, until it is stopped. It is the pod of the demo.
type writer struct {
	path    string
	synced  atomic.Int64 // records that fsync has returned for
	longest atomic.Int64 // nanoseconds that one record has taken
	stop    context.CancelFunc
	done    chan error
}

const recordSize = 4096

// record is the content of record n: its number over and over.
func record(n int64) []byte {
	b := make([]byte, recordSize)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(n))
	}
	return b
}

func startWriter(ctx context.Context, path string) (*writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &writer{path: path, stop: stop, done: make(chan error, 1)}
	go func() { w.done <- errors.Join(w.write(ctx, f), f.Close()) }()
	return w, nil
}

func (w *writer) write(ctx context.Context, f *os.File) error {
	for n := int64(0); ctx.Err() == nil; n++ {
		began := time.Now()
		if _, err := f.Write(record(n)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.synced.Store(n + 1)
		if took := int64(time.Since(began)); took > w.longest.Load() {
			w.longest.Store(took)
		}
	}
	return nil
}

// reached waits until n more records are synced.
func (w *writer) reached(ctx context.Context, n int64) error {
	for want := w.synced.Load() + n; w.synced.Load() < want; {
		select {
		case err := <-w.done:
			w.done <- err
			return errors.Join(errors.New("the writer has ended"), err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// end stops the writer and returns its error.
func (w *writer) end() error {
	w.stop()
	return <-w.done
}

// records counts the whole, right records that a file starts with. What follows
// them must be nothing: a mixture would be an order of writes that never was.
func records(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for ; len(b) >= recordSize; b = b[recordSize:] {
		if !bytes.Equal(b[:recordSize], record(n)) {
			return n, fmt.Errorf("%s: record %d is not what was written", path, n)
		}
		n++
	}
	return n, nil
}
