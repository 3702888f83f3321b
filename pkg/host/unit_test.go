package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unitHost is a host with systemd in a directory; it keeps what systemctl was told.
func unitHost(t *testing.T) (Unit, *systemd) {
	s := &systemd{states: []string{""}}
	u := Unit{Run: s, Root: t.TempDir(), Dir: "/var/lib/x/host", RunDir: "/run/x"}
	if u.Supported() {
		t.Error("supported without systemd")
	}
	if err := os.MkdirAll(u.on(filepath.Dir(UnitPath)), 0o755); err != nil {
		t.Fatal(err)
	}
	if !u.Supported() {
		t.Error("not supported")
	}
	return u, s
}

func TestUnitOfHost(t *testing.T) {
	u, s := unitHost(t)
	if err := u.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"systemctl daemon-reload", "systemctl start " + unitOfHost}; !slices.Equal(s.lines, want) {
		t.Errorf("ran %q, want %q", s.lines, want)
	}
	program, err := os.ReadFile(u.on("/var/lib/x/host/csi-swiftblock"))
	own, _ := os.ReadFile("/proc/self/exe")
	if err != nil || !bytes.Equal(program, own) {
		t.Errorf("the program is not ours: %v", err)
	}
	text, err := os.ReadFile(u.on(UnitPath))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ExecStart=/var/lib/x/host/csi-swiftblock host start",
		"ExecStop=/var/lib/x/host/csi-swiftblock host stop --run=/run/x",
		"RequiresMountsFor=/var/lib/x/host",
	} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}

	// Another release: the program is replaced by a rename, so that one that runs goes on.
	old, err := os.Open(u.on(u.program()))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	for _, path := range []string{u.program(), UnitPath} {
		if err := os.WriteFile(u.on(path), append([]byte("older"), program...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, _ := old.Stat()
	b, _ := os.Stat(u.on(u.program()))
	if os.SameFile(a, b) || b.Size() != int64(len(own)) || b.Mode().Perm()&0o100 == 0 {
		t.Errorf("not replaced: %v, %d bytes", b.Mode(), b.Size())
	}
	// The same release: nothing is written.
	if err := u.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, _ := os.Stat(u.on(u.program())); !os.SameFile(b, c) {
		t.Error("written again")
	}

	s.lines = nil
	for range 2 { // the second time there is nothing to do
		if err := u.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"systemctl stop " + unitOfHost, "systemctl daemon-reload"}; !slices.Equal(s.lines, want) {
		t.Errorf("ran %q, want %q", s.lines, want)
	}
	for _, path := range []string{UnitPath, u.program()} {
		if _, err := os.Stat(u.on(path)); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

func TestUnitOfHostRefusesPaths(t *testing.T) {
	u, s := unitHost(t)
	for _, dir := range []string{"", "/", "relative", "/with space", "/%n", "/$HOME", "/a\nb", "/a/../b", `/a"b`, "/a;b"} {
		u.Dir = dir
		if err := u.Install(t.Context()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", dir, err)
		}
	}
	if len(s.lines) > 0 {
		t.Errorf("ran %q", s.lines)
	}
}

// state plays `systemctl is-system-running`.
type state struct {
	says string
	err  error
}

func (s state) Run(context.Context, string, ...string) ([]byte, error) { return []byte(s.says), s.err }

func TestGoingDown(t *testing.T) {
	failed := &ToolError{Tool: "systemctl", Code: 1}
	for _, c := range []struct {
		state
		down, fails bool
	}{
		{state{"running\n", nil}, false, false},
		{state{"degraded\n", failed}, false, false},
		{state{"maintenance\n", failed}, false, false},
		{state{"stopping\n", failed}, true, false},
		{state{"", failed}, false, true}, // we must not end anybody's pods on a guess
	} {
		if down, err := GoingDown(t.Context(), c.state); down != c.down || (err != nil) != c.fails {
			t.Errorf("%q: %v, %v", c.says, down, err)
		}
	}
}
