package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// Volume is what the authority knows of a volume. Its key is its ID.
type Volume struct {
	ID        ident.Volume `json:"id"`
	Name      string       `json:"name"`      // the CSI name it was created under
	Container string       `json:"container"` // in Swift
	// Account names the Swift account that the container is in; "" is the
	// controller's own. Nothing of it is secret.
	Account    string            `json:"account,omitempty"`
	Size       int64             `json:"size"` // bytes; only grows
	Parameters map[string]string `json:"parameters,omitempty"`
	// Mutable are the parameters of its VolumeAttributesClass; they come before
	// those of the same names in Parameters.
	Mutable map[string]string `json:"mutable,omitempty"`
	// Keys are those of an encrypted volume, wrapped by the key of its class; nil: it
	// is not encrypted. They are there from the first record on, and never change, but
	// for what wraps them: what is encrypted with keys that were drawn twice is lost.
	Keys *keys.Wrapped `json:"keys,omitempty"`
	// Rewrapping is the same keys, wrapped by another key of a class, when the next
	// descriptor is about to be put with them; else nil.
	Rewrapping *keys.Wrapped `json:"rewrapping,omitempty"`
	Created    time.Time     `json:"created"`
	State      State         `json:"state"`
	Deleted    time.Time     `json:"deleted,omitzero"` // the tombstone's date; zero: no sweep has seen it yet
	// Descriptor is the number n of the newest object volume.<n>: it says whose the
	// container is. A higher one in Swift was written by who recovered another
	// authority.
	Descriptor uint64 `json:"descriptor"`

	// Origin is what the volume was made from; nil for an empty one.
	Origin *Origin `json:"origin,omitempty"`
	// Binding is the node that the volume is published to, to be written there;
	// nil for none. It and Readers exclude each other.
	Binding *Binding `json:"binding,omitempty"`
	// Readers are the nodes that the volume is published to, to be read only.
	Readers []Reader `json:"readers,omitempty"`
	// Opening is the last epoch that was given out; its number never falls.
	Opening Opening `json:"opening"`
	// Ended lists the journals of the last epochs before that one, newest first:
	// a request of one of them that arrives late is not taken for a new journal.
	Ended []Ended `json:"ended,omitempty"`
	// Head is the newest root recorded; nil for a blank volume. A clone's first
	// head is its origin's root, in the origin's container.
	Head *Root `json:"head,omitempty"`
	// Recovered tells how an epoch was ended without its node; nil if never.
	Recovered *Recovery `json:"recovered,omitempty"`
}

// State is where a volume or a snapshot is in its life.
type State string

const (
	// Creating: not yet usable; a repetition of the call that creates it continues.
	Creating State = "creating"
	// Importing: a volume that an import fills; invisible until it is complete.
	Importing State = "importing"
	// Recovering: a volume that was found in Swift; invisible until all that
	// refers to it was found, too.
	Recovering State = "recovering"
	// Ready to be used.
	Ready State = "ready"
	// Failed: a snapshot whose cut was lost with its node. It can only be deleted.
	Failed State = "failed"
	// Deleted is the tombstone: the record stays until the objects are gone.
	Deleted State = "deleted"
)

// Root names a root object and proves it.
type Root struct {
	Container  string      `json:"container"`
	Epoch      ident.Epoch `json:"epoch"`
	Generation uint64      `json:"generation,string"` // JSON numbers end at 63 bits for some
	Hash       Hash        `json:"hash"`
}

// Origin is the source of a clone or of a restored volume: exactly one of
// Volume and Snapshot is set.
type Origin struct {
	Volume   ident.Volume   `json:"volume,omitempty"`
	Snapshot ident.Snapshot `json:"snapshot,omitempty"`
	// Since is, where the source is a volume, the number of its first epoch that
	// may hold the cut for this child.
	Since uint64 `json:"since,omitempty"`
	// Chosen says that Root is decided; it does not change after that.
	Chosen bool `json:"chosen,omitempty"`
	// Root is the root that the volume starts from; nil for a blank source.
	Root *Root `json:"root,omitempty"`
	// Pinned lists the volumes whose containers the child's dictionary names.
	// It is recorded before the first pin is made: it says what to undo.
	Pinned []ident.Volume `json:"pinned,omitempty"`
}

// Binding is a volume's publication to the node that may write it.
type Binding struct {
	Node string `json:"node"`
}

// Reader is a volume's publication to a node that only reads it. It takes no
// epoch, and nothing that the node does reaches the volume's history.
type Reader struct {
	Node string `json:"node"`
	// Alone says that no other node was to have the volume beside this one.
	Alone bool `json:"alone,omitempty"`
	// Root is what the node reads, and is kept for it; nil for a blank volume.
	Root *Root `json:"root,omitempty"`
}

// Opening is one epoch: one life of one journal (R5).
type Opening struct {
	Epoch    ident.Epoch `json:"epoch"`              // zero: never opened
	Journal  string      `json:"journal,omitempty"`  // the random id that the node stored first
	Node     string      `json:"node,omitempty"`     // which holds the journal
	Endpoint string      `json:"endpoint,omitempty"` // where its export process answers
	Open     bool        `json:"open,omitempty"`     // the journal may hold what no root holds
	Lost     bool        `json:"lost,omitempty"`     // ended without its node: the journal is fenced off
}

// Ended is a journal whose epoch has ended.
type Ended struct {
	Journal string `json:"journal"`
	Lost    bool   `json:"lost,omitempty"` // as in Opening
}

// Recovery is the end of an epoch whose node could not hand it over.
type Recovery struct {
	Epoch ident.Epoch `json:"epoch"` // that was lost
	Node  string      `json:"node"`  // with its journal
	At    time.Time   `json:"at"`
	// Newest is when the adopted root was written, as Swift dates it: writes
	// after it are lost. Zero if there was no root to adopt.
	Newest time.Time `json:"newest,omitzero"`
}

// Snapshot is what the authority knows of a snapshot. Its key is its ID.
type Snapshot struct {
	ID        ident.Snapshot `json:"id"`
	Name      string         `json:"name"` // the CSI name it was created under
	Source    ident.Volume   `json:"source"`
	Container string         `json:"container"` // the source's
	Since     uint64         `json:"since"`     // number of the source's first epoch that may hold the cut
	Created   time.Time      `json:"created"`
	State     State          `json:"state"`
	Deleted   time.Time      `json:"deleted,omitzero"` // as in Volume
	// Size is that of the cut, in bytes; 0 until the cut is decided.
	Size int64 `json:"size,omitempty"`
	// Root is the cut, once it is decided; nil then for one of a blank volume.
	Root *Root `json:"root,omitempty"`
}

// Claim says which volume or snapshot a CSI name means at present.
type Claim struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// Pin keeps the objects of a volume's container for a child elsewhere.
type Pin struct {
	Owner   ident.Volume `json:"owner"`
	Child   ident.Volume `json:"child"`
	Root    Root         `json:"root"` // what the child starts from
	Created time.Time    `json:"created"`
}

// PinKey is the key of a pin: those of one owner are neighbours.
func PinKey(owner, child ident.Volume) string { return string(owner) + "." + string(child) }

// GivenUp says of a node that it will not come back by itself.
type GivenUp struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
}

// NodeKey is the key of what is said of a node, whose id may be any text.
func NodeKey(node string) string {
	sum := sha256.Sum256([]byte(node))
	return hex.EncodeToString(sum[:])
}

// Hash is a SHA-256, in JSON as 64 hexadecimal digits.
type Hash [32]byte

// MarshalText implements [encoding.TextMarshaler].
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("hash of %d characters, want %d", len(text), 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}
