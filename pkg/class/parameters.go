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
	// RPO is how old published data may grow while Swift keeps up, at least
	// [MinRPO]; 0 is "snapshot-only": nothing is uploaded between snapshots.
	RPO time.Duration
	// JournalSize is the quota of the delta store on the node, in bytes.
	JournalSize int64
	// FSType is the file system of mounted volumes.
	FSType string
}

const (
	// MinRPO bounds how often generations are made.
	MinRPO = time.Second
	// MinJournalSize leaves room for the segments of two generations.
	MinJournalSize = 512 << 20
	// MaxJournalSize is far above any sensible share of a node's disk.
	MaxJournalSize = 16 << 40
)

const snapshotOnly = "snapshot-only"

var fsTypes = []string{"ext4", "xfs"}

// parameter is one known key: its default and how a value is taken in.
type parameter struct {
	name, fallback string
	set            func(*Parameters, string) error
}

var known = []parameter{
	{"rpo", "60s", func(p *Parameters, s string) (err error) {
		if s == snapshotOnly {
			p.RPO = 0
			return nil
		}
		if p.RPO, err = time.ParseDuration(s); err != nil || p.RPO < MinRPO {
			return fmt.Errorf("want a duration of at least %v, or %q", MinRPO, snapshotOnly)
		}
		return nil
	}},
	{"journalSize", "10Gi", func(p *Parameters, s string) error {
		q, err := resource.ParseQuantity(s)
		if err != nil || q.Value() < MinJournalSize || q.Value() > MaxJournalSize {
			return fmt.Errorf("want a quantity from 512Mi to 16Ti")
		}
		p.JournalSize = q.Value()
		return nil
	}},
	{"fsType", "ext4", func(p *Parameters, s string) error {
		if !slices.Contains(fsTypes, s) {
			return fmt.Errorf("want one of %s", strings.Join(fsTypes, ", "))
		}
		p.FSType = s
		return nil
	}},
	only("chunkSize", "8Mi"),
	only("compression", "zstd"),
	only("encryption", "none"),
	only("prefetch", "none"),
}

// only is a parameter that takes one value so far. It is known all the same, so
// that a class which spells it out works, and a refusal says what is supported.
func only(name, value string) parameter {
	return parameter{name, value, func(_ *Parameters, s string) error {
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
	return fmt.Sprintf("storage class parameter %.64q = %.64q: %s", e.Name, e.Value, e.Reason)
}

// Parse takes in the parameters of a class; absent ones get their defaults. Every
// error is an [*Error].
func Parse(class map[string]string) (Parameters, error) {
	var p Parameters
	for _, k := range known {
		value, given := class[k.name]
		if !given {
			value = k.fallback
		}
		if err := k.set(&p, value); err != nil {
			return Parameters{}, &Error{k.name, value, err.Error()}
		}
	}
	for name, value := range class {
		if !slices.ContainsFunc(known, func(k parameter) bool { return k.name == name }) {
			return Parameters{}, &Error{name, value, "unknown; known are " + strings.Join(names(), ", ")}
		}
	}
	return p, nil
}

func names() []string {
	var all []string
	for _, k := range known {
		all = append(all, k.name)
	}
	return all
}
