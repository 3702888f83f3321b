package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

var errAway = fmt.Errorf("the test says: %w", swift.ErrUnavailable)

// patience is with a busy machine and a slow disk.
const patience = 40 * time.Second

// waitFor waits until cond holds.
func waitFor(t tester, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

// mixed leaves a closed volume whose chunk 0 is a full chunk and whose chunk 1 is
// a patch, and returns it opened again with nothing cached.
func mixed(t *testing.T) *rig {
	r := newRig(t, 32*mib, nil)
	r.write(0, noise(1, 8*mib))
	r.write(8*mib, noise(2, 64<<10))
	r.head = r.close()
	r.nextEpoch()
	return r
}

// Whatever object is damaged or absent, a read of what it holds is an error that
// names volume and object, and never data or zeros (P7, B13, B16).
func TestDamageIsNeverData(t *testing.T) {
	for _, kind := range []struct {
		prefix string
		off    int64
	}{
		{chunks.ChunkPrefix, 0}, {chunks.PackPrefix, 8 * mib},
	} {
		for what, hook := range map[string]func(*spy){
			"a bit flipped": func(s *spy) {
				s.damage = func(name string, body []byte) {
					if strings.HasPrefix(name, kind.prefix) && len(body) > 0 {
						body[len(body)/2] ^= 1
					}
				}
			},
			"a byte of the end flipped": func(s *spy) {
				s.damage = func(name string, body []byte) {
					if strings.HasPrefix(name, kind.prefix) && len(body) > 0 {
						body[len(body)-1] ^= 0xff
					}
				}
			},
			"cut short": func(s *spy) {
				s.cut = func(name string, body []byte) []byte {
					if strings.HasPrefix(name, kind.prefix) {
						return body[:len(body)/2]
					}
					return body
				}
			},
			"absent": func(s *spy) {
				s.before = func(op, name string) error {
					if op == "get" && strings.HasPrefix(name, kind.prefix) {
						return fmt.Errorf("the test says: %w", swift.ErrNotFound)
					}
					return nil
				}
			},
			"of another chunk": func(s *spy) {
				s.swap = func(name string) string {
					if strings.HasPrefix(name, kind.prefix) {
						return "other"
					}
					return name
				}
			},
		} {
			t.Run(kind.prefix+" "+what, func(t *testing.T) {
				r := mixed(t)
				r.must(putOther(r))
				r.store.set(hook)
				p := make([]byte, 4096)
				err := within(t, func() error { return r.ReadAt(r.ctx, p, kind.off) })
				wantIs(t, err, ErrDamaged)
				all := make([]byte, 8*mib) // read in another way than a part
				wantIs(t, within(t, func() error { return r.ReadAt(r.ctx, all, kind.off) }), ErrDamaged)
				for _, part := range []string{string(r.id), kind.prefix} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not name %s", err, part)
					}
				}
				other := 8*mib - kind.off
				r.want(other, noise(uint64(1+other/(8*mib)), 8192)[:4096])
				// It is no verdict on the volume: new data hides the damage.
				r.write(kind.off, p)
				r.want(kind.off, p)
				r.store.set(func(s *spy) { s.damage, s.cut, s.before, s.swap = nil, nil, nil, nil })
				r.want(kind.off+4096, noise(uint64(1+kind.off/(8*mib)), 8192)[4096:])
			})
		}
	}
}

// A damaged pack costs the bytes that only it holds: what is written afterwards is
// stored, although the chunk has as many patches as it may and cannot merge all.
func TestDamageDoesNotStopPublication(t *testing.T) {
	r := newRig(t, 8*mib, nil)
	want := noise(1, 64<<10)
	for i := range snapshots.MaxPatches {
		r.write(int64(i)*4096, want[i*4096:][:4096])
		r.publish("")
	}
	bad := chunks.PackName(r.epoch, 3, 0, r.journal.OpenID())
	r.restart()
	r.store.set(func(s *spy) {
		s.damage = func(name string, body []byte) {
			if name == bad {
				body[len(body)-1] ^= 1
			}
		}
	})
	for i := snapshots.MaxPatches; i < 16; i++ {
		r.write(int64(i)*4096, want[i*4096:][:4096])
		r.publish("")
	}
	r.head = r.close()
	r.nextEpoch()
	r.want(3*4096, want[3*4096:])
	// What is before it cannot be told from what it may have held.
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 4096), 2*4096), ErrDamaged)
}

// Half of a chunk can be written although what the rest of it was is damaged.
func TestDamageDoesNotStopRewrites(t *testing.T) {
	r := mixed(t)
	r.store.set(func(s *spy) {
		s.damage = func(name string, body []byte) {
			if strings.HasPrefix(name, chunks.ChunkPrefix) {
				body[len(body)-1] ^= 1
			}
		}
	})
	for i := range 10 {
		r.write(0, noise(uint64(i), 5*mib))
		r.publish("")
	}
	r.head = r.close()
	r.nextEpoch()
	r.want(0, noise(9, 5*mib))
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 512), 6*mib), ErrDamaged)
}

// A saved root that is damaged in the journal, or any defect, stops the
// publication and not the volume.
func TestPublicationStuck(t *testing.T) {
	r := newRig(t, mib, nil)
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	r.write(0, noise(1, 4096))
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	r.must(r.journal.SaveRoot(gen, []byte("garbage")))
	r.must(r.Stop())
	r.store.set(func(s *spy) { s.before = nil })
	r.open()
	waitFor(t, func() bool { return errors.Is(r.Stats().Failing, ErrDamaged) })
	r.want(0, noise(1, 4096))
	r.write(4096, noise(2, 4096))
	r.must(r.Flush(r.ctx))
	r.must(within(t, r.Stop))
}

// A snapshot that was cut before, and is not remembered, is told to who asks; the
// publication goes on.
func TestSnapshotIsTaken(t *testing.T) {
	r := newRig(t, mib, nil)
	snap := ident.NewSnapshot()
	r.write(0, noise(1, 4096))
	r.publish(snap)
	r.head = r.close()
	r.nextEpoch()
	r.write(0, noise(2, 4096))
	gen, err := r.Seal(r.ctx, snap)
	r.must(err)
	_, err = r.Published(r.ctx, gen)
	wantIs(t, err, snapshots.ErrConflict)
	r.publish(ident.NewSnapshot())
	r.close()
}

// putOther stores an intact object of another name and volume.
func putOther(r *rig) error {
	at := snapshots.Location{Container: r.container, Name: chunks.ChunkName(7, ident.NewEpoch(1), 1, ident.NewOpen())}
	body, err := chunks.EncodeChunk(at, noise(9, chunks.Size), chunks.Options{})
	if err != nil {
		return err
	}
	_, err = r.store.Put(r.ctx, r.container, "other", body, swift.PutOptions{})
	return err
}

// A replica that is behind, or a bit that flipped on the way, is no damage.
func TestPassingFaultsHeal(t *testing.T) {
	r := mixed(t)
	r.tune = func(c *Config) { c.missing = 10 * time.Second } // four attempts may take long on a busy machine
	r.restart()
	seen := map[string]int{}
	r.store.set(func(s *spy) {
		s.before = func(op, name string) error {
			if seen[name]++; op == "get" && seen[name] <= 4 {
				return fmt.Errorf("the test says: %w", swift.ErrNotFound)
			}
			return nil
		}
		s.damage = func(name string, body []byte) {
			if seen[name] == 5 && len(body) > 0 {
				body[len(body)/3] ^= 4
			}
		}
	})
	r.want(8*mib, noise(2, 64<<10))
	r.want(0, noise(1, 8*mib))
}

// While Swift is away what is cached is read, writes go on, and the rest waits:
// nothing becomes an error because time has passed (P9).
func TestSwiftAway(t *testing.T) {
	r := mixed(t)
	r.want(0, noise(1, 4096))
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	r.want(0, noise(1, 4096))
	r.write(mib, noise(3, 4096))
	r.must(r.Flush(r.ctx))
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	r.restart() // that needs no Swift either
	r.want(mib, noise(3, 4096))

	ctx, cancel := context.WithTimeout(r.ctx, 200*time.Millisecond)
	defer cancel()
	wantIs(t, r.ReadAt(ctx, make([]byte, 512), 8*mib), context.DeadlineExceeded)
	read := make(chan error, 1)
	p := make([]byte, 4096)
	go func() { read <- r.ReadAt(r.ctx, p, 8*mib) }()
	select {
	case err := <-read:
		t.Fatal("an uncached read did not wait:", err)
	case <-time.After(100 * time.Millisecond):
	}
	waitFor(t, func() bool { return errors.Is(r.Stats().Failing, swift.ErrUnavailable) })
	r.store.set(func(s *spy) { s.before = nil })
	r.must(within(t, func() error { return <-read }))
	if !slices.Equal(p, noise(2, 4096)) {
		t.Error("wrong data after the wait")
	}
	if _, err := r.Published(r.ctx, gen); err != nil {
		t.Error(err)
	}
	if err := r.Stats().Failing; err != nil {
		t.Error("still failing:", err)
	}
}

// Stop ends reads that wait for Swift.
func TestStopEndsWaitingReads(t *testing.T) {
	r := mixed(t)
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	read := make(chan error, 1)
	go func() { read <- r.ReadAt(r.ctx, make([]byte, 512), 8*mib) }()
	time.Sleep(20 * time.Millisecond)
	r.must(within(t, r.Stop))
	wantIs(t, within(t, func() error { return <-read }), ErrClosed)
	r.must(r.Stop())
}

// A root whose PUT was answered too late is found to be ours (R2).
func TestRootPutTimesOutAfterCommit(t *testing.T) {
	r := newRig(t, mib, nil)
	failed := 0
	r.store.set(func(s *spy) {
		s.after = func(op, name string) error {
			if failed < 1 && strings.HasPrefix(name, chunks.RootPrefix) {
				failed++
				return errAway
			}
			return nil
		}
	})
	r.write(0, noise(1, 4096))
	root := r.publish("")
	if failed != 1 {
		t.Fatal("the fault did not happen")
	}
	r.restart()
	if got := r.Stats().Head; got.Ref != root.Ref {
		t.Fatalf("head %v, want %v", got.Ref, root.Ref)
	}
	r.close()
}

// A root that somebody else put under our name ends the volume (R2, P6).
func TestSecondWriterStopsTheVolume(t *testing.T) {
	r := newRig(t, mib, nil)
	r.write(0, noise(1, 4096))
	name := chunks.RootName(r.epoch, 1)
	_, err := r.store.Store.Put(r.ctx, r.container, name, []byte("somebody else's root"), swift.PutOptions{})
	r.must(err)
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	_, err = r.Published(r.ctx, gen)
	wantIs(t, err, ErrSecondWriter)
	wantIs(t, r.WriteAt(r.ctx, make([]byte, 512), 0, false), ErrSecondWriter)
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 512), 0), ErrSecondWriter)
	wantIs(t, r.Err(), ErrSecondWriter)
	<-r.Done()
	obj, err := r.store.Get(r.ctx, r.container, name, swift.GetOptions{})
	if err != nil || string(obj.Body) != "somebody else's root" {
		t.Errorf("the root that was there is %q, %v", obj.Body, err)
	}
	r.restart() // the journal is kept, and nothing is published from it either
	waitFor(t, func() bool { return errors.Is(r.Err(), ErrSecondWriter) })
}

// Roots are put in the order of generations, each after everything it names,
// whatever order the store answers in (B3).
func TestOrderOfPublication(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	calls := 0
	r.store.set(func(s *spy) {
		s.before = func(op, name string) error {
			if calls++; op == "put" && calls%3 != 0 {
				return errAway
			}
			return nil
		}
	})
	var gens []uint64
	for i := range 6 {
		r.write(int64(i)*8*mib, noise(uint64(i), 5*mib))
		r.write(int64(i)*8*mib+6*mib, noise(uint64(i), 4096))
		gen, err := r.Seal(r.ctx, ident.NewSnapshot())
		r.must(err)
		gens = append(gens, gen)
	}
	for i := len(gens) - 1; i >= 0; i-- {
		_, err := r.Published(r.ctx, gens[i])
		r.must(err)
	}
	names, _ := r.store.put()
	next := uint64(1)
	for _, name := range names {
		p, err := chunks.ParseName(name)
		if err != nil {
			continue // a snapshot's record
		}
		if p.Gen != next {
			t.Fatalf("%s was put while generation %d was due: %v", name, next, names)
		}
		if p.Kind == chunks.KindRoot {
			next++
		}
	}
	if next != 7 {
		t.Fatalf("%d roots", next-1)
	}
}

// Wherever the process dies while it publishes, the next one ends with the same
// data, and no name is ever used for other bytes (R2, B8).
func TestDeathAtEveryRequest(t *testing.T) {
	for allowed := 0; ; allowed++ {
		r := newRig(t, 32*mib, func(c *Config) { c.parallel = 1 })
		requests := 0
		r.store.set(func(s *spy) {
			s.before = func(op, name string) error {
				if requests++; requests > allowed {
					return errAway
				}
				return nil
			}
			s.after = func(string, string) error {
				if requests == allowed {
					return errAway // done, but nobody heard of it
				}
				return nil
			}
		})
		r.write(0, noise(1, 8*mib))
		r.write(8*mib, noise(2, 4096))
		snap := ident.NewSnapshot()
		gen, err := r.Seal(r.ctx, snap)
		r.must(err)
		r.write(4096, noise(3, 4096))
		var seen int
		waitFor(t, func() bool {
			r.store.set(func(*spy) { seen = requests })
			return seen > allowed || r.Stats().Head != nil && len(r.journal.Sealed()) == 0
		})
		ended := seen <= allowed
		r.must(r.Stop())
		r.store.set(func(s *spy) { s.before, s.after = nil, nil })
		r.open()
		again, err := r.Seal(r.ctx, snap)
		r.must(err)
		if !ended && again != gen {
			t.Fatalf("after %d requests: generation %d instead of %d", allowed, again, gen)
		}
		root, err := r.Published(r.ctx, gen)
		r.must(err)
		c := r.clone(root)
		c.want(0, noise(1, 8*mib))
		r.want(8*mib, noise(2, 4096))
		r.want(4096, noise(3, 4096))
		r.close()
		if len(r.store.reused) > 0 {
			t.Fatalf("after %d requests: names used again: %v", allowed, r.store.reused)
		}
		if ended {
			t.Logf("died at each of %d requests", allowed)
			return
		}
		r.Stop()
		c.Stop()
	}
}

// An upload that the end of the process interrupts is an error at whatever step:
// one without an error is followed by a root, which would lack the rest.
func TestInterruptedUploadIsAnError(t *testing.T) {
	r := newRig(t, 32*mib, nil)
	r.write(0, noise(1, 6*mib))
	r.write(8*mib, noise(2, 4096))
	layer, err := r.journal.Seal(r.ctx, "", false) // of which the publisher has not heard
	r.must(err)
	for requests := range 4 {
		ctx, cancel := context.WithCancel(r.ctx)
		r.store.set(func(s *spy) {
			left := requests
			s.before = func(string, string) error {
				if left--; left <= 0 {
					cancel()
				}
				return nil
			}
		})
		if requests == 0 {
			cancel()
		}
		if update, err := r.publisher.upload(ctx, layer); err == nil {
			for chunk := range uint64(2) {
				if e, err := update.Table.Entry(r.ctx, chunk); err != nil || e.IsZero() {
					t.Errorf("interrupted at request %d: a root without chunk %d; %v", requests, chunk, err)
				}
			}
		}
		cancel()
	}
}

// The journal lets go of a layer only after who opened the volume has kept the
// root; a root that is older than what the journal let go of is refused.
func TestHeads(t *testing.T) {
	refuse := errors.New("disk full")
	var fail error
	var kept []*snapshots.Root
	r := newRig(t, mib, func(c *Config) {
		c.OnPublished = func(_ context.Context, p Published) error {
			if fail == nil {
				kept = append(kept, p.Root)
			}
			return fail
		}
	})
	r.write(0, noise(1, 4096))
	r.publish("")
	fail = refuse
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	waitFor(t, func() bool { return errors.Is(r.Stats().Failing, refuse) })
	r.must(r.Stop())
	fail = nil

	r.head = nil
	wantIs(t, r.tryOpen(), ErrHead)
	r.head = kept[0]
	r.open() // generation 2 is put again, with the same bytes
	_, err = r.Published(r.ctx, gen)
	r.must(err)
	r.must(r.Stop())
	wantIs(t, r.tryOpen(), ErrHead) // kept[0] is too old now
	r.head = kept[1]
	r.open()
	r.want(0, noise(1, 4096))
}

// That a read waits for Swift is told, whatever the publication does.
func TestReadThatWaitsIsTold(t *testing.T) {
	r := mixed(t)
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	read := make(chan error, 2)
	for n := range 2 {
		go func() { read <- r.ReadAt(r.ctx, make([]byte, 4096), int64(n)*8*mib) }()
	}
	waitFor(t, func() bool { return errors.Is(r.Stats().Failing, swift.ErrUnavailable) })
	r.store.set(func(s *spy) { s.before = nil })
	r.must(<-read)
	r.must(<-read)
	if err := r.Stats().Failing; err != nil {
		t.Errorf("all reads have ended, and still: %v", err)
	}
}
