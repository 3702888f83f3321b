package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Journal is the ordered log of one volume in one epoch, with the map that
// finds each block in it. All methods may be called concurrently.
type Journal struct {
	cfg  Config
	id   Identity
	halt *halt

	lock       io.Closer
	anchorFile File
	ring       *ring
	stack      stack
	gate       *gate
	queue      *queue
	commit     *committer
	syncer     *syncer
	prewriter  *prewriter
	writeback  *writeback
	roots      roots
	witness    *witness
	pressure   chan struct{}

	timer  *time.Timer   // of the idle mark
	marked atomic.Uint64 // sequence of the last idle mark

	// publishing guards anchor and is held while it or a root is written: these
	// are rare, one at a time, and must be over before the lock is given up.
	publishing sync.Mutex
	anchor     anchor

	stopping sync.WaitGroup // the testimony of a stop is being written
	closing  sync.Once
	closed   atomic.Bool // no read may begin
	closeErr error
}

func (id Identity) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("journal of %s epoch %d: %s: %w", id.Volume, id.Epoch.Number, op, err)
}

func (j *Journal) wrap(op string, err error) error { return j.id.wrap(op, err) }

// Write writes p at off (P1): it returns nil once the record is in the log in
// log order, and with fua once it and all before it are on stable storage. Of
// concurrent overlapping writes one wins as a whole, the same one after a
// recovery. p must not change until Write returns. A full log holds the write
// until space is free or ctx ends; a write that returned ctx's error was
// either applied already or never will be.
func (j *Journal) Write(ctx context.Context, off int64, p []byte, fua bool) error {
	return j.wrap("write", j.put(ctx, &request{kind: kindData, off: off, n: int64(len(p)), data: p}, fua))
}

// Zero makes n bytes at off read as zeros; otherwise it is like Write.
func (j *Journal) Zero(ctx context.Context, off, n int64, fua bool) error {
	return j.wrap("zero", j.put(ctx, &request{kind: kindData, off: off, n: n}, fua))
}

func (j *Journal) put(ctx context.Context, r *request, fua bool) error {
	if err := checkRange(r.off, r.n, j.State().Size); err != nil {
		return err
	}
	if r.n > 0 {
		need := j.worst(r)
		if need > j.gate.limit-j.ring.size {
			return fmt.Errorf("%d bytes are more than the log takes at once: %w", r.n, ErrInvalid)
		}
		if err := j.gate.admit(ctx, need); err != nil {
			return err
		}
		if r.data != nil {
			r.sums = j.sums(r)
		}
		err := j.submit(ctx, r)
		j.gate.settle(need)
		if err != nil {
			return err
		}
	}
	if fua {
		return j.sync(ctx)
	}
	return nil
}

// worst bounds the bytes of log that a request takes: it may share a record,
// or be cut by segments and record limits.
func (j *Journal) worst(r *request) int64 {
	if r.data == nil {
		return headerSize
	}
	data := int64(blocks(r.off, r.n))
	records := data/min(maxBlocks, j.ring.size/Block-1) + 2
	return (data + records) * Block
}

// sums computes the checksums of a request's blocks; in an encrypted journal they
// are those of what it becomes, and entered later.
func (j *Journal) sums(r *request) []uint32 {
	if j.cfg.Key != nil {
		return make([]uint32, blocks(r.off, r.n))
	}
	return blockSums(r.data, r.off)
}

// submit queues r and returns once it is in the log, or never will be.
func (j *Journal) submit(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	if err := j.queue.push(r); err != nil {
		return err
	}
	j.commit.serve()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if j.queue.cancel(r) {
			return context.Cause(ctx)
		}
		return <-r.done // its record is being written
	}
}

// Sync returns when everything acknowledged before the call is on stable
// storage. Concurrent callers share one sync.
func (j *Journal) Sync(ctx context.Context) error { return j.wrap("sync", j.sync(ctx)) }

func (j *Journal) sync(ctx context.Context) error {
	if err := j.halt.err(); err != nil {
		return err
	}
	written, _ := j.syncer.positions()
	return j.syncer.wait(ctx, written)
}

// Read fills p with what the journal knows of the volume at off, newest layer
// first, verified. It leaves the returned holes (ascending, in bytes of the
// volume) untouched: they must come from the version table, and from one that
// the caller looked up after Read returned, because a layer leaves the journal
// only when its generation is in the table. off and len(p) are multiples of
// Sector. Read takes no notice of the volume's size.
func (j *Journal) Read(ctx context.Context, p []byte, off int64) (holes []Span, err error) {
	holes, err = j.read(ctx, p, off, func() ([]*Layer, error) { return j.stack.layers, nil })
	return holes, j.wrap("read", err)
}

// Content is what the journal knows of a chunk.
type Content int

const (
	Unknown Content = iota // nothing, or that parts of it are zeros
	Zeros                  // all of it is zeros
	Data                   // some of it may be data
)

// Content tells what the journal knows of a chunk from its maps' totals, without
// looking at blocks: data that a newer layer hides in part counts.
func (j *Journal) Content(chunk uint64) Content {
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	for _, l := range slices.Backward(j.stack.layers) {
		if c := l.blocks.content(uint32(chunk)); c != Unknown {
			return c
		}
	}
	return Unknown
}

// State returns the volume's state, as the last acknowledged record left it.
func (j *Journal) State() State {
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	return j.stack.state
}

// SetState changes the state in log order; it is durable when SetState returns.
func (j *Journal) SetState(ctx context.Context, s State) error {
	if err := s.check(); err != nil {
		return j.wrap("set state", fmt.Errorf("%+v: %w", s, err))
	}
	err := j.submit(ctx, &request{kind: kindState, state: s})
	if err == nil {
		err = j.sync(ctx)
	}
	return j.wrap("set state", err)
}

// Seal ends the active generation with one record: every write acknowledged
// before the call is in the returned layer, none that starts after it returned.
// The record carries the snapshot id ("" for none) and the clean mark. It and
// all before it are durable when Seal returns (R4). Writes are not drained.
func (j *Journal) Seal(ctx context.Context, s ident.Snapshot, clean bool) (*Layer, error) {
	if s != "" {
		if _, err := ident.ParseSnapshot(string(s)); err != nil {
			return nil, j.wrap("seal", fmt.Errorf("%w: %w", err, ErrInvalid))
		}
	}
	r := &request{kind: kindSeal, snapshot: s, clean: clean}
	err := j.submit(ctx, r)
	if err == nil {
		err = j.syncer.wait(ctx, r.seq)
	}
	if err != nil {
		return nil, j.wrap("seal", err)
	}
	return r.layer, nil
}

// Cut returns the layer that was sealed for snapshot s and is not yet retired, once
// it is durable (R4), and nil if there is none. A Seal whose context ended while it
// waited has cut all the same: whoever repeats it asks here first.
func (j *Journal) Cut(ctx context.Context, s ident.Snapshot) (*Layer, error) {
	l := j.stack.cut(s)
	if l == nil {
		return nil, nil
	}
	if err := j.syncer.wait(ctx, l.sealed); err != nil {
		return nil, j.wrap("wait for a seal", err)
	}
	return l, nil
}

// Sealed returns the layers whose generations are sealed durably and not yet
// retired, oldest first.
func (j *Journal) Sealed() []*Layer {
	_, durable := j.syncer.positions()
	return j.stack.sealed(durable)
}

// SaveRoot keeps the bytes of the root of a sealed generation, durably, before
// they are PUT (R2). Saving the same bytes again is fine, others are ErrInvalid.
func (j *Journal) SaveRoot(gen uint64, object []byte) error {
	j.publishing.Lock()
	defer j.publishing.Unlock()
	err := j.halt.err()
	if err == nil {
		err = ErrNotSealed
		for _, l := range j.Sealed() {
			if l.gen == gen {
				err = j.roots.save(gen, object)
			}
		}
	}
	return j.wrap(fmt.Sprintf("save root of generation %d", gen), err)
}

// SavedRoot returns what SaveRoot kept for a generation that is not retired.
func (j *Journal) SavedRoot(gen uint64) ([]byte, bool) { return j.roots.get(gen) }

// Retire declares gen and all before it published: their layers leave the
// journal and their segments are used again. The version table that reads turn
// to must hold them before the call. Retiring a generation twice is fine.
func (j *Journal) Retire(ctx context.Context, gen uint64) error {
	return j.wrap(fmt.Sprintf("retire generation %d", gen), j.retire(ctx, gen))
}

func (j *Journal) retire(ctx context.Context, gen uint64) error {
	j.publishing.Lock()
	defer j.publishing.Unlock()
	if err := errors.Join(j.halt.err(), ctx.Err()); err != nil {
		return err
	}
	if gen <= j.anchor.retired {
		return nil
	}
	if sealed := j.Sealed(); len(sealed) == 0 || sealed[len(sealed)-1].gen < gen {
		return ErrNotSealed
	}
	next := j.anchor
	next.counter++
	next.retired = gen
	_, durable := j.syncer.positions()
	next.tail = j.ring.start(j.stack.tail(gen, j.ring.headSegment()), durable)
	if err := next.store(j.anchorFile); err != nil {
		return j.stop(fmt.Errorf("write %s: %w", anchorName, err))
	}
	j.anchor = next
	j.stack.drop(gen)
	j.ring.release(next.tail)
	j.gate.measure()
	return j.roots.drop(gen)
}

// Pressure receives a value when the log has become more than half full: time
// to seal and upload at once.
func (j *Journal) Pressure() <-chan struct{} { return j.pressure }

// Pressed tells whether the log, or its map, is more than half full.
func (j *Journal) Pressed() bool { return j.gate.pressed() }

// OpenID is the tag drawn at this opening, for names of uploaded objects.
func (j *Journal) OpenID() ident.Open { return j.commit.open }

// Identity returns the volume and epoch of the journal.
func (j *Journal) Identity() Identity { return j.id }

// Encrypted tells whether the data in the log is encrypted.
func (j *Journal) Encrypted() bool { return j.cfg.Key != nil }

// Active returns the number of the generation that takes writes. Generations
// of an epoch are dense and start at 1.
func (j *Journal) Active() uint64 {
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	return j.stack.active().gen
}

// Dirty reports whether the active generation has a write, a zero or a change
// of state: whether sealing it would say anything new.
func (j *Journal) Dirty() bool {
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	return j.stack.active().dirty
}

// Retired returns the newest retired generation, 0 if there is none.
func (j *Journal) Retired() uint64 {
	j.publishing.Lock()
	defer j.publishing.Unlock()
	return j.anchor.retired
}

// Err returns why the journal stopped (ErrStopped, ErrClosed), or nil.
func (j *Journal) Err() error { return j.wrap("state", j.halt.err()) }

// stop ends the journal after a failed write or sync and returns the reason.
func (j *Journal) stop(err error) error {
	if j.halt.set(fmt.Errorf("%w: %w", ErrStopped, err)) {
		j.ring.halt()
		written, _ := j.syncer.positions()
		// Nobody waits for a disk that may never answer; the mapped page tells
		// the same, should this fail.
		j.stopping.Go(func() { j.witness.stop(written) })
	}
	return j.halt.err()
}

// mark writes a record that says that everything before it is durable, so that
// damage to the last flushed record is recognised as such.
func (j *Journal) mark() {
	written, durable := j.syncer.positions()
	if written != durable || written == j.marked.Load() {
		return
	}
	r := &request{kind: kindMark}
	if err := j.submit(context.Background(), r); err == nil {
		j.marked.Store(r.seq)
	}
}

// Close syncs the log and closes it; nothing is uploaded or removed. Calls in
// progress end with ErrClosed, at the latest when their I/O ends. A journal that
// stopped is closed, too, and Close says why it stopped.
func (j *Journal) Close() error {
	j.closing.Do(func() { j.closeErr = j.wrap("close", j.close()) })
	return j.closeErr
}

func (j *Journal) close() error {
	j.timer.Stop()
	j.halt.set(ErrClosed)
	j.ring.halt()
	<-j.commit.done
	<-j.syncer.done
	<-j.prewriter.done
	<-j.writeback.done
	err := j.halt.err()
	if errors.Is(err, ErrClosed) {
		err = j.syncer.sync()
	}
	j.publishing.Lock()
	defer j.publishing.Unlock()
	j.stopping.Wait()
	j.stack.mu.Lock()
	j.closed.Store(true)
	j.stack.mu.Unlock()
	j.ring.drain()
	return errors.Join(err, j.release())
}

// Destroy closes the journal and removes its directory, with whatever it holds.
func (j *Journal) Destroy() error {
	if err := j.Close(); err != nil && !errors.Is(err, ErrStopped) {
		return err
	}
	err := removeJournal(j.cfg.FS, j.cfg.Dir)
	if err == nil && j.cfg.RunDir != "" {
		err = j.cfg.FS.Remove(pageName(j.cfg.RunDir, j.id))
	}
	return j.wrap("destroy", err)
}

// removeJournal removes the anchor first, durably: without it what remains
// after a crash is no journal.
func removeJournal(fs FS, dir string) error {
	if err := fs.Remove(filepath.Join(dir, anchorName)); err != nil {
		return err
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	return removeAll(fs, dir)
}

// removeAll removes a directory and the files in it.
func removeAll(fs FS, dir string) error {
	names, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fs.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := fs.Remove(dir); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(dir))
}

// Stats returns figures of the moment.
func (j *Journal) Stats() Stats {
	var s Stats
	s.Sequence, s.Durable = j.syncer.positions()
	s.Syncs = j.syncer.count()
	s.LogBytes = j.ring.used()
	s.MapBytes = j.stack.memory.Load()
	s.Records = j.commit.records.Load()
	j.gate.stats(&s)
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	s.Active = j.stack.active().gen
	s.Sealed = len(j.stack.layers) - 1
	for _, l := range j.stack.layers {
		s.DirtyBytes += l.DirtyBytes()
	}
	return s
}
