// Command catalog measures the catalog and the administrator's commands, and prints
// a Markdown table: what, ours, the peer, the ratio, the goal, ok or short.
//
//	go run ./test/bench/catalog [-quick] [-force] [-only name] [-dir d] [-json file] [-profile file] [-program file]
//
// What an administrator runs is measured as the process that they run: its time
// from start to end, and the most memory it ever held. Ours and the peer take turns
// within one run, on the same disk and the same store, at least five times; figures
// are medians of these rounds. The peers are fsync, and curl. Package rig says
// which stores it measures on.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// figures are measured in this order.
var figures = []rig.Figure{
	{Name: "creates", Measure: creates},
	{Name: "list", Measure: listing},
	{Name: "import", Measure: imports},
	{Name: "export", Measure: exports},
	{Name: "diff", Measure: diff},
	{Name: "check", Measure: check},
	{Name: "collect", Measure: collection},
}

var program = flag.String("program", "bin/csi-swiftblock", "the program to measure, which make build makes")

func main() { rig.Main("catalog", figures, measured) }

// site is an installation: a store, an authority, and the administrator's commands.
type site struct {
	*rig.Bench
	*catalog.Catalog
	store   *rig.Store
	records *authority.File
	dir     string // of the authority
	prefix  string
}

const cluster = "bench"

// newSite makes an installation that shares its store with others.
func newSite(b *rig.Bench, s *rig.Store) (*site, error) { return newSiteIn(b, s, b.Path("authority")) }

func newSiteIn(b *rig.Bench, s *rig.Store, dir string) (*site, error) {
	at := &site{Bench: b, store: s, dir: dir, prefix: "bench-" + string(ident.NewVolume())[:8] + "-"}
	var err error
	if at.records, err = authority.OpenFile(at.dir); err != nil {
		return nil, err
	}
	at.Catalog = catalog.New(catalog.Config{Authority: at.records, Store: s, Prefix: at.prefix, Cluster: cluster})
	return at, nil
}

// volume makes an empty volume, which is removed from the store at the end.
func (s *site) volume(name string, size int64) (authority.Volume, error) {
	v, err := s.CreateVolume(s.Ctx, catalog.VolumeSpec{Name: name, Required: size})
	if err == nil {
		s.store.Remove(v.Container)
	}
	return v, err
}

// epoch opens a volume as its node would, and closes it at the root that write has
// published.
func (s *site) epoch(id ident.Volume, write func(snapshots.Origin) (*snapshots.Root, error)) error {
	const node = "node"
	if _, err := s.Publish(s.Ctx, id, node, catalog.Write); err != nil {
		return err
	}
	journal := string(ident.NewVolume())
	o, err := s.Confirm(s.Ctx, catalog.Confirmation{Volume: id, Node: node, Journal: journal})
	if err != nil {
		return err
	}
	root, err := write(snapshots.Origin{Container: o.Container, Epoch: o.Epoch, Open: ident.NewOpen()})
	if err != nil {
		return err
	}
	head := &authority.Root{Container: root.Container, Epoch: root.Ref.Epoch, Generation: root.Ref.Gen, Hash: authority.Hash(root.Ref.Hash)}
	if err := s.Closed(s.Ctx, catalog.Report{Volume: id, Node: node, Journal: journal, Root: head}); err != nil {
		return err
	}
	return s.Unpublish(s.Ctx, id, node)
}

// took is what a process took.
type took struct {
	Seconds float64
	Memory  int64 // bytes resident, at most
}

// run runs a command of csi-swiftblock, whose output goes to out.
func (s *site) run(out io.Writer, args ...string) (t took, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	binary, err := filepath.Abs(*program)
	if err != nil {
		return t, err
	}
	args = append([]string{"-child", binary}, args...)
	cmd := exec.CommandContext(s.Ctx, self, append(args, "--authority", s.dir, "--prefix", s.prefix, "--cluster", cluster)...)
	cmd.Env = append(os.Environ(), "ST_AUTH="+s.store.Cred.AuthURL, "ST_USER="+s.store.Cred.User, "ST_KEY="+s.store.Cred.Key)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	result, report, err := os.Pipe()
	if err != nil {
		return t, err
	}
	defer result.Close()
	cmd.ExtraFiles = []*os.File{report}
	err = cmd.Run()
	report.Close()
	if err != nil {
		return t, fmt.Errorf("%q: %w", args[2:], err)
	}
	return t, json.NewDecoder(result).Decode(&t)
}

// json runs a command and decodes what it prints.
func (s *site) json(v any, args ...string) (took, error) {
	file, err := os.Create(s.Path("output"))
	if err != nil {
		return took{}, err
	}
	defer file.Close()
	t, err := s.run(file, append(args, "--json")...)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = json.NewDecoder(file).Decode(v)
	}
	return t, err
}

// measured runs the command line and says on descriptor 3 what that took. It is a
// process of its own, and small: a process is said to hold at least what the one
// held that started it.
func measured(ctx context.Context) error {
	if flag.NArg() == 0 {
		return errors.New("-child: no command")
	}
	cmd := exec.CommandContext(ctx, flag.Arg(0), flag.Args()[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	t := took{Seconds: time.Since(start).Seconds()}
	t.Memory = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * kib
	return json.NewEncoder(os.NewFile(3, "result")).Encode(t)
}
