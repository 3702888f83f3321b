package durable_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

// Whoever reads while others replace finds one of the files whole, and no draft stays.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	replace := func(i int) {
		if err := durable.Replace(path, []byte(strings.Repeat(string(rune('a'+i)), 1<<12)), 0o640); err != nil {
			t.Error(err)
		}
	}
	replace(0)
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for range 50 {
				replace(i)
			}
		})
	}
	for range 200 {
		body, err := os.ReadFile(path)
		if err != nil || string(body) != strings.Repeat(string(body[:1]), 1<<12) {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
	}
	writers.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What fails leaves the old file, and nothing else.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directory")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(path, []byte("body"), 0o600); err == nil {
		t.Error("a file has replaced a directory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	if err := durable.Replace(filepath.Join(dir, "none", "file"), nil, 0o600); err == nil {
		t.Error("there is a file in no directory")
	}
}
