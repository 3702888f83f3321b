package main

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// sequentialReads reads a volume from its begin to its end, with nothing cached,
// against four parallel curls that fetch the same objects, a quarter each.
func sequentialReads(b *bench) error {
	size := pick[int64](b, gib, 128*mib)
	for _, s := range []*store{b.main, b.slow} {
		root, objects, err := b.fill(s, size)
		if err != nil {
			return err
		}
		curl, err := newCurl(b, s)
		if err != nil {
			return err
		}
		rate := func(seconds float64, err error) (float64, error) { return float64(size) / seconds / mib, err }
		container, err := s.container(b.ctx)
		if err != nil {
			return err
		}
		ours, peer, err := turns(5, func() (float64, error) {
			v, err := b.open(s, container, root, size, 256*mib)
			if err != nil {
				return 0, err
			}
			p := make([]byte, mib)
			t, err := rate(seconds(func() error {
				for off := int64(0); off < size; off += mib {
					if err := v.ReadAt(b.ctx, p, off); err != nil {
						return err
					}
				}
				return nil
			}))
			return t, errors.Join(err, v.end())
		}, func() (float64, error) {
			return rate(seconds(func() error { return curl.fetch(b, objects) }))
		})
		if err != nil {
			return err
		}
		b.compare(fmt.Sprintf("cold sequential read of %d MiB, %s", size/mib, s.name), "MiB/s", ours, "4 parallel curls", peer, ratioAtLeast(0.9))
	}
	return nil
}

// stored is an object in the store.
type stored struct {
	at   snapshots.Location
	size int
}

// fill stores a volume of incompressible chunks.
func (b *bench) fill(s *store, size int64) (*snapshots.Root, []stored, error) {
	o, err := newOrigin(b.ctx, s)
	if err != nil {
		return nil, nil, err
	}
	objects := make([]stored, size/chunks.Size)
	entries := make(map[uint64]snapshots.Entry)
	var g errgroup.Group
	g.SetLimit(4)
	for i := range objects {
		ref := snapshots.ChunkRef{Origin: o, Gen: 1}
		entries[uint64(i)] = snapshots.Entry{Base: ref}
		g.Go(func() error {
			at := ref.Location(uint64(i))
			body, err := chunks.EncodeChunk(at, noise(uint64(i)+100, chunks.Size), chunks.Options{})
			if err != nil {
				return err
			}
			objects[i] = stored{at, len(body)}
			return put(b.ctx, s, snapshots.Object{Location: at, Body: body})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	u, err := snapshots.BlankTable().Update(b.ctx, snapshots.Change{Origin: o, Gen: 1, State: snapshots.State{Size: size}, Entries: entries})
	if err != nil {
		return nil, nil, err
	}
	return u.Root, objects, put(b.ctx, s, u.RootObject)
}

// curl fetches objects with the program of that name.
type curl struct{ url, token string }

// newCurl logs in.
func newCurl(b *bench, s *store) (*curl, error) {
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, s.cred.AuthURL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Auth-User", s.cred.User)
	r.Header.Set("X-Auth-Key", s.cred.Key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	c := &curl{answer.Header.Get("X-Storage-Url"), answer.Header.Get("X-Auth-Token")}
	if answer.StatusCode/100 != 2 || c.url == "" || c.token == "" {
		return nil, fmt.Errorf("log in for curl: %s", answer.Status)
	}
	return c, nil
}

// fetch fetches objects with four processes at a time, and checks that all of
// them arrived whole.
func (c *curl) fetch(b *bench, objects []stored) error {
	const processes = 4
	return workers(processes, func(i int) error {
		var config strings.Builder
		want := []string{}
		fmt.Fprintf(&config, "header = \"X-Auth-Token: %s\"\n", c.token)
		for n := i; n < len(objects); n += processes {
			fmt.Fprintf(&config, "url = \"%s/%s\"\noutput = \"/dev/null\"\n", c.url, objects[n].at)
			want = append(want, fmt.Sprintf("200 %d", objects[n].size))
		}
		cmd := exec.CommandContext(b.ctx, "curl", "-q", "-sS", "--fail", "-w", "%{http_code} %{size_download}\n", "-K", "-")
		cmd.Stdin = strings.NewReader(config.String())
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("curl: %w", err)
		}
		if got := strings.TrimSpace(string(out)); got != strings.Join(want, "\n") {
			return fmt.Errorf("curl: status and bytes are %q", got)
		}
		return nil
	})
}
