package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unpack returns the files of a bundle, and all it holds as one text.
func unpack(t *testing.T, path string) (files map[string]string, all string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "csi-swiftblock/")] = string(content)
		all += h.Name + string(content)
	}
}

func TestSupportBundle(t *testing.T) {
	a := newAdmin(t)
	t.Setenv("OS_PASSWORD", "OTHER-SECRET")
	a.run("volume", "create", "scratch", "--size", "1Gi")
	a.run("snapshot", "create", "scratch", "first")
	process := a.controller()
	// Nothing of ours writes a secret to a log; the bundle trusts nobody.
	log := a.file("export.log", []byte(strings.Repeat("old line\n", logTail/8)+"the end, with "+a.swift.Key()+" and OTHER-SECRET\n"))
	bundle := filepath.Join(a.dir, "bundle.tar.gz")
	state := filepath.Join(a.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	said := a.run("support-bundle", "-o", bundle, "--state", state, "--process", process, "--process", freeAddress(t), "--log", log)
	if strings.TrimSpace(said) != bundle {
		t.Errorf("said %q", said)
	}
	files, all := unpack(t, bundle)
	for _, secret := range []string{a.swift.Key(), "OTHER-SECRET"} {
		if strings.Contains(all, secret) {
			t.Errorf("the bundle holds a secret")
		}
	}
	folder := strings.ReplaceAll(process, ":", "-") + "/"
	for name, want := range map[string]string{
		"machine.txt":             "ST_KEY is set",
		"volumes.json":            `"name": "scratch"`,
		"snapshots.json":          `"name": "first"`,
		"journals.json":           "[]",
		folder + "metrics.txt":    "swiftblock_rpc_calls_total",
		folder + "process.txt":    "csi-swiftblock " + version,
		folder + "goroutines.txt": "goroutine ",
		"log/export.log":          "the end, with [secret] and [secret]",
		"problems.txt":            "connection refused",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: %.300q, want it to say %q", name, files[name], want)
		}
	}
	if n := len(files["log/export.log"]); n > logTail+100 {
		t.Errorf("%d bytes of the log", n)
	}
	if info, err := os.Stat(bundle); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	a.refused("file exists", "support-bundle", "-o", bundle)
}
