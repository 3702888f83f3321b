package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
	"github.com/swiftblock/csi-swiftblock/pkg/durable"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// The versions of the record file; a higher one is refused.
const (
	recordFormat    = 1
	encryptedFormat = 2 // of an encrypted volume
)

// errNewer says that a newer release was here.
var errNewer = errors.New("use the release that wrote it")

// stage is how far the life of an export has got. Every change is on stable
// storage before anything is done that depends on it.
type stage string

const (
	// confirming: J is drawn; the controller may have given it an epoch already. Once the
	// record names that, the journal may be there, or half of it: it was never served.
	confirming stage = "confirming"
	// open: the journal holds, or may hold, what no root holds.
	open stage = "open"
	// closing: the LUN is gone and stays away; upload and hand-over go on until
	// they are done, or until Attach takes the volume up again.
	closing stage = "closing"
	// closed: the last root is published; the controller may not know it yet.
	closed stage = "closed"
	// revoked: the controller knows it, and the journal has gone. An initiator may
	// still be logged in, whose commands fail.
	revoked stage = "revoked"
)

// record is what an export process needs to serve a volume again after its own
// death, with neither Swift nor kubelet nor controller at hand. It holds the
// CHAP secret, so its file is readable by the owner only.
type record struct {
	Format     int               `json:"format"`
	Volume     ident.Volume      `json:"volume"`
	Stage      stage             `json:"stage"`
	Boot       string            `json:"boot,omitempty"`   // of the node, in which it was opened, or nearly: initiators live no longer
	Journal    string            `json:"journal"`          // J of R5
	Reader     bool              `json:"reader,omitempty"` // the journal is a scratch journal
	Epoch      ident.Epoch       `json:"epoch,omitzero"`   // a reader's names its scratch journal only
	Container  string            `json:"container,omitempty"`
	Account    string            `json:"account,omitempty"` // of Swift; its secrets are elsewhere
	Size       int64             `json:"size,omitempty"`    // bytes, as the authority said last
	Parameters map[string]string `json:"parameters,omitempty"`
	CHAPUser   string            `json:"chapUser,omitempty"`
	CHAPSecret string            `json:"chapSecret,omitempty"`
	Last       *authority.Root   `json:"last,omitempty"` // when closed: the root to hand over
	// Revoke: it is closed under an initiator that may still be logged in.
	Revoke bool `json:"revoke,omitempty"`
}

// encrypted tells whether the volume is; known once its epoch is confirmed.
func (r *record) encrypted() bool { return r.Format == encryptedFormat }

// iqn is the target's name. It contains the epoch, or what tells a reader's attach
// from all others, so a session of an older one can never be mistaken for ours
// (R7).
func (r *record) iqn() string {
	if r.Reader {
		return fmt.Sprintf("%s:%s.r%016x", IQNPrefix, r.Volume, r.Epoch.Tag)
	}
	return fmt.Sprintf("%s:%s.%d", IQNPrefix, r.Volume, r.Epoch.Number)
}

// folder is the directory of one volume on the node:
//
//	record.json   the record
//	head          the newest published root, with its bytes; absent: blank
//	reservations  persistent reservations of the LUN that outlive a loss of power
//	<epoch>/      the journal, see package delta
//	scratch/      the journal of a reader
//	lost-<epoch>/ a journal whose epoch was ended without it; kept for the administrator
type folder struct {
	path    string
	ballast *ballast.File // room for the files here, though not for journals
}

func (f folder) recordPath() string       { return filepath.Join(f.path, "record.json") }
func (f folder) headPath() string         { return filepath.Join(f.path, "head") }
func (f folder) reservationsPath() string { return filepath.Join(f.path, "reservations") }
func (f folder) journal(r *record) string {
	if r.Reader {
		return filepath.Join(f.path, "scratch")
	}
	return filepath.Join(f.path, r.Epoch.String())
}

func (f folder) lostPath(e ident.Epoch) string {
	return filepath.Join(f.path, lostPrefix+e.String())
}

// load reads the record; nil if there is none.
func (f folder) load() (*record, error) {
	body, err := os.ReadFile(f.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", f.recordPath(), err)
	}
	if r.Format != recordFormat && r.Format != encryptedFormat {
		return nil, fmt.Errorf("%s: format %d, this release knows %d and %d: %w", f.recordPath(), r.Format, recordFormat, encryptedFormat, errNewer)
	}
	return &r, nil
}

func (f folder) save(r *record) error {
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return f.replace(f.recordPath(), body)
}

// head is a root with its bytes, kept so that a volume can be opened without
// Swift. It is replaced before the journal forgets what the root holds.
type head struct {
	Root   authority.Root `json:"root"`
	Object []byte         `json:"object"`
}

func (h *head) decode() (*snapshots.Root, error) {
	at := snapshots.Location{Container: h.Root.Container, Name: snapshots.RefOf(h.Root).Name()}
	root, err := snapshots.DecodeRoot(at, h.Object)
	if err != nil {
		return nil, err
	}
	if root.Ref != snapshots.RefOf(h.Root) {
		return nil, fmt.Errorf("%w: root %s/%s is not the one that was recorded", volume.ErrDamaged, at.Container, at.Name)
	}
	return root, nil
}

func (f folder) saveHead(h *head) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return f.replace(f.headPath(), body)
}

// loadHead returns the newest published root; nil if the volume is blank.
func (f folder) loadHead() (*snapshots.Root, error) {
	body, err := os.ReadFile(f.headPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h head
	if err := json.Unmarshal(body, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", f.headPath(), err)
	}
	return h.decode()
}

// replace writes a file so that after any crash it is the old one or the new one.
// That others have filled the disk does not hinder it, within bounds: publishing and
// closing would wait.
func (f folder) replace(path string, body []byte) error {
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return err
	}
	return f.ballast.Within(len(body), func() error { return durable.Replace(path, body, 0o600) })
}

// forget removes the export: the record last, so that an interrupted removal is
// continued. Journals that were lost stay, and the folder with them.
func (f folder) forget(r *record) error {
	if err := f.empty(r); err != nil {
		return err
	}
	if err := os.Remove(f.recordPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(f.path); err == nil {
		return durable.SyncDir(filepath.Dir(f.path))
	}
	return durable.SyncDir(f.path)
}

// empty removes all of the export but its record.
func (f folder) empty(r *record) error {
	rests, err := filepath.Glob(filepath.Join(f.path, durable.Unfinished))
	if err != nil {
		return err
	}
	for _, path := range rests {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if !r.Epoch.IsZero() {
		if err := os.RemoveAll(f.journal(r)); err != nil {
			return err
		}
	}
	for _, path := range []string{f.headPath(), f.reservationsPath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(f.path)
}

// setAside keeps the journal of an epoch that the authority has ended without
// it: nobody will ever upload it, but an administrator may want to read it.
func (f folder) setAside(r *record) error {
	if err := os.Remove(f.reservationsPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(f.journal(r), f.lostPath(r.Epoch))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		now := time.Now() // which is what [Journal].Since says of it
		err = os.Chtimes(f.lostPath(r.Epoch), now, now)
	}
	if err == nil {
		err = durable.SyncDir(f.path)
	}
	return err
}
