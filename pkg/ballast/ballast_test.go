package ballast_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
)

const (
	kib  = 1 << 10
	size = 512 * kib
)

// fill writes to a directory's disk until that is full.
func fill(t *testing.T, dir string) {
	t.Helper()
	file, err := os.CreateTemp(dir, "filler")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4*kib))
	}
	if !ballast.Full(err) {
		t.Fatal(err)
	}
}

// disk is a small one; without the right to mount it the test is skipped.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t *testing.T, dir string) *ballast.File {
	t.Helper()
	f, err := ballast.Open(filepath.Join(dir, "ballast"), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// replace is what the file is for.
func replace(f *ballast.File, dir string, n int) error {
	return f.Within(n, func() error {
		err := os.WriteFile(filepath.Join(dir, "new"), make([]byte, n), 0o600)
		if err != nil {
			return errors.Join(err, os.Remove(filepath.Join(dir, "new")))
		}
		return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "record"))
	})
}

// On a disk that others have filled files are replaced any number of times, also by
// a process that came later, and what was let go for it is taken back.
func TestFullDisk(t *testing.T) {
	dir := disk(t)
	f := open(t, dir)
	if err := replace(f, dir, 20*kib); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	if err := replace(nil, dir, 20*kib); !ballast.Full(err) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for i := range 100 {
		if err := replace(f, dir, (20+i)*kib); err != nil {
			t.Fatalf("replacement %d: %v", i, err)
		}
		if i%10 == 0 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f = open(t, dir)
		}
	}
	// The record has grown by 99 KiB, and no more is gone.
	if missing := f.Missing(); missing > 100*kib {
		t.Errorf("%d bytes of %d are missing", missing, size)
	}
	if err := replace(f, dir, 4*kib); err != nil {
		t.Fatal(err)
	}
	if missing := f.Missing(); missing != 0 {
		t.Errorf("with room again %d bytes are missing", missing)
	}
}

// Others that take all that is let go use it up: then writes fail as on any full
// disk, until there is room.
func TestGreedyNeighbour(t *testing.T) {
	dir := disk(t)
	f := open(t, dir)
	fill(t, dir)
	var err error
	writes := 0
	for ; err == nil && writes < 1000; writes++ {
		err = f.Within(20*kib, func() error {
			err := os.WriteFile(filepath.Join(dir, "record"), make([]byte, 20*kib), 0o600)
			if err == nil {
				fill(t, dir)
			}
			return err
		})
		if err := os.Truncate(filepath.Join(dir, "record"), 0); err != nil {
			t.Fatal(err)
		}
		fill(t, dir)
	}
	if !ballast.Full(err) || writes < size/(64*kib) {
		t.Errorf("after %d writes: %v", writes, err)
	}
	if err := os.Remove(filepath.Join(dir, "record")); err != nil {
		t.Fatal(err)
	}
	fillers, err := filepath.Glob(filepath.Join(dir, "filler*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range fillers {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := replace(f, dir, 20*kib); err != nil || f.Missing() != 0 {
		t.Errorf("with room again: %v, %d bytes missing", err, f.Missing())
	}
}

// What fails for another reason is not tried again.
func TestOtherErrors(t *testing.T) {
	f, calls, want := open(t, t.TempDir()), 0, errors.New("broken")
	err := f.Within(1, func() error {
		calls++
		return want
	})
	if err != want || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
