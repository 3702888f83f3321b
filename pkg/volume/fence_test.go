package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// After a fence no root is put, I/O fails, and the journal is kept (R7).
func TestFence(t *testing.T) {
	r := newRig(t, mib, nil)
	r.write(0, noise(1, 4096))
	r.publish("")
	fence := func(e ident.Epoch) {
		_, err := r.store.Put(r.ctx, r.container, chunks.FenceName(e.Number), []byte(e.String()), swift.PutOptions{})
		r.must(err)
	}
	fence(ident.NewEpoch(r.epoch.Number)) // of another epoch with this number
	r.write(4096, noise(2, 4096))
	r.publish("")
	fence(r.epoch)
	r.store.reset()
	r.write(8192, noise(3, 4096))
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	_, err = r.Published(r.ctx, gen)
	wantIs(t, err, ErrFenced)
	wantIs(t, r.WriteAt(r.ctx, make([]byte, 512), 0, true), ErrFenced)
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 512), 0), ErrFenced)
	wantIs(t, r.Flush(r.ctx), ErrFenced)
	_, err = r.Close(r.ctx)
	wantIs(t, err, ErrFenced)
	names, _ := r.store.put()
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, chunks.RootPrefix) }) {
		t.Errorf("fenced, it put %v", names)
	}
	r.must(r.Stop())
	r.tune = func(c *Config) { c.fenced = func(context.Context) (bool, error) { return false, nil } }
	r.open()
	r.want(8192, noise(3, 4096))
}

// A fence that a flipped bit turns into that of another epoch is no answer: no
// root is published without one.
func TestFlippedFenceFences(t *testing.T) {
	r := newRig(t, mib, nil)
	_, err := r.store.Put(r.ctx, r.container, chunks.FenceName(r.epoch.Number), []byte(r.epoch.String()), swift.PutOptions{})
	r.must(err)
	flips := 0
	r.store.damage = func(name string, body []byte) {
		if strings.HasPrefix(name, "f/") && flips < 3 {
			flips++
			body[len(body)-1] ^= 1
		}
	}
	r.write(0, noise(1, 4096))
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	_, err = r.Published(r.ctx, gen)
	wantIs(t, err, ErrFenced)
	if flips != 3 {
		t.Errorf("%d of 3 bits were flipped", flips)
	}
}

// The watch finds a fence of a volume that publishes nothing.
func TestFenceIsWatchedFor(t *testing.T) {
	fenced := make(chan bool, 1)
	r := newRig(t, mib, func(c *Config) {
		c.RPO, c.SnapshotOnly = 5*time.Millisecond, true
		c.fenced = func(context.Context) (bool, error) {
			select {
			case <-fenced:
				return true, nil
			default:
				return false, errAway
			}
		}
	})
	time.Sleep(30 * time.Millisecond)
	r.write(0, noise(1, 512)) // not knowing is no reason to stop
	fenced <- true
	waitFor(t, func() bool { return errors.Is(r.Err(), ErrFenced) })
	wantIs(t, r.WriteAt(r.ctx, make([]byte, 512), 0, false), ErrFenced)
}

// A zombie that is started again acknowledges nothing and shows nothing: it asks
// before it serves, and where nobody answers as soon as somebody does, long before
// the next RPO. That nobody answers does not keep it from serving (P9).
func TestFenceIsAskedForAtOpening(t *testing.T) {
	r := newRig(t, mib, nil)
	r.write(0, noise(1, 4096))
	answers := make(chan bool, 1)
	away := func(ctx context.Context) (bool, error) {
		select {
		case fenced := <-answers:
			return fenced, nil
		case <-ctx.Done():
		}
		select { // who was held up until now, and has an answer
		case fenced := <-answers:
			return fenced, nil
		default:
			return false, ctx.Err()
		}
	}
	r.must(r.Stop())
	r.tune = func(c *Config) { c.fenced, c.ask = away, 20*time.Millisecond }
	r.open()
	r.want(0, noise(1, 4096))
	r.write(4096, noise(2, 4096))
	answers <- true
	waitFor(t, func() bool { return errors.Is(r.Err(), ErrFenced) })

	r.must(r.Stop())
	answers <- true
	r.open()
	wantIs(t, r.Err(), ErrFenced)
	wantIs(t, r.WriteAt(r.ctx, make([]byte, 512), 0, true), ErrFenced)
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 512), 0), ErrFenced)
	_, err := r.Close(r.ctx)
	wantIs(t, err, ErrFenced)

	r.must(r.Stop())
	answers <- false
	r.open()
	r.want(4096, noise(2, 4096))
}
