package attach

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/durable"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// export is one volume on this node.
type export struct {
	config *Config
	id     ident.Volume
	folder folder

	// lock is held for writing by what changes the export's stage, for reading
	// by what uses the volume. It is only ever tried: a call that meets another
	// one answers ABORTED and comes again.
	lock   sync.RWMutex
	record *record        // as on disk; nil: not attached
	volume *volume.Volume // nil: not served; set by show
	failed error          // why it is not served though it should be; nil: it is, or should not
	target string         // that offers volume; "": none does, as while it is being closed

	mutable class.Mutable // of the volume, while it is served
	limits  *limits       // those of mutable

	shown atomic.Pointer[shown] // for who does not hold the lock; nil: not served
}

// shown is a volume that is served, or that is being closed.
type shown struct {
	*volume.Volume
	epoch   ident.Epoch
	mutable class.Mutable
	target  string // of the export
}

// show changes the volume that is served.
func (e *export) show(v *volume.Volume) {
	e.volume = v
	if v == nil {
		e.shown.Store(nil)
		e.config.metrics.drop(e.id)
		return
	}
	e.shown.Store(&shown{v, e.record.Epoch, e.mutable, e.target})
}

// attach brings the export to the stage open, for a writer or a reader.
func (e *export) attach(ctx context.Context, q *wire.AttachRequest) (*wire.Attachment, error) {
	r, err := e.folder.load()
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = &record{Format: recordFormat, Volume: e.id, Stage: confirming, Journal: randomHex(16), Reader: q.Reader}
		if err := e.folder.save(r); err != nil {
			return nil, err
		}
		// The folder's own name, once for all that comes into it.
		if err := durable.SyncDir(filepath.Dir(e.folder.path)); err != nil {
			return nil, err
		}
	}
	if r.Stage == closed || r.Stage == revoked || r.Reader != q.Reader {
		// Finish the old life first; the new one gets a journal of its own.
		if err := e.close(ctx, r); err != nil {
			return nil, err
		}
		return e.attach(ctx, q)
	}
	opening, err := e.confirm(ctx, r)
	if status.Code(err) == codes.DataLoss || err == nil && !r.Reader && !r.Epoch.IsZero() && r.Epoch != opening.Epoch.Ident() {
		e.failed = errLost
		return nil, errors.Join(errLost, e.abandon(ctx, r))
	}
	if err != nil {
		return nil, err
	}
	if err := e.keep(opening.Account, q.Secrets); err != nil {
		return nil, err
	}
	if err := checkClass(opening, q.ClassKeys); err != nil {
		return nil, err
	}
	if r.Reader && r.Stage == open {
		if same, err := e.reads(opening.Head); err != nil {
			return nil, err
		} else if !same { // it was written elsewhere since
			if err := e.discard(ctx, r); err != nil {
				return nil, err
			}
			return e.attach(ctx, q)
		}
	}
	if r.Stage == confirming {
		err := e.open(ctx, r, opening)
		if errors.Is(err, errNoRoom) {
			// The epoch has just begun, with nothing in it: another node may have it.
			err = errors.Join(err, e.close(ctx, r))
		}
		if err != nil {
			return nil, err
		}
	}
	if r.Stage == closing {
		if err := e.reopen(ctx, r); err != nil {
			return nil, err
		}
	}
	r.Size = max(r.Size, opening.Size)
	if err := e.modify(r, opening.Parameters); err != nil {
		return nil, err
	}
	if e.volume == nil {
		if err := e.announce(r); err != nil {
			return nil, err
		}
		if err := e.serve(ctx, r); err != nil {
			return nil, err
		}
	}
	return e.attachment(), nil
}

// open turns the controller's answer into a record and an empty journal.
func (e *export) open(ctx context.Context, r *record, opening *wire.Opening) error {
	epoch := opening.Epoch.Ident()
	if r.Reader { // what an earlier attempt has made may be of another root
		if err := e.scrap(r); err != nil {
			return err
		}
		epoch = newScratch()
	}
	r.Epoch, r.Container, r.Account, r.Size = epoch, opening.Container, opening.Account, opening.Size
	r.Parameters = opening.Parameters
	r.CHAPUser, r.CHAPSecret = string(e.id), randomHex(16)
	parameters, err := class.Parse(r.Parameters)
	if err == nil && parameters.Encrypted != (opening.Key != 0) {
		err = fmt.Errorf("the volume's encryption is %v, and the controller sent %d keys", parameters.Encrypted, len(opening.Keys))
	}
	if err == nil {
		err = e.reserve(parameters.JournalSize)
	}
	if err != nil {
		return err
	}
	if parameters.Encrypted {
		r.Format = encryptedFormat
	}
	set, err := e.keys(ctx, r)
	if err != nil {
		return err
	}
	var root *snapshots.Root
	from, err := opening.Head.Record()
	if err != nil {
		return err
	}
	if from != nil {
		store, err := e.store(ctx, r)
		if err != nil {
			return err
		}
		object, err := store.Get(ctx, from.Container, snapshots.RefOf(*from).Name(), swift.GetOptions{})
		if err != nil {
			return err
		}
		h := &head{Root: *from, Object: object.Body}
		if root, err = h.decode(); err != nil {
			return err
		}
		if err := e.folder.saveHead(h); err != nil {
			return err
		}
	}
	// The journal reserves its whole quota of the disk: its name is on record before there
	// is anything of it.
	r.Boot = e.config.Boot
	if err := e.folder.save(r); err != nil {
		return err
	}
	j, err := delta.Create(e.journalConfig(r, parameters, set), delta.Identity{Volume: e.id, Epoch: r.Epoch}, volume.InitialState(root, r.Size))
	switch {
	case err == nil:
		err = j.Close()
	case errors.Is(err, fs.ErrExist):
		err = nil // an earlier attempt got this far
	}
	if err != nil {
		return err
	}
	r.Stage = open
	return e.folder.save(r)
}

// scrap removes the journal of an attach that has come to no end, or half of one. Nothing
// is in it: it was never served. The record on the disk may go on naming it.
func (e *export) scrap(r *record) error {
	if r.Epoch.IsZero() {
		return nil
	}
	if err := errors.Join(os.RemoveAll(e.folder.journal(r)), e.forgetWitness(r)); err != nil {
		return err
	}
	r.Epoch = ident.Epoch{}
	return nil
}

// modify takes over the parameters that the volume has now.
func (e *export) modify(r *record, parameters map[string]string) error {
	p, err := class.Parse(parameters)
	if err != nil || maps.Equal(r.Parameters, parameters) {
		return err
	}
	changed := *r
	changed.Parameters = parameters
	if err := e.folder.save(&changed); err != nil {
		return err
	}
	r.Parameters = parameters
	e.apply(p.Mutable)
	return nil
}

// apply makes parameters effective.
func (e *export) apply(p class.Mutable) {
	e.mutable = p
	e.limits.set(p)
	if e.volume != nil {
		e.volume.SetPace(p.RPO, p.RPO == 0)
		e.show(e.volume)
	}
}

// announce registers the target; logins are refused for now, to be tried again.
func (e *export) announce(r *record) error {
	err := e.config.Portal.AddTarget(target.Target{
		IQN:      r.iqn(),
		CHAP:     target.CHAP{User: r.CHAPUser, Secret: r.CHAPSecret},
		NotReady: true,
	})
	if errors.Is(err, target.ErrExists) {
		return nil
	}
	return err
}

// serve recovers the journal and offers the volume behind the announced target.
func (e *export) serve(ctx context.Context, r *record) error {
	// What says that the journal may hold something may have been put there by a process
	// that was killed, or by a call that failed, before it was on stable storage.
	if err := durable.SyncDir(e.folder.path); err != nil {
		return err
	}
	v, err := e.openVolume(ctx, r)
	if err != nil {
		return err
	}
	unit := target.LUN{Number: lunNumber, Volume: string(e.id), Device: lun{v, e.limits, e.config.metrics.meters(e.id)}, Keeper: reservations{e.folder}}
	if err := e.config.Portal.SetReady(r.iqn(), unit); err != nil {
		return errors.Join(err, v.Stop())
	}
	e.record, e.failed, e.target = r, nil, r.iqn()
	e.show(v)
	return nil
}

func (e *export) openVolume(ctx context.Context, r *record) (*volume.Volume, error) {
	parameters, err := class.Parse(r.Parameters)
	if err != nil {
		return nil, err
	}
	root, err := e.folder.loadHead()
	if err != nil {
		return nil, err
	}
	store, err := e.store(ctx, r)
	if err != nil {
		return nil, err
	}
	set, err := e.keys(ctx, r)
	if err != nil {
		return nil, err
	}
	j, err := delta.Open(e.journalConfig(r, parameters, set), delta.Identity{Volume: e.id, Epoch: r.Epoch})
	if err != nil {
		return nil, err
	}
	e.apply(parameters.Mutable)
	uploads := throttled{store, e.limits.uploads, e.config.metrics.uploaded.WithLabelValues(string(e.id))}
	v, err := volume.Open(ctx, volume.Config{
		Journal:      j,
		Store:        uploads,
		Await:        uploads.await,
		Container:    r.Container,
		Head:         root,
		Keys:         set,
		Size:         r.Size,
		Cache:        e.config.Cache,
		Traffic:      e.config.Traffic,
		RPO:          parameters.RPO,
		SnapshotOnly: parameters.RPO == 0,
		Scratch:      r.Reader,
		OnPublished: func(ctx context.Context, p volume.Published) error {
			return e.published(ctx, r, p)
		},
	})
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return v, nil
}

func (e *export) journalConfig(r *record, p class.Parameters, set keys.Set) delta.Config {
	var key *keys.Secret
	if !set.IsZero() {
		secret := set.Secret()
		key = &secret
	}
	return delta.Config{
		Key:        key,
		Dir:        e.folder.journal(r),
		Quota:      p.JournalSize,
		RunDir:     e.config.RunDir,
		AllowAnyFS: e.config.AllowAnyFS,
		Ballast:    e.config.ballast,
	}
}

// reportWait is how long a publication waits for the controller to hear of it.
const reportWait = 5 * time.Second

// published keeps a new root beside the journal, which may now forget what is in
// it, and tells the controller. That one can be away, or not answer: the roots in
// Swift chain by parent, so a later report covers this one.
func (e *export) published(ctx context.Context, r *record, p volume.Published) error {
	if err := e.folder.saveHead(&head{Root: p.Root.Recorded(), Object: p.Object}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	_, err := e.config.Controller.Published(ctx, &wire.PublishedRequest{
		Volume: string(e.id), Node: e.config.Node, Journal: r.Journal, Root: wire.FromRoot(new(p.Root.Recorded())),
	})
	if err != nil {
		e.config.Log.Warn("published root not reported", "volume", e.id, "generation", p.Root.Ref.Gen, "error", err)
	}
	if status.Code(err) == codes.DataLoss { // the epoch has ended without this journal
		return volume.ErrFenced
	}
	return nil
}

func (e *export) attachment() *wire.Attachment {
	return &wire.Attachment{
		Portal:     e.config.Portal.Addr().String(),
		Iqn:        e.record.iqn(),
		Lun:        lunNumber,
		Serial:     string(e.id),
		ChapUser:   e.record.CHAPUser,
		ChapSecret: e.record.CHAPSecret,
		Size:       e.volume.Size(),
		Formatted:  wire.Formatted(e.volume.Formatted()),
	}
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
