package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// callers is how many volumes are created at one time.
const callers = 16

// creates measures how many empty volumes are made in a second, with the file
// authority and a store that both sync everything to one disk, against what that
// disk does: one writer that appends 1 KiB and syncs.
func creates(b *rig.Bench) error {
	store, err := b.Embedded("embedded, durable", 0, true)
	if err != nil {
		return err
	}
	s, err := newSite(b, store)
	if err != nil {
		return err
	}
	f, err := os.Create(b.Path("synced"))
	if err != nil {
		return err
	}
	defer f.Close()
	volumes, syncs := rig.Pick(b, 400, 32), rig.Pick(b, 1000, 100)
	var n atomic.Int64
	ours, peer, err := rig.Turns(7, func() (float64, error) {
		t, err := rig.Seconds(func() error {
			last := n.Load() + int64(volumes)
			return rig.Workers(callers, func(int) error {
				for i := n.Add(1); i <= last; i = n.Add(1) {
					if _, err := s.CreateVolume(b.Ctx, catalog.VolumeSpec{Name: fmt.Sprint(i), Required: mib}); err != nil {
						return err
					}
				}
				return nil
			})
		})
		return float64(volumes) / t, err
	}, func() (float64, error) {
		t, err := rig.Seconds(func() error {
			for range syncs {
				if _, err := f.Write(make([]byte, kib)); err != nil {
					return err
				}
				if err := f.Sync(); err != nil {
					return err
				}
			}
			return nil
		})
		return float64(syncs) / t, err
	})
	if err != nil {
		return err
	}
	b.Compare(fmt.Sprintf("volumes created, %d at a time", callers), "/s", ours, "fsyncs of the disk, one at a time", peer, report.RatioAtLeast(0.25))
	return nil
}

// listing measures the memory of `volume ls` of 10,000 volumes, and the time of a
// volume in a list of that length against one in a short list.
func listing(b *rig.Bench) error {
	const page = 1000 // as `volume ls` asks for
	long, short := rig.Pick(b, 10000, 2000), 1000
	var sites [2]*site
	for i, count := range []int{long, short} {
		var err error
		if sites[i], err = recorded(b, count); err != nil {
			return err
		}
		defer os.RemoveAll(sites[i].dir)
	}
	memory, err := rig.Take(func() (float64, error) {
		var list []struct{ ID ident.Volume }
		t, err := sites[0].json(&list, "volume", "ls")
		if err == nil && len(list) != long {
			err = fmt.Errorf("%d of %d volumes are listed", len(list), long)
		}
		return float64(t.Memory) / mib, err
	})
	if err != nil {
		return err
	}
	b.Count(fmt.Sprintf("`volume ls` of %d volumes, memory", long), "MiB", report.AtMost(128), memory...)

	each := func(s *site, count int) func() (float64, error) {
		return func() (float64, error) {
			seen := 0
			t, err := rig.Seconds(func() error {
				for place := authority.Beginning; ; {
					list, next, err := s.ListVolumes(b.Ctx, place, page)
					seen += len(list)
					if place = next; err != nil || next == authority.Beginning {
						return err
					}
				}
			})
			if err == nil && seen != count {
				err = fmt.Errorf("%d of %d volumes are listed", seen, count)
			}
			return t / float64(count) * 1e6, err
		}
	}
	ours, peer, err := rig.Turns(9, each(sites[0], long), each(sites[1], short))
	if err != nil {
		return err
	}
	b.Compare(fmt.Sprintf("time of each volume in a list of %d", long), "µs", ours, fmt.Sprintf("in a list of %d", short), peer, report.RatioAtMost(1.2))
	return nil
}

// recorded is a site with nothing but the records of so many volumes, in memory if
// there is such a place: making them takes two syncs each.
func recorded(b *rig.Bench, count int) (*site, error) {
	dir, err := os.MkdirTemp("/dev/shm", "bench-catalog-")
	if err != nil {
		dir = b.Path("authority")
	}
	s, err := newSiteIn(b, b.Main, dir)
	for i := 0; i < count && err == nil; i++ {
		id := ident.NewVolume()
		_, err = s.records.Volumes().Create(b.Ctx, string(id), authority.Volume{
			ID: id, Name: "pvc-" + string(id), Container: s.prefix + string(id), Size: gib, State: authority.Ready,
			Parameters: map[string]string{"rpo": "10s"}, Descriptor: 1,
		})
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}
