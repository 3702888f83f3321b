// Package catalog_test proves the catalog with everything real: OpenStack Swift, disk
// images of Debian packages, qemu's tools, the program's own binary where a process has
// to die, and attached volumes with journals on a disk.
package catalog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

const (
	cluster = "standalone" // the program's default
	// grace is what a deletion leaves in Swift for; Swift's dates are whole seconds.
	grace = 2 * time.Second
)

// world is a Swift, an authority on disk, the nodes, and a controller.
type world struct {
	*catalog.Catalog
	t         *testing.T
	ctx       context.Context
	store     swift.Store
	binary    string // csi-swiftblock
	dir       string // of whatever is on disk
	authority string // directory
	prefix    string // of the containers
	nodes     *nodes
	random    *rand.Rand
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), store: swifttest.NewRealStore(t), dir: t.TempDir()}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("SWIFTBLOCK_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("SWIFTBLOCK_SEED=%d", seed)
	w.random = rand.New(rand.NewPCG(seed, 0))
	w.prefix = fmt.Sprintf("family_%016x_", ident.Random64())
	w.nodes = &nodes{members: map[ident.Volume]*member{}}
	w.binary = filepath.Join(w.dir, "csi-swiftblock")
	build := exec.Command("go", "build", "-o", w.binary, "github.com/swiftblock/csi-swiftblock/cmd/csi-swiftblock")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	w.open(filepath.Join(w.dir, "authority"))
	return w
}

// open takes an authority, and makes it where there is none.
func (w *world) open(dir string) {
	w.t.Helper()
	a, err := authority.OpenFile(dir)
	w.check(err)
	w.authority = dir
	w.Catalog = catalog.New(catalog.Config{
		Authority: a, Store: w.store, Prefix: w.prefix, Cluster: cluster, Nodes: w.nodes, Grace: grace,
	})
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// command is the program on this world.
func (w *world) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(w.ctx, w.binary, append(args, "--authority", w.authority, "--prefix", w.prefix)...)
	c.Stderr = os.Stderr
	return c
}

// run runs the program, which must succeed, and reads the JSON that it prints into v;
// nil: it prints none.
func (w *world) run(v any, args ...string) {
	w.t.Helper()
	if v != nil {
		args = append(args, "--json")
	}
	out, err := w.command(args...).Output()
	if err != nil {
		w.t.Fatalf("csi-swiftblock %v: %v", args, err)
	}
	if v != nil {
		w.check(json.Unmarshal(out, v))
	}
}

// chunkObjects lists the full chunks in a container with their sizes.
func (w *world) chunkObjects(container string) map[string]int64 {
	w.t.Helper()
	sizes := map[string]int64{}
	for row, err := range swift.Rows(w.ctx, w.store, container, chunks.ChunkPrefix) {
		w.check(err)
		sizes[row.Name] = row.Size
	}
	return sizes
}

// empty checks that collections leave no container, once all is deleted.
func (w *world) empty() {
	w.t.Helper()
	var left []string
	for range 30 {
		time.Sleep(grace)
		w.collect()
		var err error
		left, err = w.store.Containers(w.ctx, w.prefix, "", 0)
		w.check(err)
		if len(left) == 0 {
			return
		}
	}
	w.t.Fatalf("containers left: %v", left)
}

// collect runs the sweep and the collection, as the controller does from time to time.
func (w *world) collect() catalog.Collected {
	w.t.Helper()
	_, err := w.Sweep(w.ctx)
	w.check(err)
	collected, err := w.Collect(w.ctx, catalog.CollectOptions{})
	w.check(err)
	return collected
}
