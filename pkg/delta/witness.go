package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"unsafe"
)

const (
	witnessMagic = "SBwitnes"
	witnessSize  = 64
	stoppedName  = "stopped"
)

// witness remembers the last acknowledged record outside the log, for as long
// as the initiators live that were told of it: until the node's next boot. A
// log that ends before it has lost acknowledged writes, because after a failed
// sync pages may read well and be gone once they are evicted.
//
// It is a mapped page in Config.RunDir, which each acknowledgement updates
// without a system call, and a file beside the log, written when the journal
// stops. Both hold the same bytes:
//
//	 0  8  "SBwitnes"
//	 8 16  boot id
//	24 16  volume
//	40  8  epoch number
//	48  8  epoch tag
//	56  8  sequence number of the last acknowledged record
type witness struct {
	fs   FS
	dir  string
	page Page // nil without a RunDir
	head []byte
}

// newWitness returns the journal's witness and the highest sequence number that
// was acknowledged since the node's boot, as far as it is known.
func newWitness(cfg Config, id Identity) (_ *witness, acknowledged uint64, err error) {
	boot, err := cfg.FS.BootID()
	if err != nil {
		return nil, 0, fmt.Errorf("boot id: %w", err)
	}
	w := &witness{fs: cfg.FS, dir: cfg.Dir, head: make([]byte, witnessSize)}
	le := binary.LittleEndian
	copy(w.head, witnessMagic)
	copy(w.head[8:24], boot[:])
	putID(w.head[24:40], string(id.Volume))
	le.PutUint64(w.head[40:], id.Epoch.Number)
	le.PutUint64(w.head[48:], id.Epoch.Tag)
	if acknowledged, err = w.readStopped(); err != nil {
		return nil, 0, err
	}
	if cfg.RunDir == "" {
		return w, acknowledged, nil
	}
	if w.page, err = cfg.FS.MapPage(pageName(cfg.RunDir, id)); err != nil {
		return nil, 0, err
	}
	return w, max(acknowledged, w.read(w.page.Bytes())), nil
}

func pageName(dir string, id Identity) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%s", id.Volume, id.Epoch))
}

// Forget removes what runDir still knows of a journal whose directory has gone, or
// was set aside.
func Forget(runDir string, id Identity) error {
	err := osFS{}.Remove(pageName(runDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// read returns the sequence number in p, 0 if it is of another boot or journal.
func (w *witness) read(p []byte) uint64 {
	if len(p) < witnessSize || string(p[:56]) != string(w.head[:56]) {
		return 0
	}
	return binary.LittleEndian.Uint64(p[56:])
}

func (w *witness) readStopped() (uint64, error) {
	f, err := w.fs.Open(filepath.Join(w.dir, stoppedName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	p := make([]byte, witnessSize)
	if _, err := f.ReadAt(p, 0); err != nil {
		return 0, fmt.Errorf("read %s: %w", stoppedName, err)
	}
	return w.read(p), nil
}

// begin starts the testimony of an opening that recovered everything up to seq.
func (w *witness) begin(seq uint64) error {
	if w.page != nil {
		p := w.page.Bytes()
		w.acknowledge(seq)
		copy(p[:56], w.head[:56])
	}
	err := w.fs.Remove(filepath.Join(w.dir, stoppedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// acknowledge notes that record seq is about to be acknowledged.
func (w *witness) acknowledge(seq uint64) {
	if w.page != nil {
		atomic.StoreUint64((*uint64)(unsafe.Pointer(&w.page.Bytes()[56])), seq)
	}
}

// stop leaves the testimony beside the log, as well as the disk still can.
func (w *witness) stop(seq uint64) error {
	p := append([]byte(nil), w.head...)
	binary.LittleEndian.PutUint64(p[56:], seq)
	return writeFile(w.fs, filepath.Join(w.dir, stoppedName), p)
}

func (w *witness) close() error {
	if w.page == nil {
		return nil
	}
	return w.page.Close()
}
