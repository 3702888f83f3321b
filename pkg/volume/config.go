package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Config is what a volume stands on.
type Config struct {
	// Journal is the volume's journal, open; it names the volume and the epoch.
	// The volume closes it.
	Journal *delta.Journal

	// Store holds the volume's history, and Container what this epoch adds to it.
	Store     swift.Store
	Container string

	// Keys are the volume's, if it is encrypted; so is its journal then.
	Keys keys.Set

	// Head is the newest published root: of this epoch, or else the one that the
	// epoch continues, which for a clone is in another container. nil: blank.
	Head *snapshots.Root

	// Size is the size in bytes that the authority has recorded. The volume grows
	// to it when it is opened; 0 leaves it as it is.
	Size int64

	// Cache is shared by the volumes of a process; nil: a small one of its own.
	Cache *Cache

	// Traffic is shared by the volumes of a process; nil: one of its own.
	Traffic *Traffic

	// Await is waited for before an upload of data begins; nil: nothing is.
	Await func(context.Context) error

	// RPO is the age that unpublished writes may reach before they are sealed and
	// uploaded; 0: 60 s. It is also the period of looking for a fence.
	RPO time.Duration

	// SnapshotOnly seals for snapshots, at the close and when the journal becomes
	// half full, and not by age.
	SnapshotOnly bool

	// Scratch is for who only reads the volume: what is written all the same, by
	// the recovery of a file system, stays in the journal. Nothing is sealed,
	// uploaded or published, and no fence is looked for.
	Scratch bool

	// OnPublished is called, in order, for each root after it is stored and before
	// its layer leaves the journal: who keeps what it is given can open the volume
	// again without Swift. It is called again until it returns nil, or ErrFenced, for
	// which the fence is looked for. It may be nil.
	OnPublished func(context.Context, Published) error

	keys chunks.Keys // of all objects that the volume reads
	key  chunks.Key  // of those that it writes

	// What follows is for tests to change.

	// compact is how often packs of which little is needed are searched for, except
	// with SnapshotOnly; 0: once a day, negative: never.
	compact time.Duration

	// parallel bounds the uploads of this volume under way at one time; 0: 4. Each
	// may need 24 MiB of memory.
	parallel int

	// readAhead bounds how far ahead of a sequential reader is read, in bytes; 0:
	// 56 MiB, so that five chunks can be on their way while one is read and one
	// waits; negative: not at all. It is never more than what a full cache keeps of
	// new slots.
	readAhead int64

	// missing is how long a referenced object must stay absent before that is
	// proven damage; 0: 60 s.
	missing time.Duration

	// fenced tells whether the epoch is fenced (R7), asked before the volume serves,
	// before each root is published and every RPO. nil: whether the epoch's `f/` object is there.
	fenced func(context.Context) (bool, error)

	// pause is waited between attempts.
	pause backoff
	// ask is how long the opening waits for the answer whether the epoch is fenced,
	// and how soon after that one asks again.
	ask time.Duration
}

const defaultRPO = time.Minute

// Published is a generation that is stored.
type Published struct {
	Root   *snapshots.Root
	Object []byte // the root's bytes
}

// InitialState returns the state that the journal of a new epoch begins with:
// that of the root which it continues, nil if there is none, grown to size.
func InitialState(head *snapshots.Root, size int64) delta.State {
	if head == nil {
		return delta.State{Size: size}
	}
	return delta.State{Size: max(size, head.State.Size), Formatted: delta.Mark(head.State.Mark)}
}

// withDefaults checks the configuration and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Journal == nil, c.Store == nil, c.Container == "":
		return c, fmt.Errorf("journal, store and container are needed")
	case c.Size < 0, c.Size%chunks.Sector != 0, c.Size > snapshots.MaxSize:
		return c, fmt.Errorf("size %d: %w", c.Size, ErrOutOfRange)
	}
	if err := c.findKeys(); err != nil {
		return c, err
	}
	if c.Cache == nil {
		c.Cache = NewCache(16 << 20)
	}
	if c.Traffic == nil {
		c.Traffic = NewTraffic(0)
	}
	if c.RPO <= 0 {
		c.RPO = defaultRPO
	}
	if c.compact == 0 {
		c.compact = 24 * time.Hour
	}
	if c.parallel <= 0 {
		c.parallel = 4
	}
	if c.readAhead == 0 {
		c.readAhead = 7 * chunks.Size
	}
	c.readAhead = min(c.readAhead, c.Cache.slots.Fresh())
	if c.missing <= 0 {
		c.missing = time.Minute
	}
	if c.pause == (backoff{}) {
		c.pause = backoff{first: 100 * time.Millisecond, most: 10 * time.Second}
	}
	if c.ask == 0 {
		c.ask = 2 * time.Second
	}
	if c.fenced == nil {
		c.fenced = fencedBy(c.Store, c.Container, c.Journal.Identity().Epoch)
	}
	return c, nil
}

// findKeys finds the keys of the containers that the volume reads and writes. All of
// an encrypted volume is encrypted, and nothing of another: what could be read as
// plain text might be anybody's.
func (c *Config) findKeys() (err error) {
	if c.Journal.Encrypted() == c.Keys.IsZero() {
		return fmt.Errorf("the journal is encrypted: %v, the volume: %v", c.Journal.Encrypted(), !c.Keys.IsZero())
	}
	c.keys = chunks.Keys{}
	if c.Head != nil {
		for _, container := range c.Head.Containers {
			if container.Key == 0 && !c.Keys.IsZero() {
				return fmt.Errorf("container %s of an encrypted volume has no key: %w", container.Name, ErrDamaged)
			}
		}
		if c.keys, err = c.Head.Keys(c.Keys.Secrets); err != nil {
			return err
		}
	}
	if !c.Keys.IsZero() {
		c.key = chunks.Key{ID: c.Keys.Own, Secret: c.Keys.Secret()}
		c.keys[c.Container] = c.key
	}
	return nil
}
