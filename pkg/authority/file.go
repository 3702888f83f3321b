package authority

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// File is the authority of a standalone installation: a directory on a local
// disk that any number of processes of one machine share.
//
//	format               what this directory is, and the version of its layout
//	locks/<table>.<n>    flocked: shared to read a record, exclusive to change it
//	<table>/<key>.json   a record
//	<table>/.<key>.tmp   the next state of a record; never read
//
// A change is written to the temporary file, synced, renamed and the directory
// synced, all under the lock of its key: a reader sees only what power loss
// cannot take back, and kill -9 at any point leaves the old state or the new one.
type File struct {
	volumes   *fileTable[Volume]
	snapshots *fileTable[Snapshot]
	claims    *fileTable[Claim]
	pins      *fileTable[Pin]
	givenUp   *fileTable[GivenUp]
}

var _ Authority = (*File)(nil)

// Volumes implements [Authority].
func (f *File) Volumes() Table[Volume] { return f.volumes }

// Snapshots implements [Authority].
func (f *File) Snapshots() Table[Snapshot] { return f.snapshots }

// Claims implements [Authority].
func (f *File) Claims() Table[Claim] { return f.claims }

// Pins implements [Authority].
func (f *File) Pins() Table[Pin] { return f.pins }

// GivenUp holds the nodes that an administrator has given up, by [NodeKey]; a
// cluster with a scheduler of its own says that of its nodes itself.
func (f *File) GivenUp() Table[GivenUp] { return f.givenUp }

const (
	layout     = "csi-swiftblock authority 1\n"
	layoutFile = "format"
	lockDir    = "locks"
	// lockStripes bounds the lock files of a table; keys share them by hash.
	lockStripes = 16
)

// OpenFile opens the authority in dir, and makes it in a directory that is
// absent or empty. A directory that holds anything else is refused.
func OpenFile(dir string) (*File, error) { return openFile(dir, disk{}) }

func openFile(dir string, d filesystem) (*File, error) {
	if err := prepare(dir, d); err != nil {
		return nil, fmt.Errorf("authority %s: %w", dir, err)
	}
	var failed atomic.Pointer[error]
	f := &File{
		volumes:   &fileTable[Volume]{name: "volumes", root: dir, disk: d, failed: &failed},
		snapshots: &fileTable[Snapshot]{name: "snapshots", root: dir, disk: d, failed: &failed},
		claims:    &fileTable[Claim]{name: "claims", root: dir, disk: d, failed: &failed},
		pins:      &fileTable[Pin]{name: "pins", root: dir, disk: d, failed: &failed},
		givenUp:   &fileTable[GivenUp]{name: "given-up", root: dir, disk: d, failed: &failed},
	}
	if err := errors.Join(f.volumes.open(), f.snapshots.open(), f.claims.open(), f.pins.open(), f.givenUp.open()); err != nil {
		return nil, err
	}
	return f, nil
}

// prepare checks or makes the directory's layout, one process at a time.
func prepare(dir string, d filesystem) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := flock(context.Background(), dir, false)
	if err != nil {
		return err
	}
	defer unlock()
	switch have, err := os.ReadFile(filepath.Join(dir, layoutFile)); {
	case err == nil && string(have) == layout:
	case err == nil:
		return fmt.Errorf("%w: layout %.40q, want %q", ErrDamaged, have, layout)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		temp := filepath.Join(dir, layoutFile+tempSuffix)
		names, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(names) > 1 || len(names) == 1 && names[0].Name() != filepath.Base(temp) {
			return fmt.Errorf("%w: the directory has no %q file, but is not empty", ErrDamaged, layoutFile)
		}
		if err := d.Write(temp, []byte(layout)); err != nil {
			return err
		}
		if err := d.Rename(temp, filepath.Join(dir, layoutFile)); err != nil {
			return err
		}
		if err := d.SyncDir(dir); err != nil { // before anything else is in it
			return err
		}
	}
	for _, sub := range []string{lockDir, "volumes", "snapshots", "claims", "pins", "given-up"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	return errors.Join(d.SyncDir(dir), d.SyncDir(filepath.Dir(dir)))
}

// fileTable is one table of a File.
type fileTable[T any] struct {
	name string
	root string // the authority's directory
	disk filesystem
	// failed, shared by the tables, is set when a directory could not be synced:
	// from then on what a reader sees may not be what is on the disk.
	failed *atomic.Pointer[error]
	// syncing is the sync of the directory: changes that wait for one share it.
	syncing gather
}

func (t *fileTable[T]) dir() string            { return filepath.Join(t.root, t.name) }
func (t *fileTable[T]) path(key string) string { return filepath.Join(t.dir(), key+recordSuffix) }
func (t *fileTable[T]) temp(key string) string { return filepath.Join(t.dir(), "."+key+tempSuffix) }

const (
	recordSuffix = ".json"
	tempSuffix   = ".tmp"
)

// open makes durable what a process that was killed may have renamed and not
// synced, and removes temporary files that nobody is writing.
func (t *fileTable[T]) open() error {
	if err := t.disk.SyncDir(t.dir()); err != nil {
		return err
	}
	temps, err := filepath.Glob(t.temp("*"))
	if err != nil {
		return err
	}
	for _, temp := range temps {
		base := filepath.Base(temp)
		unlock, err := t.lock(context.Background(), base[1:len(base)-len(tempSuffix)], false)
		if err != nil {
			return err
		}
		err = t.disk.Remove(temp)
		unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lock takes the lock of a key, after checking that the key is one.
func (t *fileTable[T]) lock(ctx context.Context, key string, shared bool) (unlock func(), err error) {
	if err := errors.Join(CheckKey(key), t.usable()); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return flock(ctx, filepath.Join(t.root, lockDir, fmt.Sprintf("%s.%d", t.name, h.Sum32()%lockStripes)), shared)
}

// usable reports why the authority stopped, if it did.
func (t *fileTable[T]) usable() error {
	if failed := t.failed.Load(); failed != nil {
		return fmt.Errorf("the authority stopped: %w", *failed)
	}
	return nil
}

// Create implements [Table].
func (t *fileTable[T]) Create(ctx context.Context, key string, v T) (Version, error) {
	return t.change(ctx, "create", key, func(_ Version, err error) (*T, error) {
		switch {
		case errors.Is(err, ErrNotFound):
			return &v, nil
		case err == nil:
			return nil, ErrExists
		}
		return nil, err
	})
}

// Update implements [Table].
func (t *fileTable[T]) Update(ctx context.Context, key string, v T, old Version) (Version, error) {
	return t.change(ctx, "update", key, func(have Version, err error) (*T, error) {
		return &v, matches(have, old, err)
	})
}

// Delete implements [Table].
func (t *fileTable[T]) Delete(ctx context.Context, key string, old Version) error {
	_, err := t.change(ctx, "delete", key, func(have Version, err error) (*T, error) {
		return nil, matches(have, old, err)
	})
	return err
}

// matches decides on a compare-and-swap by what reading the record returned.
func matches(have, old Version, err error) error {
	if errors.Is(err, ErrNotFound) || err == nil && have != old {
		return ErrConflict
	}
	return err
}

// change reads the record under the key's exclusive lock and stores, or for nil
// removes, what decide returns.
func (t *fileTable[T]) change(ctx context.Context, verb, key string, decide func(Version, error) (*T, error)) (Version, error) {
	unlock, err := t.lock(ctx, key, false)
	if err != nil {
		return "", t.wrap(verb, key, err)
	}
	defer unlock()
	_, have, err := t.read(key)
	next, err := decide(have, err)
	if err != nil {
		return "", t.wrap(verb, key, err)
	}
	var version Version
	if next == nil {
		err = t.disk.Remove(t.path(key))
	} else {
		version, err = t.write(key, *next)
	}
	if err != nil {
		return "", t.wrap(verb, key, err)
	}
	if err := t.syncing.do(func() error { return t.disk.SyncDir(t.dir()) }); err != nil {
		err = t.wrap(verb, key, err)
		t.failed.CompareAndSwap(nil, &err)
		return "", err
	}
	return version, nil
}

// write replaces the record; the caller syncs the directory.
func (t *fileTable[T]) write(key string, v T) (Version, error) {
	version := newVersion()
	data, err := encodeRecord(t.name, key, version, v)
	if err != nil {
		return "", err
	}
	temp := t.temp(key)
	err = t.disk.Write(temp, data)
	if err == nil {
		err = t.disk.Rename(temp, t.path(key))
	}
	if err != nil {
		t.disk.Remove(temp) // else the next write of this key, or open, does
		return "", err
	}
	return version, nil
}

// read reads the record under a lock of its key.
func (t *fileTable[T]) read(key string) (v T, version Version, err error) {
	data, err := os.ReadFile(t.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return v, "", ErrNotFound
	}
	if err != nil {
		return v, "", err
	}
	version, err = decodeRecord(t.name, key, data, &v)
	return v, version, err
}

// Get implements [Table].
func (t *fileTable[T]) Get(ctx context.Context, key string) (v T, version Version, err error) {
	unlock, err := t.lock(ctx, key, true)
	if err != nil {
		return v, "", t.wrap("get", key, err)
	}
	defer unlock()
	v, version, err = t.read(key)
	return v, version, t.wrap("get", key, err)
}

// List implements [Table].
func (t *fileTable[T]) List(ctx context.Context, from Place, limit int) (rows []Row[T], next Place, err error) {
	after, err := from.Key()
	if err != nil {
		return nil, "", fmt.Errorf("authority: list %s: %w", t.name, err)
	}
	keys, err := t.keys(after)
	if err = errors.Join(err, t.usable(), ctx.Err()); err != nil {
		return nil, "", fmt.Errorf("authority: list %s: %w", t.name, err)
	}
	for _, key := range keys {
		if len(rows) >= limit {
			return rows, After(rows[len(rows)-1].Key), nil
		}
		v, version, err := t.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue // deleted since the directory was read
		}
		if err != nil {
			return nil, "", err
		}
		rows = append(rows, Row[T]{key, version, v})
	}
	return rows, Beginning, nil
}

// wrap says which record an error is about.
func (t *fileTable[T]) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("authority: %s %s/%s: %w", verb, t.name, key, err)
}
