package authority_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
)

func openFile(t *testing.T, dir string) *authority.File {
	t.Helper()
	f, err := authority.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileConforms(t *testing.T) {
	authoritytest.Conformance(t, func(t *testing.T) func() authority.Authority {
		dir := t.TempDir()
		return func() authority.Authority { return openFile(t, dir) }
	})
}

func TestFileRefusesOtherDirectories(t *testing.T) {
	for name, content := range map[string]string{"format": "csi-swiftblock authority 2\n", "photo.jpg": "x"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.OpenFile(dir); !errors.Is(err, authority.ErrDamaged) {
			t.Errorf("a directory with %s: %v, want ErrDamaged", name, err)
		}
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Errorf("it was changed: %v", names)
		}
	}
}

// TestFileRefusesDamage flips, cuts and swaps records: none is read, listed,
// updated or deleted, and the others work on.
func TestFileRefusesDamage(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	volumes := openFile(t, dir).Volumes()
	versions := map[string]authority.Version{}
	for _, key := range []string{"a", "b"} {
		version, err := volumes.Create(ctx, key, authority.Volume{Name: "volume " + key, Size: 4096})
		if err != nil {
			t.Fatal(err)
		}
		versions[key] = version
	}
	path := filepath.Join(dir, "volumes", "a.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "volumes", "b.json"))
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string][]byte{
		"empty": nil, "another record": other, "twice": append(append([]byte{}, good...), good...),
		"newer":         []byte(strings.Replace(string(good), `"format":1`, `"format":2`, 1)),
		"unknown field": []byte(strings.Replace(string(good), `"size"`, `"sighs"`, 1)),
		"other size":    []byte(strings.Replace(string(good), `"size":4096`, `"size":8192`, 1)),
	}
	for i := range good {
		flipped := append([]byte{}, good...)
		flipped[i] ^= 1
		damages[fmt.Sprintf("bit 0 of byte %d", i)] = flipped
		if i < len(good)-1 { // the last byte ends the line
			damages[fmt.Sprintf("cut after %d bytes", i)] = good[:i]
		}
	}
	for name, damaged := range damages {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, get := volumes.Get(ctx, "a")
		if get == nil && name == fmt.Sprintf("bit 0 of byte %d", len(good)-1) {
			continue // the end of the line became a tab
		}
		_, create := volumes.Create(ctx, "a", authority.Volume{})
		_, update := volumes.Update(ctx, "a", authority.Volume{}, versions["a"])
		_, _, list := volumes.List(ctx, "", 10)
		for verb, err := range map[string]error{
			"Get": get, "Create": create, "Update": update, "List": list, "Delete": volumes.Delete(ctx, "a", versions["a"]),
		} {
			if !errors.Is(err, authority.ErrDamaged) || !strings.Contains(err.Error(), "volumes/a") {
				t.Fatalf("%s: %s = %v, want ErrDamaged of volumes/a", name, verb, err)
			}
		}
		if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, damaged) {
			t.Fatalf("%s: the file was touched: %q, %v", name, kept, err)
		}
	}
	if v, version, err := volumes.Get(ctx, "b"); err != nil || v.Name != "volume b" || version != versions["b"] {
		t.Errorf("the other record: %+v, %q, %v", v, version, err)
	}
}

const childVariable = "AUTHORITY_TEST_CHILD"

// TestMain counts in a child process until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, count(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// count increments a counter for ever and prints a line after each increment
// that was answered with success.
func count(dir string) error {
	f, err := authority.OpenFile(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for {
		v, version, err := f.Volumes().Get(ctx, "counter")
		if err != nil {
			return err
		}
		v.Size++
		switch _, err = f.Volumes().Update(ctx, "counter", v, version); {
		case err == nil:
			fmt.Println(v.Size)
		case !errors.Is(err, authority.ErrConflict):
			return err
		}
	}
}

// TestFileSurvivesKills kills processes that share an authority: every increment
// that was answered is there, and none was made twice.
func TestFileSurvivesKills(t *testing.T) {
	const rounds, children, lines = 4, 2, 5
	dir := t.TempDir()
	f := openFile(t, dir)
	if _, err := f.Volumes().Create(t.Context(), "counter", authority.Volume{}); err != nil {
		t.Fatal(err)
	}
	answered := map[int64]bool{}
	for range rounds {
		var running []*exec.Cmd
		var outputs []*bufio.Scanner
		for range children {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			running, outputs = append(running, cmd), append(outputs, bufio.NewScanner(out))
		}
		read := func(out *bufio.Scanner) bool {
			if !out.Scan() {
				return false
			}
			n, err := strconv.ParseInt(out.Text(), 10, 64)
			if err != nil {
				t.Fatalf("a child printed %q", out.Text())
			}
			if answered[n] {
				t.Errorf("two increments to %d were answered", n)
			}
			answered[n] = true
			return true
		}
		for _, out := range outputs {
			for range lines {
				read(out)
			}
		}
		for i, cmd := range running {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for read(outputs[i]) {
			}
			_ = cmd.Wait() // it was killed
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, _, err := openFile(t, dir).Volumes().Get(ctx, "counter")
	if err != nil {
		t.Fatal(err)
	}
	// A child may have been killed between an increment and its line.
	if unanswered := v.Size - int64(len(answered)); unanswered < 0 || unanswered > rounds*children {
		t.Errorf("the counter is %d, %d increments were answered", v.Size, len(answered))
	}
	if temps, _ := filepath.Glob(filepath.Join(dir, "volumes", ".*")); len(temps) > 0 {
		t.Errorf("left over: %v", temps)
	}
}
