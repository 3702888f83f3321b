package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is a defect made on purpose and the test that has to notice it. Its file is
// a header, an empty line, and a unified diff:
//
//	Breaks: B2 a flush is answered before its fsync
//	Test: ./pkg/delta TestCrashesLeaveAPrefix
//	Flags: -test.count=3
//
// Flags, for the test's binary, may be left out.
type mutant struct {
	name    string // of the file, without .patch
	breaks  string
	pkg     string
	test    string
	flags   []string
	patch   []byte
	touched []string // files, relative to the top of the tree
}

// load reads the mutants whose name begins with one of the prefixes; all without any.
func load(dir string, prefixes []string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".patch")
		wanted := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, wanted) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		mutants = append(mutants, m)
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("no mutant in %s begins with any of %q", dir, prefixes)
	}
	return mutants, nil
}

func parse(name string, text []byte) (mutant, error) {
	m := mutant{name: name}
	header, patch, _ := bytes.Cut(text, []byte("\n\n"))
	m.patch = patch
	for line := range strings.Lines(string(header)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Breaks":
			m.breaks = value
		case "Test":
			m.pkg, m.test, _ = strings.Cut(value, " ")
		case "Flags":
			m.flags = strings.Fields(value)
		default:
			return m, fmt.Errorf("unknown line %q", line)
		}
	}
	scan := bufio.NewScanner(bytes.NewReader(patch))
	for scan.Scan() {
		if file, ok := strings.CutPrefix(scan.Text(), "--- a/"); ok {
			m.touched = append(m.touched, file)
		}
	}
	if m.breaks == "" || m.test == "" || len(m.touched) == 0 {
		return m, fmt.Errorf("it takes a Breaks, a Test and a diff with the prefixes a/ and b/")
	}
	return m, scan.Err()
}
