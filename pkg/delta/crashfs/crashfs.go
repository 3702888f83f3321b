// Package crashfs is a file system in memory for tests that crash: the
// delta.FS that loses whatever a real one may lose.
//
// What a process wrote lies in the page cache until it is synced. A killed
// process ([FS.Kill]) loses nothing of it. A power loss ([FS.PowerLoss]) keeps,
// of the writes since a file's last sync, any subset, torn at 512 bytes; and of
// the names made, moved and removed since the directory's last sync, any
// subset. Close syncs nothing. After a failed sync the pages lie: they read as
// written and count as clean, though the disk has only some of them, so a
// second sync succeeds without effect and the truth appears when they are
// evicted.
//
// Either kind of crash can be set off in the middle of an operation
// ([FS.CrashAfter]). A crashed file system refuses everything until [FS.Restart];
// files opened before it stay dead, as those of a dead process are. What a power
// loss might leave can be looked at as often as one likes ([FS.AfterPowerLoss]):
// copies share what is the same in them.
package crashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// ErrCrashed is the answer to everything between a crash and the restart.
var ErrCrashed = errors.New("crashfs: crashed")

// ErrInjected is the failure that FailWrite and FailSync inject.
var ErrInjected = errors.New("crashfs: injected input/output error")

const sector = 512

// FS is the file system. Its zero value is not usable; see [New].
type FS struct {
	mu     sync.Mutex
	rand   *rand.Rand
	live   map[string]*inode // names as processes see them
	stable map[string]*inode // names that are on the disk
	moves  []move            // not yet synced changes of names, oldest first
	locks  map[string]bool
	pages  map[string]page // mapped files: they outlive processes only
	boot   [16]byte
	life   int // of processes: a file belongs to the one that opened it
	dead   bool
	left   int    // operations until the crash; negative: none is due
	fate   uint64 // see Fate

	failWrites, failSyncs int
}

// move is one change of names: to is node now ("" for a removal), from is gone.
type move struct {
	from, to string
	node     *inode
}

// inode is a file's content, or a directory.
type inode struct {
	dir    bool
	live   content // what reads see
	stable content // what is on the disk for good
	dirty  []write // on the way from the one to the other
}

// New returns an empty file system with a directory "/". All its choices come
// from r.
func New(r *rand.Rand) *FS {
	root := map[string]*inode{"/": {dir: true}}
	return &FS{rand: r, live: root, stable: map[string]*inode{"/": root["/"]}, locks: make(map[string]bool), pages: make(map[string]page), left: -1}
}

// CrashAfter kills the process in the middle of the n-th changing operation
// from now on, counted from 1. Restart or PowerLoss must follow.
func (f *FS) CrashAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = n
}

// Kill ends the process: nothing more of it happens.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill()
}

func (f *FS) kill() {
	f.dead = true
	f.left = -1
	f.life++
	clear(f.locks)
}

// Crashed reports whether the process is dead.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// Restart starts the next process on the same node: the page cache is there,
// but clean pages may have been evicted.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill()
	f.dead = false
	f.failWrites, f.failSyncs = 0, 0
	for _, n := range f.nodes() {
		if f.rand.IntN(2) == 0 {
			n.live = n.disk()
		}
	}
}

// PowerLoss kills whatever runs, loses what may be lost and starts again.
func (f *FS) PowerLoss() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill()
	f.dead = false
	f.failWrites, f.failSyncs = 0, 0
	clear(f.pages)
	binary.LittleEndian.PutUint64(f.boot[:], f.rand.Uint64())
	var left maphash.Hash
	left.SetSeed(fateSeed)
	for _, m := range f.moves {
		kept := byte(f.rand.IntN(2))
		left.WriteByte(kept)
		if kept == 1 {
			m.apply(f.stable)
		}
	}
	f.moves = nil
	for _, n := range f.nodes() {
		f.lose(n, &left)
	}
	f.fate = left.Sum64()
	f.live = maps.Clone(f.stable)
}

// lose leaves a subset of n's dirty writes on the disk: of each one nothing,
// all, or some of its sectors. What is there then is added to left.
func (f *FS) lose(n *inode, left *maphash.Hash) {
	for _, w := range n.dirty {
		switch f.rand.IntN(4) {
		case 0:
		case 1:
			w.apply(&n.stable)
		default:
			w.tear(&n.stable, func() bool { return f.rand.IntN(2) == 0 })
		}
	}
	for _, w := range n.dirty {
		now := make([]byte, len(w.data))
		k, _ := n.stable.readAt(now, w.off)
		left.Write(now[:k])
		left.WriteByte(0)
	}
	n.dirty = nil
	n.live = n.stable.clone()
}

var fateSeed = maphash.MakeSeed()

// Fate tells the outcomes of the last power loss apart: it is the same for those
// that left the same.
func (f *FS) Fate() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fate
}

// AfterPowerLoss returns the disk as a power loss now may leave it, with choices
// from r. f stays as it is.
func (f *FS) AfterPowerLoss(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := New(r)
	copies := make(map[*inode]*inode)
	copied := func(n *inode) *inode {
		if n != nil && copies[n] == nil {
			copies[n] = &inode{dir: n.dir, stable: n.stable.clone(), dirty: n.dirty}
		}
		return copies[n]
	}
	for name, n := range f.stable {
		g.stable[name] = copied(n)
	}
	for _, m := range f.moves {
		g.moves = append(g.moves, move{m.from, m.to, copied(m.node)})
	}
	g.PowerLoss()
	return g
}

// FailWrites makes the next n writes fail, each after some of its sectors.
func (f *FS) FailWrites(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failWrites = n
}

// FailSyncs makes the next n syncs of files with dirty pages fail.
func (f *FS) FailSyncs(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failSyncs = n
}

// Damage changes one byte of a file on the disk and in the page cache.
func (f *FS) Damage(name string, off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.live[name]
	if n == nil || off >= n.live.size {
		return fmt.Errorf("crashfs: damage %s at %d: %w", name, off, fs.ErrNotExist)
	}
	for _, c := range []*content{&n.live, &n.stable} {
		var b [1]byte
		c.readAt(b[:], off)
		c.writeAt([]byte{b[0] ^ 0x55}, off)
	}
	return nil
}

// nodes returns every file once, in an order that depends on names only.
func (f *FS) nodes() []*inode {
	var out []*inode
	seen := make(map[*inode]bool)
	for _, space := range []map[string]*inode{f.live, f.stable} {
		names := make([]string, 0, len(space))
		for name := range space {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if n := space[name]; !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out
}

// disk is what reads past the page cache find: dirty pages are written first.
func (n *inode) disk() content {
	c := n.stable.clone()
	for _, w := range n.dirty {
		w.apply(&c)
	}
	return c
}

func (m move) apply(names map[string]*inode) {
	delete(names, m.from)
	if m.to != "" {
		names[m.to] = m.node
	}
}

// begin accounts for one changing operation; last says that the process dies
// in the middle of it.
func (f *FS) begin() (last bool, err error) {
	if f.dead {
		return false, ErrCrashed
	}
	if f.left > 0 {
		f.left--
		return f.left == 0, nil
	}
	return false, nil
}

// change does m, unless the process dies before it.
func (f *FS) change(m move) error {
	last, err := f.begin()
	if err != nil {
		return err
	}
	if !last || f.rand.IntN(2) == 0 {
		m.apply(f.live)
		f.moves = append(f.moves, m)
	}
	if last {
		f.kill()
		return ErrCrashed
	}
	return nil
}

// Mkdir implements delta.FS.
func (f *FS) Mkdir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.live[dir]; n != nil && n.dir {
		return nil
	}
	if err := f.parent(dir); err != nil {
		return err
	}
	return f.change(move{to: dir, node: &inode{dir: true}})
}

func (f *FS) parent(name string) error {
	if p := f.live[path.Dir(name)]; p == nil || !p.dir {
		return fmt.Errorf("crashfs: %s: %w", path.Dir(name), fs.ErrNotExist)
	}
	return nil
}

// Create implements delta.FS.
func (f *FS) Create(name string) (delta.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.parent(name); err != nil {
		return nil, err
	}
	if n := f.live[name]; n != nil && !f.dead {
		n.put(write{empty: true})
		return &file{f, n, f.life}, nil
	}
	n := new(inode)
	if err := f.change(move{to: name, node: n}); err != nil {
		return nil, err
	}
	return &file{f, n, f.life}, nil
}

// Open implements delta.FS.
func (f *FS) Open(name string) (delta.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.live[name]
	switch {
	case f.dead:
		return nil, ErrCrashed
	case n == nil || n.dir:
		return nil, fmt.Errorf("crashfs: %s: %w", name, fs.ErrNotExist)
	}
	return &file{f, n, f.life}, nil
}

// Rename implements delta.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.live[from]
	if n == nil {
		return fmt.Errorf("crashfs: %s: %w", from, fs.ErrNotExist)
	}
	return f.change(move{from, to, n})
}

// Remove implements delta.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pages[name] != nil {
		delete(f.pages, name)
		return nil
	}
	if f.live[name] == nil {
		return fmt.Errorf("crashfs: %s: %w", name, fs.ErrNotExist)
	}
	return f.change(move{from: name})
}

// ReadDir implements delta.FS.
func (f *FS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, ErrCrashed
	}
	if n := f.live[dir]; n == nil || !n.dir {
		return nil, fmt.Errorf("crashfs: %s: %w", dir, fs.ErrNotExist)
	}
	var names []string
	for name := range f.live {
		if path.Dir(name) == dir && name != dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements delta.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, err := f.begin()
	if err != nil {
		return err
	}
	if last {
		f.kill()
		return ErrCrashed
	}
	kept := f.moves[:0]
	for _, m := range f.moves {
		if (m.to != "" && path.Dir(m.to) == dir) || (m.from != "" && path.Dir(m.from) == dir) {
			m.apply(f.stable)
		} else {
			kept = append(kept, m)
		}
	}
	f.moves = kept
	return nil
}

// Lock implements delta.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return nil, ErrCrashed
	case f.locks[name]:
		return nil, delta.ErrLocked
	}
	if f.live[name] == nil {
		if err := f.parent(name); err != nil {
			return nil, err
		}
		if err := f.change(move{to: name, node: new(inode)}); err != nil {
			return nil, err
		}
	}
	f.locks[name] = true
	return &lock{f, name, f.life}, nil
}

// MapPage implements delta.FS; such files lie on a tmpfs of their own.
func (f *FS) MapPage(name string) (delta.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, ErrCrashed
	}
	if f.pages[name] == nil {
		f.pages[name] = make(page, delta.Block)
	}
	return f.pages[name], nil
}

type page []byte

func (p page) Bytes() []byte { return p }
func (p page) Close() error  { return nil }

// BootID implements delta.FS.
func (f *FS) BootID() ([16]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boot, nil
}

// Within implements delta.FS: the disk is never full.
func (f *FS) Within(_ int, write func() error) error { return write() }

// CheckDurable implements delta.FS.
func (f *FS) CheckDurable(string) error { return nil }

type lock struct {
	fs   *FS
	name string
	life int
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.life == l.fs.life {
		delete(l.fs.locks, l.name)
	}
	return nil
}
