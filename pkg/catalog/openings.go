package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// Confirmation is a node's request for the epoch of its journal.
type Confirmation struct {
	Volume   ident.Volume
	Node     string
	Endpoint string // where the node's Exports service answers
	Journal  string // random id, synced by the node before it asks
	Reader   bool   // the node only reads the volume: Journal is a scratch journal
	// Epoch is the journal's, if the node knows it: then no other is opened.
	Epoch ident.Epoch
}

// Opening is what a node needs to open a volume.
type Opening struct {
	Epoch      ident.Epoch // zero: of a reader
	Container  string
	Head       *authority.Root // nil: blank
	Size       int64           // bytes
	Parameters map[string]string
	Account    string        // that Container and what its root names are in
	Keys       *keys.Wrapped // nil: not encrypted
}

// Confirm gives the epoch of a journal (R5): the same for the same journal, a
// new one for any other, and none for that of a reader, who may as well not ask
// again. ErrInUse: the volume is not published to this node, or not for this.
// ErrFenced, ErrClosed: the epoch of this journal has ended.
func (c *Catalog) Confirm(ctx context.Context, r Confirmation) (Opening, error) {
	o, err := c.confirm(ctx, r)
	return o, failed(err, "confirm an epoch of", "volume", r.Volume)
}

func (c *Catalog) confirm(ctx context.Context, r Confirmation) (Opening, error) {
	if r.Node == "" || r.Journal == "" {
		return Opening{}, fmt.Errorf("%w: no node or no journal", ErrInvalid)
	}
	release, err := c.busy.take("volume", string(r.Volume))
	if err != nil {
		return Opening{}, err
	}
	defer release()
	v, err := c.readyVolume(ctx, r.Volume)
	if err != nil {
		return Opening{}, c.missing(ctx, r.Volume, err)
	}
	if r.Reader {
		if o := reading(v, r.Node); o != nil {
			return *o, nil
		}
		return Opening{}, fmt.Errorf("%w: it is not published to node %q to be read", ErrInUse, r.Node)
	}
	// That its epoch is over matters more to a node than that the volume has
	// gone elsewhere.
	if err := ended(v, r.Journal); err != nil {
		return Opening{}, err
	}
	if r.Epoch.Number > v.Opening.Epoch.Number {
		return Opening{}, c.outdated(ctx, v, laterEpoch(r.Epoch, v))
	}
	if !r.Epoch.IsZero() && v.Opening.Epoch != r.Epoch {
		return Opening{}, fmt.Errorf("%w: epoch %s is no longer remembered", ErrFenced, r.Epoch)
	}
	if err := boundTo(v, r.Node); err != nil {
		return Opening{}, err
	}
	if v.Opening.Open && v.Opening.Journal != r.Journal {
		if v, err = c.endLost(ctx, v); err != nil {
			return Opening{}, err
		}
	}
	if v, err = c.open(ctx, v, r); err != nil {
		return Opening{}, err
	}
	epoch := v.Opening.Epoch
	if err := c.putOnce(ctx, v.Container, chunks.EpochName(epoch.Number), markBody(epoch), ErrRolledBack); err != nil {
		return Opening{}, err
	}
	// Only now: a recovery that did not see this epoch has put its descriptor before.
	if _, err := c.checkOwner(ctx, v); err != nil {
		return Opening{}, err
	}
	return Opening{Epoch: epoch, Container: v.Container, Head: v.Head, Size: v.Size, Parameters: Parameters(v), Account: v.Account, Keys: v.Keys}, nil
}

// laterEpoch says why the record of a volume must be an old copy: epochs only grow.
func laterEpoch(has ident.Epoch, v authority.Volume) string {
	return fmt.Sprintf("a node has epoch %d, %d is recorded", has.Number, v.Opening.Epoch.Number)
}

// boundTo reports as ErrInUse that a volume is not published to a node to be
// written there.
func boundTo(v authority.Volume, node string) error {
	if v.Binding == nil || v.Binding.Node != node {
		return fmt.Errorf("%w: it is not published to node %q", ErrInUse, node)
	}
	return nil
}

// endedKept is how many ended journals a record remembers: more than can be on
// their way through the network at a time.
const endedKept = 8

// remember notes that the epoch of a journal has ended.
func remember(v *authority.Volume, journal string, lost bool) {
	v.Ended = slices.Insert(v.Ended, 0, authority.Ended{Journal: journal, Lost: lost})
	v.Ended = v.Ended[:min(len(v.Ended), endedKept)]
}

// ended reports how the epoch of a journal has ended; nil if it has not, or is
// not remembered.
func ended(v authority.Volume, journal string) error {
	lost := v.Opening.Lost
	if v.Opening.Journal != journal || v.Opening.Open {
		i := slices.IndexFunc(v.Ended, func(e authority.Ended) bool { return e.Journal == journal })
		if i < 0 {
			return nil
		}
		lost = v.Ended[i].Lost
	}
	if lost {
		return ErrFenced
	}
	return ErrClosed
}

// open records that a journal's epoch is open: the one it has, or the next.
func (c *Catalog) open(ctx context.Context, seen authority.Volume, r Confirmation) (authority.Volume, error) {
	if seen.Opening.Journal != r.Journal {
		if err := c.unused(ctx, seen); err != nil {
			return seen, err
		}
	}
	return c.changeVolume(ctx, r.Volume, func(v *authority.Volume) error {
		if err := boundTo(*v, r.Node); err != nil {
			return err
		}
		o := &v.Opening
		switch {
		case o.Journal == r.Journal && o.Open && o.Endpoint == r.Endpoint:
			return errKeep
		case o.Journal == r.Journal && o.Open:
			o.Endpoint = r.Endpoint
			return nil
		case o.Epoch != seen.Opening.Epoch:
			return ErrBusy // another controller gave out the number that was looked for
		}
		if err := ended(*v, r.Journal); err != nil {
			return err
		}
		if !o.Epoch.IsZero() {
			remember(v, o.Journal, o.Lost)
		}
		*o = authority.Opening{
			Epoch: ident.NewEpoch(o.Epoch.Number + 1), Journal: r.Journal,
			Node: r.Node, Endpoint: r.Endpoint, Open: true,
		}
		return nil
	})
}

// epochsAhead is how many numbers above the recorded epoch must be unused.
const epochsAhead = 8

// unused looks for epochs in Swift that the authority does not know: then it is
// an old copy, and the number to be given out has been given out before.
func (c *Catalog) unused(ctx context.Context, v authority.Volume) error {
	looks, ctx := errgroup.WithContext(ctx)
	for n := v.Opening.Epoch.Number + 1; n <= v.Opening.Epoch.Number+epochsAhead; n++ {
		looks.Go(func() error {
			if used, err := c.exists(ctx, v.Container, chunks.EpochName(n)); err != nil || !used {
				return err
			}
			return c.outdated(ctx, v, fmt.Sprintf("epoch %d exists, %d is recorded", n, v.Opening.Epoch.Number))
		})
	}
	return looks.Wait()
}

// markBody is the body of e/<number> and f/<number>.
func markBody(e ident.Epoch) []byte { return []byte(e.String()) }

// Report is a node's word on the open epoch of its journal.
type Report struct {
	Volume  ident.Volume
	Node    string
	Journal string
	Root    *authority.Root // newest published; nil: none in this epoch
}

// Published records a root of an open epoch. ErrFenced: the epoch has ended.
func (c *Catalog) Published(ctx context.Context, r Report) error {
	_, err := c.changeVolume(ctx, r.Volume, func(v *authority.Volume) error {
		if v.Opening.Journal != r.Journal || !v.Opening.Open {
			return ErrFenced
		}
		return advance(v, r.Root)
	})
	return failed(err, "record a root of", "volume", r.Volume)
}

// Closed ends an epoch (R6): everything that its journal held is in the root. A
// journal that held nothing, of which no epoch is known, may be closed as well:
// its Confirm was never answered, and is refused from now on.
func (c *Catalog) Closed(ctx context.Context, r Report) error {
	_, err := c.changeVolume(ctx, r.Volume, func(v *authority.Volume) error {
		switch err := ended(*v, r.Journal); {
		case errors.Is(err, ErrClosed):
			return errKeep // the answer was lost
		case err != nil:
			return err
		case v.Opening.Journal == r.Journal:
			v.Opening.Open = false
			if err := advance(v, r.Root); !errors.Is(err, errKeep) {
				return err
			}
			return nil
		case r.Root != nil && r.Root.Epoch.Number > v.Opening.Epoch.Number:
			return fmt.Errorf("%w: %s", ErrRolledBack, laterEpoch(r.Root.Epoch, *v))
		case r.Root != nil:
			return ErrFenced
		}
		remember(v, r.Journal, false)
		return nil
	})
	switch {
	case errors.Is(err, ErrNotFound) && r.Root == nil:
		err = nil // there is no volume, and the journal held nothing of it
	case err != nil:
		err = c.missing(ctx, r.Volume, err)
	}
	return failed(err, "close", "volume", r.Volume)
}

// missing looks behind ErrNotFound for a volume that a node has: where Swift has it and the
// authority has no record, that is new or an old copy, and the node must not take the
// volume for deleted.
func (c *Catalog) missing(ctx context.Context, id ident.Volume, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if _, malformed := ident.ParseVolume(string(id)); malformed != nil {
		return err
	}
	switch _, _, again := c.volumes.Get(ctx, string(id)); {
	case again == nil:
		return err // it is deleted
	case !errors.Is(again, authority.ErrNotFound):
		return again // which says nothing of the volume
	}
	if unknown := c.unknown(ctx, id); unknown != nil {
		return unknown
	}
	return err
}

// advance makes r the head of a volume unless that is at least as new.
func advance(v *authority.Volume, r *authority.Root) error {
	switch head := v.Head; {
	case r == nil || head != nil && *head == *r:
		return errKeep
	case r.Container != v.Container || r.Epoch != v.Opening.Epoch:
		return fmt.Errorf("%w: root %s.%d in %q is not of the open epoch %s", ErrInvalid, r.Epoch, r.Generation, r.Container, v.Opening.Epoch)
	case head != nil && head.Epoch == r.Epoch && head.Generation >= r.Generation:
		return errKeep // reports may overtake each other
	}
	v.Head = r
	return nil
}
