package embedded

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

var (
	errNoContainer = errors.New("no such container")
	errNoObject    = errors.New("no such object")
	errExists      = errors.New("object exists")
	errNotEmpty    = errors.New("container is not empty")
	errETag        = errors.New("the body does not have the given ETag")
	errCutShort    = errors.New("the body was cut short")
)

// disk holds containers as directories and objects as files, and an index of
// their names and headers in memory. Every change is on stable storage when the
// call returns, and nothing is ever seen in part: a file is written aside, synced
// and then renamed.
type disk struct {
	root   string
	noSync bool
	lock   *os.File // flocked while the store is open
	seed   maphash.Seed
	making [64]sync.Mutex // by hash of a container's name: held from check to index

	mu         sync.RWMutex
	containers map[string]*container
}

// container is one directory of objects.
type container struct {
	name, dir string
	seed      maphash.Seed
	commits   [64]sync.Mutex // by hash of the object's name: held from check to index

	mu      sync.RWMutex
	gone    bool
	names   []string // sorted
	objects map[string]meta
}

// openDisk takes the directory for this process and reads what is there.
func openDisk(root string, noSync bool) (*disk, error) {
	d := &disk{root: root, noSync: noSync, seed: maphash.MakeSeed(), containers: map[string]*container{}}
	for _, dir := range []string{d.containersDir(), d.asideDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if d.lock, err = os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		d.lock.Close()
		return nil, fmt.Errorf("%s is in use by another process: %w", root, err)
	}
	if err := d.load(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *disk) close() error { return d.lock.Close() }

func (d *disk) containersDir() string { return filepath.Join(d.root, "containers") }
func (d *disk) asideDir() string      { return filepath.Join(d.root, "aside") }

// load removes what an interrupted change left aside and builds the index.
func (d *disk) load() error {
	if err := os.RemoveAll(d.asideDir()); err != nil {
		return err
	}
	if err := os.Mkdir(d.asideDir(), 0o700); err != nil {
		return err
	}
	dirs, err := os.ReadDir(d.containersDir())
	if err != nil {
		return err
	}
	for _, e := range dirs {
		c, err := loadContainer(filepath.Join(d.containersDir(), e.Name()))
		if err != nil {
			return err
		}
		d.containers[c.name] = c
	}
	return nil
}

func newContainer(name, dir string) *container {
	return &container{name: name, dir: dir, seed: maphash.MakeSeed(), objects: map[string]meta{}}
}

func loadContainer(dir string) (*container, error) {
	name, err := os.ReadFile(filepath.Join(dir, nameFile))
	if err != nil {
		return nil, err
	}
	c := newContainer(string(name), dir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range files {
		if e.Name() == nameFile {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		m, err := readMeta(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		c.objects[m.name] = m
		c.names = append(c.names, m.name)
	}
	slices.Sort(c.names)
	return c, nil
}

// nameFile holds the name of the container whose directory it is in. No object's
// file can have that name, see fileName.
const nameFile = "name"

// fileName makes any name a file name, so that none can lead elsewhere.
func fileName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (d *disk) container(name string) (*container, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if c := d.containers[name]; c != nil {
		return c, nil
	}
	return nil, errNoContainer
}

// createContainer reports whether it made the container.
func (d *disk) createContainer(name string) (bool, error) {
	unlock := lockOf(&d.making, d.seed, name)
	defer unlock()
	if _, err := d.container(name); err == nil {
		return false, nil
	}
	aside, err := os.MkdirTemp(d.asideDir(), "container")
	if err != nil {
		return false, err
	}
	if err := d.writeFile(filepath.Join(aside, nameFile), []byte(name)); err != nil {
		return false, err
	}
	dir := filepath.Join(d.containersDir(), fileName(name))
	if err := d.rename(aside, dir, d.containersDir()); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers[name] = newContainer(name, dir)
	return true, nil
}

// deleteContainer removes an empty container.
func (d *disk) deleteContainer(name string) error {
	unlock := lockOf(&d.making, d.seed, name)
	defer unlock()
	c, err := d.container(name)
	if err != nil {
		return err
	}
	for i := range c.commits { // none is about to add an object
		c.commits[i].Lock()
		defer c.commits[i].Unlock()
	}
	c.mu.RLock()
	empty := len(c.names) == 0 // and stays so
	c.mu.RUnlock()
	if !empty {
		return errNotEmpty
	}
	aside := filepath.Join(d.asideDir(), fileName(name))
	if err := d.rename(c.dir, aside, d.containersDir()); err != nil {
		return err
	}
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	d.mu.Lock()
	delete(d.containers, name)
	d.mu.Unlock()
	return os.RemoveAll(aside)
}

// put stores body. It reads it all before it takes a lock.
func (d *disk) put(c *container, name string, body io.Reader, etag string, ifNoneMatch bool) (m meta, err error) {
	f, err := os.CreateTemp(d.asideDir(), "object")
	if err != nil {
		return meta{}, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	m = meta{name: name}
	if _, err := f.Seek(m.bodyOffset(), io.SeekStart); err != nil {
		return m, err
	}
	hash := md5.New()
	if m.size, err = io.Copy(io.MultiWriter(f, hash), body); err != nil {
		if disk := new(fs.PathError); errors.As(err, &disk) {
			return m, err
		}
		return m, fmt.Errorf("%w: %w", errCutShort, err)
	}
	hash.Sum(m.md5[:0])
	if etag != "" && !strings.EqualFold(etag, m.etag()) {
		return m, errETag
	}
	m.modified = time.Now().Truncate(time.Microsecond)
	if _, err := f.WriteAt(m.encode(), 0); err != nil {
		return m, err
	}
	if err := d.sync(f); err != nil {
		return m, err
	}
	return m, d.commit(c, m, f.Name(), ifNoneMatch)
}

// commit makes the file aside the object. The check of ifNoneMatch, the rename
// and the index are one step: of racing creators exactly one wins, which is more
// than real Swift promises.
func (d *disk) commit(c *container, m meta, aside string, ifNoneMatch bool) error {
	unlock := lockOf(&c.commits, c.seed, m.name)
	defer unlock()
	if err := c.mayPut(m.name, ifNoneMatch); err != nil {
		return err
	}
	if err := d.rename(aside, filepath.Join(c.dir, fileName(m.name)), c.dir); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, found := slices.BinarySearch(c.names, m.name); !found {
		c.names = slices.Insert(c.names, i, m.name)
	}
	c.objects[m.name] = m
	return nil
}

// lockOf takes the lock of a name among those that all names share.
func lockOf(locks *[64]sync.Mutex, seed maphash.Seed, name string) (unlock func()) {
	mu := &locks[maphash.String(seed, name)%uint64(len(locks))]
	mu.Lock()
	return mu.Unlock
}

func (c *container) mayPut(name string, ifNoneMatch bool) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.gone {
		return errNoContainer
	}
	if _, found := c.objects[name]; found && ifNoneMatch {
		return errExists
	}
	return nil
}

// head finds an object in the index.
func (c *container) head(name string) (meta, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, found := c.objects[name]
	if !found {
		return meta{}, errNoObject
	}
	return m, nil
}

// open opens an object. The header is read from the same file as the body, so an
// overwrite in between mixes nothing up.
func (c *container) open(name string) (*os.File, meta, error) {
	f, err := os.Open(filepath.Join(c.dir, fileName(name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, meta{}, errNoObject
	} else if err != nil {
		return nil, meta{}, err
	}
	m, err := readMeta(f)
	if err != nil {
		f.Close()
		return nil, meta{}, err
	}
	return f, m, nil
}

// delete removes an object.
func (d *disk) delete(c *container, name string) error {
	unlock := lockOf(&c.commits, c.seed, name)
	defer unlock()
	if _, err := c.head(name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(c.dir, fileName(name))); err != nil {
		return err
	}
	if err := d.syncDir(c.dir); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, found := slices.BinarySearch(c.names, name); found {
		c.names = slices.Delete(c.names, i, i+1)
	}
	delete(c.objects, name)
	return nil
}

func (d *disk) writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, d.sync(f), f.Close())
}

// rename moves a file or directory and syncs one of the two directories. The
// other is aside, where anything may be found at start.
func (d *disk) rename(from, to, synced string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.syncDir(synced)
}

func (d *disk) sync(f *os.File) error {
	if d.noSync {
		return nil
	}
	return f.Sync()
}

func (d *disk) syncDir(dir string) error {
	if d.noSync {
		return nil
	}
	return durable.SyncDir(dir)
}
