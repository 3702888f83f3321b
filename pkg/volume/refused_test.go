package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// A store that takes nothing, for whatever reason, is told about with the volume's
// name and a remedy; writes and flushes go on, nothing is published by halves, and
// all of it is when the reason is gone.
func TestRefusedUploads(t *testing.T) {
	for kind, remedy := range map[error]string{
		swift.ErrQuota:        "have the quota raised",
		swift.ErrUnauthorized: "check user, key and project",
		swift.ErrUnavailable:  "check that the store runs",
	} {
		r := newRig(t, 64*mib, nil)
		r.write(0, noise(1, 8*mib))
		before := r.publish("")
		r.store.set(func(s *spy) {
			s.before = func(op, name string) error {
				if op != "put" {
					return nil
				}
				return &swift.Error{Op: op, Container: r.container, Object: name, Kind: kind}
			}
		})
		r.write(0, noise(2, 6*mib))
		r.write(16*mib, noise(3, 4096))
		gen, err := r.Seal(r.ctx, "")
		r.must(err)
		waitFor(t, func() bool { return errors.Is(r.Stats().Failing, kind) })
		if said := r.Stats().Failing.Error(); !strings.Contains(said, string(r.id)) || !strings.Contains(said, remedy) {
			t.Errorf("%q names no volume, or no remedy", said)
		}
		r.write(24*mib, noise(4, 4096))
		r.must(r.Flush(r.ctx))
		r.want(0, noise(2, 6*mib))
		if names, err := r.store.List(r.ctx, r.container, chunks.RootPrefix, "", 0); err != nil || len(names) != 1 {
			t.Errorf("roots %v, %v", names, err)
		}
		r.clone(before).want(0, noise(1, 8*mib))

		r.store.set(func(s *spy) { s.before = nil })
		root, err := r.Published(r.ctx, gen)
		r.must(err)
		c := r.clone(root)
		c.want(0, noise(2, 6*mib))
		c.want(16*mib, noise(3, 4096))
		c.want(24*mib, make([]byte, 4096))
	}
}
