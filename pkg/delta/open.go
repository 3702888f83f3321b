package delta

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const lockName = "lock"

// withDefaults fills in and checks cfg.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.FS == nil {
		cfg.FS = osFS{cfg.Ballast}
	}
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = 64 << 20
	}
	if cfg.Quota == 0 {
		cfg.Quota = 10 << 30
	}
	if cfg.IdleWatermark == 0 {
		cfg.IdleWatermark = 100 * time.Millisecond
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = 50 * time.Millisecond
	}
	if cfg.Prewrite == 0 {
		cfg.Prewrite = cfg.SegmentSize
	}
	if cfg.Dir == "" || cfg.MapBudget < 0 || cfg.SegmentSize < 0 {
		return cfg, ErrInvalid
	}
	return cfg, checkGeometry(cfg.SegmentSize, int(cfg.Quota/cfg.SegmentSize))
}

func (id Identity) check() error {
	if _, err := ident.ParseVolume(string(id.Volume)); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if id.Epoch.IsZero() {
		return fmt.Errorf("epoch 0: %w", ErrInvalid)
	}
	return nil
}

// Create makes an empty journal whose volume is in state initial, at
// generation 1, and opens it. It returns fs.ErrExist if the directory holds a
// journal; the remains of a Create that a crash cut short are replaced.
func Create(cfg Config, id Identity, initial State) (*Journal, error) {
	j, err := create(cfg, id, initial)
	if err != nil {
		return nil, id.wrap("create", err)
	}
	return j, nil
}

func create(cfg Config, id Identity, initial State) (*Journal, error) {
	j, err := prepare(cfg, id)
	if err != nil {
		return nil, err
	}
	if err := initial.check(); err != nil {
		return nil, fmt.Errorf("state %+v: %w", initial, err)
	}
	fsys, dir := j.cfg.FS, j.cfg.Dir
	parent := filepath.Dir(dir)
	if err := j.checkDurable(parent); err != nil {
		return nil, err
	}
	if err := fsys.Mkdir(dir); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return nil, err
	}
	names, err := j.enter()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, anchorName) {
		j.release()
		return nil, fs.ErrExist
	}
	if err := j.build(names, initial); err != nil {
		j.release()
		removeAll(fsys, dir) // a reservation that failed must not keep the disk full
		return nil, err
	}
	j.run()
	return j, nil
}

// build makes the files of an empty journal in place of what a Create that did
// not end has left, the anchor last.
func (j *Journal) build(leftovers []string, initial State) (err error) {
	cfg := j.cfg
	for _, name := range leftovers {
		if name != lockName {
			if err := cfg.FS.Remove(filepath.Join(cfg.Dir, name)); err != nil {
				return err
			}
		}
	}
	j.anchor = anchor{id: j.id, segment: cfg.SegmentSize, slots: int(cfg.Quota / cfg.SegmentSize), tail: tail{seq: 1}}
	if cfg.Key != nil {
		j.anchor.encrypted, j.anchor.check = true, j.id.keyCheck(cfg.Key)
	}
	if j.ring, err = createRing(cfg.FS, cfg.Dir, j.anchor.segment, j.anchor.slots); err != nil {
		return err
	}
	if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
		return err
	}
	if j.witness, _, err = newWitness(cfg, j.id); err != nil {
		return err
	}
	j.ring.release(j.anchor.tail)
	if err := j.ring.enter(j.anchor.tail); err != nil {
		return err
	}
	j.stack.state = initial
	j.stack.push(j, 1)
	if err := j.begin(&committer{}); err != nil {
		return err
	}
	j.anchorFile, err = createAnchor(cfg.FS, cfg.Dir, j.anchor)
	return err
}

// Open recovers the journal in cfg.Dir (R3). When it returns, everything that
// it recovered is on stable storage. It returns fs.ErrNotExist if there is no
// journal, ErrLocked, ErrForeign, ErrNoKey, ErrWrongKey, and ErrDamaged when the log
// lost something it had promised; then nothing was changed.
func Open(cfg Config, id Identity) (*Journal, error) {
	j, err := open(cfg, id)
	if err != nil {
		return nil, id.wrap("open", err)
	}
	return j, nil
}

func open(cfg Config, id Identity) (_ *Journal, err error) {
	j, err := prepare(cfg, id)
	if err != nil {
		return nil, err
	}
	cfg = j.cfg
	names, err := j.load()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.release()
		}
	}()
	var acknowledged uint64
	if j.witness, acknowledged, err = newWitness(cfg, id); err != nil {
		return nil, err
	}
	r := recovery{j: j}
	if err := r.run(j.anchor); err != nil {
		return nil, err
	}
	if r.next.seq <= acknowledged {
		return nil, fmt.Errorf("the log ends before record %d, but %d was acknowledged since the node's boot: %w", r.next.seq, acknowledged, ErrDamaged)
	}
	for _, name := range names {
		if strings.HasSuffix(name, temporarySuffix) {
			if err := cfg.FS.Remove(filepath.Join(cfg.Dir, name)); err != nil {
				return nil, err
			}
		}
	}
	if err := j.roots.load(names, j.anchor.retired); err != nil {
		return nil, err
	}
	if r.off > j.ring.size-2*Block && j.ring.full() {
		return nil, ErrFull
	}
	c := &committer{segment: r.next.segment, off: r.off, seq: r.next.seq - 1, prev: r.next.prev, ended: r.next.seq - 1}
	if err := j.begin(c); err != nil {
		return nil, err
	}
	j.run()
	return j, nil
}

// prepare makes a journal without files.
func prepare(cfg Config, id Identity) (*Journal, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := id.check(); err != nil {
		return nil, err
	}
	return &Journal{
		cfg:   cfg,
		id:    id,
		halt:  newHalt(),
		queue: &queue{},
		roots: roots{fs: cfg.FS, dir: cfg.Dir, id: id, kept: make(map[uint64][]byte)},
	}, nil
}

func (j *Journal) checkDurable(dir string) error {
	if j.cfg.AllowAnyFS {
		return nil
	}
	return j.cfg.FS.CheckDurable(dir)
}

// load opens the files of a journal that is there, and returns what is in its directory.
func (j *Journal) load() (names []string, err error) {
	if names, err = j.enter(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.release()
		}
	}()
	if j.anchorFile, j.anchor, err = loadAnchor(j.cfg.FS, j.cfg.Dir); err != nil {
		return nil, err
	}
	if j.anchor.id != j.id {
		return nil, fmt.Errorf("%s epoch %v: %w", j.anchor.id.Volume, j.anchor.id.Epoch, ErrForeign)
	}
	if err := j.anchor.opens(j.cfg.Key); err != nil {
		return nil, err
	}
	j.ring, err = openRing(j.cfg.FS, j.cfg.Dir, j.anchor.segment, j.anchor.slots)
	return names, err
}

// enter locks the directory and returns what is in it.
func (j *Journal) enter() ([]string, error) {
	if err := j.checkDurable(j.cfg.Dir); err != nil {
		return nil, err
	}
	var err error
	if j.lock, err = j.cfg.FS.Lock(filepath.Join(j.cfg.Dir, lockName)); err != nil {
		return nil, err
	}
	names, err := j.cfg.FS.ReadDir(j.cfg.Dir)
	if err != nil {
		j.release()
	}
	return names, err
}

// release closes all files; the lock goes last.
func (j *Journal) release() error {
	var errs []error
	if j.ring != nil {
		errs = append(errs, j.ring.close())
	}
	if j.witness != nil {
		errs = append(errs, j.witness.close())
	}
	for _, c := range []io.Closer{j.anchorFile, j.lock} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// begin writes the OPEN record of this opening and makes it durable: records
// of an earlier one that lie behind it can never be taken for its successors.
func (j *Journal) begin(c *committer) error {
	c.j = j
	c.open = ident.NewOpen()
	c.pad = j.pad(c.open)
	c.buf = alignedBuffer(int(min(headerSize+maxBlocks*Block, j.anchor.segment)))
	c.kick = make(chan struct{}, 1)
	c.done = make(chan struct{})
	j.commit = c
	j.pressure = make(chan struct{}, 1)
	quota := j.anchor.segment * int64(j.anchor.slots)
	budget := j.cfg.MapBudget
	if budget == 0 {
		budget = quota / 256
	}
	j.gate = &gate{
		limit:     quota - max(quota/20, 2*j.anchor.segment),
		quota:     quota,
		mapBudget: budget,
		maxDelay:  j.cfg.MaxDelay,
		logBytes:  j.ring.used,
		mapBytes:  j.stack.memory.Load,
		halt:      j.halt,
		pressure:  j.pressure,
	}
	j.syncer = &syncer{
		halt: j.halt,
		fail: func(err error) { j.stop(err) },
		idle: func() {},
		kick: make(chan struct{}, 1),
		done: make(chan struct{}),

		written: c.seq,
		durable: c.seq,
	}
	j.prewriter = newPrewriter(j.ring, j.syncer, j.cfg.Prewrite, int64(c.segment)*j.ring.size+c.off)
	j.writeback = newWriteback()
	if _, err := c.record([]*request{{kind: kindOpen}}); err != nil {
		return err
	}
	if err := j.syncer.sync(); err != nil {
		return err
	}
	return j.witness.begin(c.seq)
}

// run starts the journal's goroutines.
func (j *Journal) run() {
	timer := time.AfterFunc(j.cfg.IdleWatermark, j.mark)
	j.timer = timer
	j.syncer.idle = func() { timer.Reset(j.cfg.IdleWatermark) }
	go j.prewriter.run()
	go j.writeback.run(j.halt)
	go j.commit.run()
	go j.syncer.run()
}
