package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// maxName is the longest CSI name, in bytes.
const maxName = 128

// namespace separates the names of volumes from those of snapshots.
type namespace string

const (
	volumeNames   namespace = "v"
	snapshotNames namespace = "s"
)

// key is the key of the claim on a name: names may hold any character.
func (n namespace) key(name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(n) + "-" + hex.EncodeToString(sum[:])
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: a name has 1 to %d bytes, not %d", ErrInvalid, maxName, len(name))
	}
	if !utf8.ValidString(name) { // the records could not hold it
		return fmt.Errorf("%w: the name %q is not UTF-8", ErrInvalid, name)
	}
	return nil
}

// claimTries bounds how often a name changes hands while one call looks at it.
const claimTries = 8

// named finds or makes the record that a name means.
//
// The record comes before the claim that points to it. So a claim without a
// record, or with a tombstoned one, is left from a deletion and may be dropped;
// a record without a claim is left from a call that died, or lost the race for
// the name, before it made anything else.
func named[T any](ctx context.Context, c *Catalog, n namespace, name string, table authority.Table[T],
	live func(T) bool, make func() (id string, v T, err error),
) (T, error) {
	var none T
	for range claimTries {
		claim, version, err := c.claims.Get(ctx, n.key(name))
		if err == nil {
			v, _, err := table.Get(ctx, claim.ID)
			if err == nil && live(v) {
				return v, nil
			}
			if err != nil && !errors.Is(err, authority.ErrNotFound) {
				return none, err
			}
			if _, err := remove(ctx, c.claims, n.key(name), version); err != nil {
				return none, err
			}
			continue
		}
		if !errors.Is(err, authority.ErrNotFound) {
			return none, err
		}
		id, v, err := make()
		if err != nil {
			return none, err
		}
		made, err := table.Create(ctx, id, v)
		if err != nil {
			return none, err
		}
		_, err = c.claims.Create(ctx, n.key(name), authority.Claim{Name: name, ID: id, Created: c.now()})
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, authority.ErrExists) {
			return none, err
		}
		if _, err := remove(ctx, table, id, made); err != nil {
			return none, err
		}
	}
	return none, ErrBusy
}

// drop frees a name if it still means id.
func (c *Catalog) drop(ctx context.Context, n namespace, name, id string) error {
	claim, version, err := c.claims.Get(ctx, n.key(name))
	if errors.Is(err, authority.ErrNotFound) || err == nil && claim.ID != id {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = remove(ctx, c.claims, n.key(name), version)
	return err
}

// holds reports whether a name means id at present.
func (c *Catalog) holds(ctx context.Context, n namespace, name, id string) (bool, error) {
	claim, _, err := c.claims.Get(ctx, n.key(name))
	if errors.Is(err, authority.ErrNotFound) {
		return false, nil
	}
	return err == nil && claim.ID == id, err
}
