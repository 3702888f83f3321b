// Package catalog is the volumes and snapshots as the controller knows them:
// what exists, under which name, on which node, from which root, and what may be
// deleted. It decides by the records in the [authority] and keeps the objects in
// Swift in step with them; it holds no state of its own, so several controllers
// may work on the same authority and account (DESIGN sections 6 and 7).
//
// # Steps
//
// No two records, and no record and object, change together. So each operation
// is a fixed row of steps, each of which may be repeated; a repetition of the
// call, here or in another controller, continues after the last one that was
// done. In short:
//
//	create volume     record creating → claim of the name → container →
//	                  [origin's root and whom to pin in the record → ref/<child>
//	                  and pin in each owner → origin read again] → volume.1 →
//	                  record ready
//	delete volume     tombstone → claim dropped ‖ sweep: its date; after the grace
//	                  volume.* → objects → container → ref/<id>, pins → record
//	create snapshot   record creating → claim → source read again → cut →
//	                  s/<id>, n/<id> → record ready
//	delete snapshot   tombstone → claim dropped ‖ sweep: its date; after the grace
//	                  n/<id>, s/<id> → record
//	confirm           e/<n+1>… absent → epoch n+1 in the record → e/<n+1> →
//	                  volume.<m+1> absent
//	abandon           hand-over, or: f/<n> → newest root searched → record
//	collect           records read → newest root in the record → objects that
//	                  no root reaches → records read again → those deleted
//	recover           of each volume: volume.<m+1> → f/<n> → newest root searched →
//	                  e/<n+1024> → record recovering; then its claim; then all
//	                  snapshots, claims and pins; then the records ready
//
// # What keeps a reference whole
//
// Whoever makes a reference (a snapshot to its volume, a clone to the owners of
// its objects) first records it, then reads what it refers to again, and gives
// up if that is tombstoned. The sweep goes the other way: first it sees the
// tombstone, then it looks for references: of snapshots to the volume, and only
// after those for pins. Whichever record comes second, one of the two sees the
// other.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// LostKept is how long everything stays of an epoch whose node was lost, and how long
// that is told of (docs/design.md, section 6).
const LostKept = 14 * 24 * time.Hour

// Config is what a catalog stands on.
type Config struct {
	Authority authority.Authority
	Store     swift.Store
	// Accounts are those that volumes may be in; nil: only that of Store.
	Accounts *accounts.Accounts
	// Prefix begins the name of every container: <prefix><volume id>.
	Prefix string
	// Cluster owns the containers; those of another cluster are refused.
	Cluster string
	// Nodes reaches the export processes.
	Nodes Nodes
	// Grace is how long what was deleted or superseded stays in Swift: what was deleted,
	// from the first sweep on that sees it. Default: not at all.
	Grace time.Duration
	// LostKept is how long everything stays of an epoch whose node was lost: it
	// may hold more than was found; default [LostKept].
	LostKept time.Duration
	// Patience is how long a record may exist without its claim before the sweep
	// takes it for the rest of a call that died; default 10 minutes.
	Patience time.Duration
	// Unfinished is how long a volume or snapshot may be in the making, or a
	// snapshot failed, before the sweep deletes it: nobody repeats the call any
	// more, and nobody was told that it exists. A call that goes on all the same, for
	// the clock was behind when it began, begins anew. Default 7 days.
	Unfinished time.Duration
	// SearchPause lies between the three looks for a root that is not there;
	// default 1 second.
	SearchPause time.Duration
	// Now is the clock; default [time.Now].
	Now func() time.Time
	// Date asks the store for its time, by which it dates objects. Where ours is another
	// one, nothing is deleted by its age. nil: the two agree.
	Date func(ctx context.Context) (time.Time, error)
}

// Nodes reaches the `export` process that holds a volume's open epoch. An error
// that Is [ErrUnreachable] says that nobody answered.
type Nodes interface {
	// Seal cuts volume v for snapshot s and returns the published root of the
	// cut and the volume's size in it. The same s gets the same answer again.
	Seal(ctx context.Context, endpoint string, v ident.Volume, s ident.Snapshot) (Cut, error)
	// Handover orders the node to fail the volume's I/O, to upload all that its
	// journal holds and to call Closed before it answers.
	Handover(ctx context.Context, endpoint string, v ident.Volume) error
	// Modify gives the node the parameters that the volume has now.
	Modify(ctx context.Context, endpoint string, v ident.Volume, parameters map[string]string) error
}

// Cut is a point in time of a volume.
type Cut struct {
	Root authority.Root
	Size int64 // bytes
}

// Catalog is safe for concurrent use; several may run on one authority.
type Catalog struct {
	config    Config
	volumes   authority.Table[authority.Volume]
	snapshots authority.Table[authority.Snapshot]
	claims    authority.Table[authority.Claim]
	pins      authority.Table[authority.Pin]
	store     swift.Store
	accountOf sync.Map // of volumes that were looked up: names by id
	busy      busy
}

// New returns the catalog on the given edges.
func New(config Config) *Catalog {
	if config.Patience == 0 {
		config.Patience = 10 * time.Minute
	}
	if config.Unfinished == 0 {
		config.Unfinished = 7 * 24 * time.Hour
	}
	if config.LostKept == 0 {
		config.LostKept = LostKept
	}
	if config.SearchPause == 0 {
		config.SearchPause = time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	a := config.Authority
	c := &Catalog{
		config: config, store: config.Store,
		volumes: a.Volumes(), snapshots: a.Snapshots(), claims: a.Claims(), pins: a.Pins(),
	}
	if config.Accounts != nil {
		c.store = config.Accounts.Route(c.account)
	}
	return c
}

// Store returns the store that reaches every volume's container.
func (c *Catalog) Store() swift.Store { return c.store }

// CheckPrefix refuses a Config.Prefix that no container's name can begin with.
func CheckPrefix(prefix string) error {
	most := swift.MaxContainerName - len(ident.NewVolume())
	if len(prefix) > most || strings.Contains(prefix, "/") || !utf8.ValidString(prefix) {
		return fmt.Errorf("%w: prefix %.80q: want at most %d bytes of UTF-8 without a slash", ErrInvalid, prefix, most)
	}
	return nil
}

// account names the account of a container. A volume without a record has left
// nothing in any.
func (c *Catalog) account(ctx context.Context, container string) (string, error) {
	id, err := c.owner(container)
	if err != nil {
		return accounts.Own, nil // not ours: the request will say so
	}
	if name, known := c.accountOf.Load(id); known {
		return name.(string), nil
	}
	v, _, err := c.volumes.Get(ctx, string(id))
	switch {
	case errors.Is(err, authority.ErrNotFound):
		return accounts.Own, nil
	case err == nil:
		c.accountOf.Store(id, v.Account) // for the volume's life
	}
	return v.Account, err
}

// container names the container of a volume.
func (c *Catalog) container(id ident.Volume) string { return c.config.Prefix + string(id) }

// owner is the inverse of container.
func (c *Catalog) owner(container string) (ident.Volume, error) {
	if id, ok := strings.CutPrefix(container, c.config.Prefix); ok {
		if v, err := ident.ParseVolume(id); err == nil {
			return v, nil
		}
	}
	return "", fmt.Errorf("container %.300q: %w", container, ErrForeign)
}

// errKeep makes change leave a record as it is.
var errKeep = errors.New("keep the record")

// changeTries bounds how often change meets another writer of the same record.
const changeTries = 16

// change edits the newest state of a record, again when another writer came
// first, and returns the state that is stored then. If edit returns errKeep,
// that is the present one. An absent record is ErrNotFound.
func change[T any](ctx context.Context, t authority.Table[T], key string, edit func(*T) error) (T, error) {
	var none T
	for range changeTries {
		v, version, err := t.Get(ctx, key)
		if err != nil {
			return none, absent(err)
		}
		if err := edit(&v); errors.Is(err, errKeep) {
			return v, nil
		} else if err != nil {
			return none, err
		}
		_, err = t.Update(ctx, key, v, version)
		if !errors.Is(err, authority.ErrConflict) {
			return v, err
		}
	}
	return none, ErrBusy
}

// taken replaces ErrNotFound for a record that a call is making: a sweep took
// the call for dead, or somebody deleted what it made. A repetition starts anew.
func taken(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: it was deleted meanwhile", ErrBusy)
	}
	return err
}

// remove deletes a record at the version that was read; that it is gone or has
// changed since is reported as done == false.
func remove[T any](ctx context.Context, t authority.Table[T], key string, version authority.Version) (done bool, err error) {
	err = t.Delete(ctx, key, version)
	if errors.Is(err, authority.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// absent turns the authority's ErrNotFound into the catalog's.
func absent(err error) error {
	if errors.Is(err, authority.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// failed says which operation on what an error is about; nil stays nil.
func failed(err error, operation, what string, id any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %q: %w", operation, what, id, err)
}

// busy refuses calls on what another call of this process works on. Nothing
// relies on it: it spares the store and the nodes work that is done already.
type busy struct {
	mu   sync.Mutex
	keys map[string]bool
}

// take claims a key until release, or returns ErrBusy.
func (b *busy) take(kind, key string) (release func(), err error) {
	key = kind + " " + key
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys[key] {
		return nil, ErrBusy
	}
	if b.keys == nil {
		b.keys = map[string]bool{}
	}
	b.keys[key] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.keys, key)
	}, nil
}
