package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// asProgram makes the test binary be csi-swiftblock, to be killed.
const asProgram = "CSI_SWIFTBLOCK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// admin is an administrator with an account and an authority of their own.
type admin struct {
	*testing.T
	dir   string
	stdin io.Reader
	swift *embedded.Server
	key   *keys.Secret // of the volumes of journals, if they are encrypted
}

func newAdmin(t *testing.T) *admin {
	_, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	cred := swifttest.Credentials(server)
	t.Setenv("ST_AUTH", cred.AuthURL)
	t.Setenv("ST_USER", cred.User)
	t.Setenv("ST_KEY", cred.Key)
	return &admin{T: t, dir: t.TempDir(), stdin: strings.NewReader(""), swift: server}
}

// args completes a command line, for commands that know of an authority.
func (a *admin) args(args ...string) []string {
	if slices.Contains([]string{"certificates", "preflight", "node", "probe"}, args[0]) || len(args) > 1 && args[0] == "journal" && args[1] != "export" {
		return args
	}
	return with(args, "--authority", filepath.Join(a.dir, "authority"))
}

// with adds flags to a command line, before what is no flag whatever it looks like.
func with(args []string, flags ...string) []string {
	end := slices.Index(args, "--")
	if end < 0 {
		end = len(args)
	}
	return slices.Insert(slices.Clone(args), end, flags...)
}

// try runs a command in this process.
func (a *admin) try(ctx context.Context, args ...string) (stdout string, err error) {
	a.Helper()
	var out, diagnostics bytes.Buffer
	c := root()
	c.SetArgs(a.args(args...))
	c.SetIn(a.stdin)
	c.SetOut(&out)
	c.SetErr(&diagnostics)
	err = c.ExecuteContext(ctx)
	return out.String(), err
}

// run runs a command that must succeed.
func (a *admin) run(args ...string) string {
	a.Helper()
	out, err := a.try(a.Context(), args...)
	if err != nil {
		a.Fatalf("csi-swiftblock %s: %s", strings.Join(args, " "), explain(err))
	}
	return out
}

// json runs a command with --json and decodes what it prints.
func (a *admin) json(v any, args ...string) {
	a.Helper()
	decode(a.T, a.run(with(args, "--json")...), v)
}

// decode takes in what a command printed; a field that v lacks is an error.
func decode(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// refused runs a command that must fail with one line that says want.
func (a *admin) refused(want string, args ...string) {
	a.Helper()
	_, err := a.try(a.Context(), args...)
	if err == nil {
		a.Errorf("csi-swiftblock %s: succeeded", strings.Join(args, " "))
		return
	}
	if text := explain(err); !strings.Contains(text, want) || strings.Contains(text, "\n") {
		a.Errorf("csi-swiftblock %s: says %q, want %q", strings.Join(args, " "), text, want)
	}
}

func (a *admin) volumes() []volumeView {
	a.Helper()
	var list []volumeView
	a.json(&list, "volume", "ls")
	return list
}

// noise returns n bytes that depend on seed alone.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (a *admin) file(name string, body []byte) string {
	a.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		a.Fatal(err)
	}
	return path
}

func TestVolumes(t *testing.T) {
	a := newAdmin(t)
	var made, again, grown volumeView
	a.json(&made, "volume", "create", "scratch", "--size", "1Gi", "--parameter", "rpo=10s")
	a.json(&again, "volume", "create", "scratch", "--size", "1Gi", "--parameter", "rpo=10s")
	if made.ID != again.ID || made.Size != 1<<30 || made.State != stateDetached || made.Name != "scratch" || made.Parameters["rpo"] != "10s" {
		t.Errorf("made %+v, then %+v", made, again)
	}
	a.json(&grown, "volume", "expand", "scratch", "--size", "2Gi")
	if grown.ID != made.ID || grown.Size != 2<<30 {
		t.Errorf("grown to %+v", grown)
	}
	odd := "odd \"name\"\nüλ/..\x00" + strings.Repeat("x", 80)
	a.run("volume", "create", odd, "--size", "4096")
	if list := a.volumes(); len(list) != 2 || list[0].Name != odd && list[1].Name != odd {
		t.Errorf("list: %+v", list)
	}
	table := a.run("volume", "ls")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 3 {
		t.Fatalf("a table of %d lines:\n%s", len(lines), table)
	}
	for _, line := range lines[1:] {
		before, _, _ := strings.Cut(line, stateDetached)
		if utf8.RuneCountInString(before) != strings.Index(lines[0], "STATE") {
			t.Errorf("not aligned:\n%s", table)
		}
	}
	text := a.run("volume", "inspect", string(made.ID))
	for _, want := range []string{string(made.ID), "2Gi (2147483648 bytes)", "nothing yet", "rpo=10s"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	a.run("volume", "rm", odd, "scratch")
	if list := a.volumes(); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

func TestSnapshots(t *testing.T) {
	a := newAdmin(t)
	content := noise(1, 20<<20)
	a.run("image", "import", "--name", "golden", a.file("golden.raw", content))
	var first, second snapshotView
	a.json(&first, "snapshot", "create", "golden", "first")
	a.json(&second, "snapshot", "create", "golden", "second")
	var list []snapshotView
	a.json(&list, "snapshot", "ls", "golden")
	if len(list) != 2 || first.Volume != second.Volume || first.Size != 20<<20 {
		t.Errorf("%+v", list)
	}
	var clone volumeView
	a.json(&clone, "volume", "create", "clone", "--from", "first", "--size", "30Mi")
	if clone.Source == nil || clone.Source.Snapshot != first.ID || clone.Size != 30<<20 {
		t.Errorf("clone %+v", clone)
	}
	var i inspection
	a.json(&i, "volume", "inspect", "golden")
	if len(i.Snapshots) != 2 || len(i.Clones) != 1 || i.Clones[0] != clone.ID || i.Published == nil || i.Published.Chunks != 3 || !i.Published.Formatted {
		t.Errorf("golden: %+v, published %+v", i, i.Published)
	}

	var d difference
	a.json(&d, "snapshot", "diff", "first", "clone")
	if d.Changed != 0 || len(d.Extents) != 0 || d.From.Name != "first" || d.To.Kind != "volume" {
		t.Errorf("nothing changed, and yet %+v", d)
	}
	a.json(&d, "snapshot", "diff", "first")
	if len(d.Extents) != 1 || d.Extents[0] != (extent{0, 20 << 20}) || d.Changed != 20<<20 {
		t.Errorf("all of it: %+v", d)
	}

	// Names are ids' equals, the original goes, and the clone keeps what it needs.
	a.run("snapshot", "rm", string(first.ID), "second")
	a.run("volume", "rm", "golden")
	path := filepath.Join(a.dir, "clone.raw")
	a.run("image", "export", "clone", path)
	got, err := os.ReadFile(path)
	if want := append(content, make([]byte, 10<<20)...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the clone of %d bytes differs: %v", len(got), err)
	}
}

func TestRefusals(t *testing.T) {
	a := newAdmin(t)
	a.refused("give the controller's directory by --authority", "volume", "ls")
	a.run("volume", "create", "v", "--size", "1Gi")
	a.run("snapshot", "create", "v", "both")
	a.run("volume", "create", "both", "--size", "1Gi")
	image := a.file("image.raw", noise(1, 8<<20))
	long := strings.Repeat("n", 129)
	unknown := strings.Repeat("0", 32)
	for want, args := range map[string][]string{
		"how large?":                      {"volume", "create", "w"},
		`"3 pounds"`:                      {"volume", "create", "w", "--size", "3 pounds"},
		"whole sectors of 512 bytes":      {"volume", "create", "w", "--size", "1000"},
		"1 to 128 bytes, not 129":         {"volume", "create", long, "--size", "1Gi"},
		"1 to 128 bytes, not 0":           {"volume", "create", "", "--size", "1Gi"},
		"at most 17592186044416 bytes":    {"volume", "create", "w", "--size", "17Ti"},
		"has 1073741824 bytes":            {"volume", "create", "v", "--size", "2Gi"},
		"unknown; known are rpo":          {"volume", "create", "w", "--size", "1Gi", "--parameter", "rop=1s"},
		"a volume cannot shrink":          {"volume", "expand", "v", "--size", "512Mi"},
		`"nothing": see`:                  {"volume", "inspect", "nothing"},
		unknown:                           {"volume", "rm", unknown},
		"no snapshot has the id":          {"snapshot", "rm", "v"},
		"no volume has the id":            {"snapshot", "create", "nothing", "s"},
		"no volume or snapshot has":       {"image", "export", "nothing", "out.raw"},
		"names a volume and a snapshot":   {"image", "export", "both", "out.raw"},
		"replace it with --force":         {"image", "export", "v", image},
		"no such file":                    {"image", "import", "--name", "w", "/absent/image"},
		"A pipe does not tell":            {"image", "import", "--name", "w", "-"},
		"ended after 0 of 4096":           {"image", "import", "--name", "w", "-", "--size", "4096"},
		"image abort NAME":                {"image", "import", "--name", "v", image},
		"no import has the name":          {"image", "abort", "v"},
		"accepts 1 arg(s)":                {"volume", "inspect"},
		`required flag(s) "size" not set`: {"volume", "expand", "v"},
		"unknown flag: --sise":            {"volume", "expand", "v", "--sise", "1Gi"},
	} {
		a.refused(want, args...)
	}
	if list := a.volumes(); len(list) != 2 {
		t.Errorf("%d volumes are there: %+v", len(list), list)
	}
	a.run("image", "import", "--name", "one", image)
	a.run("image", "import", "--name", "two", image)
	a.refused("come from one volume or image", "snapshot", "diff", "one", "two")
}

// A command that does not exist is an error, not a page of help.
func TestUnknownCommand(t *testing.T) {
	for _, args := range [][]string{{"lst"}, {"volume", "lst"}, {"image", "improt"}} {
		c := root()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestCompletion(t *testing.T) {
	a := newAdmin(t)
	var v volumeView
	a.json(&v, "volume", "create", "scratch", "--size", "1Gi")
	var s snapshotView
	a.json(&s, "snapshot", "create", "scratch", "nightly")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"volume", "rm", ""}, []string{string(v.ID) + "\tscratch"}},
		{[]string{"snapshot", "rm", ""}, []string{string(s.ID) + "\tnightly"}},
		{[]string{"image", "export", ""}, []string{string(v.ID) + "\tscratch", string(s.ID) + "\tnightly"}},
		{[]string{"vol"}, []string{"volume"}},
	} {
		// The authority's flag comes before the word that is being completed.
		args := append([]string{"__complete"}, c.args[:len(c.args)-1]...)
		if len(c.args) > 1 {
			args = a.args(args...)
		}
		var out bytes.Buffer
		r := root()
		r.SetArgs(append(args, c.args[len(c.args)-1]))
		r.SetOut(&out)
		r.SetErr(io.Discard)
		if err := r.Execute(); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: %q is missing in %q", c.args, want, out.String())
			}
		}
	}
}

// Every error of the catalog that an administrator can meet says what to do.
func TestAdvice(t *testing.T) {
	for _, err := range []error{catalog.ErrInUse, catalog.ErrBusy, catalog.ErrRolledBack, catalog.ErrForeign} {
		if text := explain(errors.Join(errors.New("delete volume"), err)); !strings.Contains(text, ": ") || strings.Contains(text, "\n") {
			t.Errorf("%q", text)
		}
	}
}
