package authority

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var errPower = errors.New("the power is gone")

// powerless is a disk whose power fails in a step. Entries of a directory that
// was not synced since may then be old ones, each on its own.
type powerless struct {
	disk
	steps   int // until the power fails
	pending []change
}

// change is a directory entry that is not durable yet.
type change struct {
	name string
	old  []byte // its content before; nil: it was not there
}

func (p *powerless) step() bool {
	p.steps--
	return p.steps < 0
}

func (p *powerless) remember(name string) error {
	old, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	p.pending = append(p.pending, change{name, old})
	return err
}

func (p *powerless) Write(name string, data []byte) error {
	if p.step() {
		return errors.Join(errPower, os.WriteFile(name, data[:len(data)/2], 0o600))
	}
	return p.disk.Write(name, data)
}

func (p *powerless) Rename(from, to string) error {
	if p.step() {
		return errPower
	}
	return errors.Join(p.remember(to), p.disk.Rename(from, to))
}

func (p *powerless) Remove(name string) error {
	if p.step() {
		return errPower
	}
	return errors.Join(p.remember(name), p.disk.Remove(name))
}

func (p *powerless) SyncDir(name string) error {
	if p.step() {
		return errPower
	}
	kept := p.pending[:0]
	for _, c := range p.pending {
		if filepath.Dir(c.name) != name {
			kept = append(kept, c)
		}
	}
	p.pending = kept
	return p.disk.SyncDir(name)
}

// fail takes back a random choice of what was not durable.
func (p *powerless) fail(t *testing.T, random *rand.Rand) {
	for i := len(p.pending) - 1; i >= 0; i-- {
		c := p.pending[i]
		if random.IntN(2) == 0 {
			continue
		}
		err := os.Remove(c.name)
		if c.old != nil {
			err = os.WriteFile(c.name, c.old, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestFileSurvivesPowerLoss cuts the power in every step of a row of changes,
// with several choices of what the disk kept: what was answered with success is
// there, and the change under way was made or not.
func TestFileSurvivesPowerLoss(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for steps := 0; ; steps++ {
		done := false
		for range 4 {
			done = powerLoss(t, random, steps)
		}
		if done {
			break
		}
	}
}

// powerLoss reports whether all changes were made before the power failed.
func powerLoss(t *testing.T, random *rand.Rand, steps int) (done bool) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	p := &powerless{steps: steps}
	want, next := map[string]string{}, map[string]string{} // what is surely there, and with the change under way
	f, err := openFile(dir, p)
	if err == nil {
		done, next = changes(ctx, f, want)
	}
	p.fail(t, random)
	f, err = openFile(dir, disk{})
	if err != nil {
		t.Fatalf("power failed in step %d: %v", steps, err)
	}
	have := map[string]string{}
	for row, err := range All(ctx, f.Claims()) {
		if err != nil {
			t.Fatalf("power failed in step %d: %v", steps, err)
		}
		have[row.Key] = row.Value.Name
	}
	if fmt.Sprint(have) != fmt.Sprint(want) && fmt.Sprint(have) != fmt.Sprint(next) {
		t.Fatalf("power failed in step %d: the records are %v, want %v or %v", steps, have, want, next)
	}
	if temps, _ := filepath.Glob(filepath.Join(dir, "*", ".*")); len(temps) > 0 {
		t.Errorf("power failed in step %d: left over: %v", steps, temps)
	}
	return done
}

// changes makes a row of changes until one fails. Each that succeeds is noted in
// want; the one that failed, with those, in next.
func changes(ctx context.Context, f *File, want map[string]string) (done bool, next map[string]string) {
	versions := map[string]Version{}
	for _, c := range []struct{ verb, key, name string }{
		{"create", "a", "1"},
		{"create", "b", "2"},
		{"update", "a", "3"},
		{"delete", "b", ""},
		{"create", "b", "4"},
		{"update", "b", "5"},
		{"delete", "a", ""},
	} {
		next = map[string]string{}
		for k, v := range want {
			next[k] = v
		}
		var err error
		switch c.verb {
		case "create":
			versions[c.key], err = f.Claims().Create(ctx, c.key, Claim{Name: c.name})
		case "update":
			versions[c.key], err = f.Claims().Update(ctx, c.key, Claim{Name: c.name}, versions[c.key])
		case "delete":
			err = f.Claims().Delete(ctx, c.key, versions[c.key])
		}
		if c.verb == "delete" {
			delete(next, c.key)
		} else {
			next[c.key] = c.name
		}
		if err != nil {
			return false, next
		}
		if c.verb == "delete" {
			delete(want, c.key)
		} else {
			want[c.key] = c.name
		}
	}
	return true, next
}

// unsyncable is a disk that cannot make directories durable.
type unsyncable struct {
	disk
	broken bool
}

func (u *unsyncable) SyncDir(name string) error {
	if u.broken {
		return errors.New("input/output error")
	}
	return u.disk.SyncDir(name)
}

// TestFileStopsWhenItCannotSync: what readers would see is not what is on the disk.
func TestFileStopsWhenItCannotSync(t *testing.T) {
	ctx, u := t.Context(), &unsyncable{}
	f, err := openFile(t.TempDir(), u)
	if err != nil {
		t.Fatal(err)
	}
	u.broken = true
	if _, err := f.Claims().Create(ctx, "a", Claim{}); err == nil {
		t.Fatal("Create succeeded")
	}
	u.broken = false
	if _, _, err := f.Claims().Get(ctx, "a"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Get after a failed sync: %v, want an error", err)
	}
	if _, _, err := f.Volumes().List(ctx, "", 1); err == nil { // of any table
		t.Error("List after a failed sync succeeded")
	}
}
