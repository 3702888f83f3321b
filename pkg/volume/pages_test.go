package volume

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Pages of the table, which small volumes do not have, are stored before the root
// that names them, and one that is damaged or absent is an error, never data.
func TestDamagedPage(t *testing.T) {
	const n = 2100 // chunks, more than a root names by itself
	r := newRig(t, n*8*mib, nil)
	for i := range int64(n) {
		r.write(i*8*mib, noise(uint64(i), 512))
	}
	isPage := func(name string) bool { return strings.HasPrefix(name, chunks.PagePrefix) }
	refused := 0
	r.store.set(func(s *spy) {
		s.before = func(op, name string) error {
			if isPage(name) && op == "put" && refused < 10 {
				refused++
				return errAway
			}
			return nil
		}
	})
	root := r.close()
	if names, _ := r.store.put(); names[len(names)-1] != root.Ref.Name() || !slices.ContainsFunc(names, isPage) {
		t.Errorf("the root was not put after its pages: %v", names) // B3
	}
	r.store.set(func(s *spy) { s.before = nil })
	for what, hook := range map[string]func(*spy){
		"flipped": func(s *spy) {
			s.damage = func(name string, body []byte) {
				if strings.HasPrefix(name, chunks.PagePrefix) {
					body[len(body)/2] ^= 1
				}
			}
		},
		"absent": func(s *spy) {
			s.before = func(op, name string) error {
				if strings.HasPrefix(name, chunks.PagePrefix) {
					return fmt.Errorf("the test says: %w", swift.ErrNotFound)
				}
				return nil
			}
		},
	} {
		c := r.clone(root)
		c.store.set(hook)
		failed := 0
		for i := int64(0); i < n; i += 150 {
			p := make([]byte, 512)
			if err := within(t, func() error { return c.ReadAt(c.ctx, p, i*8*mib) }); err != nil {
				failed++
				wantIs(t, err, ErrDamaged)
				if !strings.Contains(err.Error(), chunks.PagePrefix) {
					t.Errorf("%s: %q does not name the page", what, err)
				}
			} else if !slices.Equal(p, noise(uint64(i), 512)) {
				t.Errorf("%s: wrong data in chunk %d", what, i)
			}
		}
		if failed == 0 {
			t.Errorf("%s: no read needed a page", what)
		}
		c.store.set(func(s *spy) { s.damage, s.before = nil, nil })
		for i := int64(0); i < n; i += 150 {
			c.want(i*8*mib, noise(uint64(i), 512))
		}
	}
}
