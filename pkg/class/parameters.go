// Package class is the StorageClass as csi-swiftblock understands it: typed
// parameters with their defaults, and the refusal of everything else by name.
package class

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Parameters of a StorageClass. The zero value is not valid; use [Parse].
type Parameters struct {
	Mutable
	// JournalSize is the quota of the delta store on the node, in bytes.
	JournalSize int64
	// Encrypted: all that is stored of the volume is, in Swift and in journals.
	Encrypted bool
	// FSType is the file system of mounted volumes.
	FSType string
}

// Mutable are the parameters that a VolumeAttributesClass may change while the
// volume is in use: none of them has a part in what is stored.
type Mutable struct {
	// RPO is how old published data may grow while Swift keeps up, at least
	// [MinRPO]; 0 is "snapshot-only": nothing is uploaded between snapshots.
	RPO time.Duration
	// IOPS and Bandwidth, in bytes per second, bound what the volume's user reads
	// and writes together; 0: no bound.
	IOPS, Bandwidth int64
	// UploadBandwidth bounds what the volume uploads, in bytes per second; 0: no
	// bound. Data that is written faster than this grows older than RPO.
	UploadBandwidth int64
}

const (
	// MinRPO bounds how often generations are made.
	MinRPO = time.Second
	// MinJournalSize leaves room for the segments of two generations.
	MinJournalSize = 512 << 20
	// DefaultJournalSize is that of a class which does not say.
	DefaultJournalSize = 10 << 30
	// MaxJournalSize is far above any sensible share of a node's disk, and a segment
	// less than 16 TiB: more blocks than that have no number.
	MaxJournalSize = 16<<40 - 64<<20
	// MinIOPS and MinBandwidth let a kernel still mount and sync a file system.
	MinIOPS      = 10
	MinBandwidth = 1 << 20
	// MaxLimit is above what any volume does.
	MaxLimit = 1 << 40
)

const (
	snapshotOnly = "snapshot-only"
	unlimited    = "none"
	encryption   = "aes-256-gcm"
)

var fsTypes = []string{"ext4", "xfs"}

// parameter is one known key: its default and how a value is taken in.
type parameter struct {
	name, fallback string
	mutable        bool
	set            func(*Parameters, string) error
}

var known = []parameter{
	{"rpo", "60s", true, func(p *Parameters, s string) (err error) {
		if s == snapshotOnly {
			p.RPO = 0
			return nil
		}
		if p.RPO, err = time.ParseDuration(s); err != nil || p.RPO < MinRPO {
			return fmt.Errorf("want a duration of at least %v, or %q", MinRPO, snapshotOnly)
		}
		return nil
	}},
	limit("iops", MinIOPS, func(p *Parameters) *int64 { return &p.IOPS }),
	limit("bandwidth", MinBandwidth, func(p *Parameters) *int64 { return &p.Bandwidth }),
	limit("uploadBandwidth", MinBandwidth, func(p *Parameters) *int64 { return &p.UploadBandwidth }),
	{"journalSize", "10Gi", false, func(p *Parameters, s string) error {
		q, err := resource.ParseQuantity(s)
		if err != nil || q.Value() < MinJournalSize || q.Value() > MaxJournalSize {
			return fmt.Errorf("want a quantity from 512Mi to less than 16Ti")
		}
		p.JournalSize = q.Value()
		return nil
	}},
	{"fsType", "ext4", false, func(p *Parameters, s string) error {
		if !slices.Contains(fsTypes, s) {
			return fmt.Errorf("want one of %s", strings.Join(fsTypes, ", "))
		}
		p.FSType = s
		return nil
	}},
	only("chunkSize", "8Mi"),
	only("compression", "zstd"),
	{"encryption", "none", false, func(p *Parameters, s string) error {
		if s != "none" && s != encryption {
			return fmt.Errorf("want none or %s", encryption)
		}
		p.Encrypted = s == encryption
		return nil
	}},
	only("prefetch", "none"),
}

// limit is a bound per second that can be none.
func limit(name string, least int64, field func(*Parameters) *int64) parameter {
	return parameter{name, unlimited, true, func(p *Parameters, s string) error {
		if s == unlimited {
			*field(p) = 0
			return nil
		}
		q, err := resource.ParseQuantity(s)
		if err != nil || q.Value() < least || q.Value() > MaxLimit {
			return fmt.Errorf("want a quantity per second of at least %d, or %q", least, unlimited)
		}
		*field(p) = q.Value()
		return nil
	}}
}

// only is a parameter that takes one value so far. It is known all the same, so
// that a class which spells it out works, and a refusal says what is supported.
func only(name, value string) parameter {
	return parameter{name, value, false, func(_ *Parameters, s string) error {
		if s != value {
			return fmt.Errorf("only %q is supported", value)
		}
		return nil
	}}
}

// Error is a parameter that is unknown or has a value that is not possible.
type Error struct {
	Name, Value string
	Reason      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("class parameter %.64q = %.64q: %s", e.Name, e.Value, e.Reason)
}

// Parse takes in the parameters of a class; absent ones get their defaults. Every
// error is an [*Error].
func Parse(class map[string]string) (Parameters, error) {
	var p Parameters
	if err := p.take(known, class, "unknown; known are "); err != nil {
		return Parameters{}, err
	}
	return p, nil
}

// CheckMutable refuses what a VolumeAttributesClass cannot change. Every error is
// an [*Error].
func CheckMutable(class map[string]string) error {
	mutable := slices.DeleteFunc(slices.Clone(known), func(k parameter) bool { return !k.mutable })
	return new(Parameters).take(mutable, class, "unknown, or fixed for the volume's life; what may change are ")
}

// take sets what a class says of the parameters that are allowed, and says of
// others what they are not.
func (p *Parameters) take(allowed []parameter, class map[string]string, others string) error {
	var names []string
	for _, k := range allowed {
		names = append(names, k.name)
		value, given := class[k.name]
		if !given {
			value = k.fallback
		}
		if err := k.set(p, value); err != nil {
			return &Error{k.name, value, err.Error()}
		}
	}
	for name, value := range class {
		if !slices.Contains(names, name) {
			return &Error{name, value, others + strings.Join(names, ", ")}
		}
	}
	return nil
}
