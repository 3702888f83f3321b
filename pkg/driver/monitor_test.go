package driver_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// board keeps what it was shown last.
type board struct {
	fares map[ident.Volume]authority.Fare
	err   error
}

func (b *board) Show(_ context.Context, fares map[ident.Volume]authority.Fare) error {
	b.fares = fares
	return b.err
}

func TestMonitor(t *testing.T) {
	r := newRig(t)
	closed, open := ident.Volume(r.create("closed")), ident.Volume(r.published("open"))
	if err := r.stage(string(open), mounted("ext4")); err != nil {
		t.Fatal(err)
	}
	seen := &board{}
	m := driver.Monitor{Catalog: r.catalog, Exports: r.exports, Board: seen}
	look := func(want ...string) authority.Fare {
		t.Helper()
		if err := m.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := seen.fares[closed]; len(seen.fares) != 2 || f.Figures == nil || f.Figures.Dirty != 0 || len(f.Conditions) > 0 {
			t.Errorf("a closed volume: %+v", seen.fares)
		}
		fare := seen.fares[open]
		for i, c := range fare.Conditions {
			if i >= len(want) || c.Reason != want[i] || c.Remedy == "" || c.Severity == 0 {
				t.Errorf("condition %+v; want %v", c, want)
			}
		}
		if len(fare.Conditions) != len(want) {
			t.Errorf("%d conditions, want %v", len(fare.Conditions), want)
		}
		return fare
	}
	if f := look(); f.Figures == nil {
		t.Error("a volume that is served has no figures")
	}
	r.exports.Trouble(&wire.Condition{Severity: wire.Severity_SEVERITY_DEGRADED, Reason: wire.ReasonSwiftUnreachable, Message: "no answer"})
	look(wire.ReasonSwiftUnreachable)
	r.exports.Fail(errors.New("connection refused"))
	if f := look("NodeNotReachable"); f.Figures != nil {
		t.Errorf("nobody answers, and yet there are figures: %+v", f.Figures)
	}
	seen.err = errors.New("no API server")
	if err := m.Round(t.Context()); !errors.Is(err, seen.err) {
		t.Errorf("a board that fails: %v", err)
	}
}

// Where nobody listens, the controller says that the node is away, and the node that
// its export process is.
func TestNobodyListens(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	seen := &board{}
	shown := driver.NewShown(seen)
	r.must("look", driver.Monitor{Catalog: r.catalog, Exports: driver.Nodes{}, Board: shown}.Round(t.Context()))
	if c := seen.fares[ident.Volume(id)].Conditions; len(c) != 1 || c[0].Reason != "NodeNotReachable" || c[0].Severity != authority.Degraded {
		t.Errorf("the controller: %+v", c)
	}
	if metric := "swiftblock_volume_condition NodeNotReachable Degraded " + id; gather.Values(t, shown)[metric] != 1 {
		t.Errorf("no %s: %v", metric, gather.Values(t, shown))
	}
	conn, err := grpc.NewClient("unix://"+r.path("nobody.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	r.must("connect", err)
	defer conn.Close()
	node := driver.NewNode(driver.NodeConfig{
		ID: nodeName, Exports: wire.NewExportsClient(conn), Initiator: r.machine, Filesystems: r.machine, Mounts: r.machine, Usage: r.machine,
	})
	answer, err := node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: id})
	r.must("health", err)
	if h := answer.GetVolumeHealth().GetHealthStatuses(); len(h) != 1 || h[0].GetReason() != "ExportNotReachable" {
		t.Errorf("the node: %v", h)
	}
}

// conditionRows are the rows of the table of conditions in a section of a page.
func conditionRows(t *testing.T, page, section string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "## "+section+"\n")
	table, _, _ = strings.Cut(table, "\n## ")
	if !found {
		t.Fatalf("docs/%s has no section %q", page, section)
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if rest, row := strings.CutPrefix(line, "| `"); row {
			reason, rest, _ := strings.Cut(rest, "`")
			rows[reason] = rest
		}
	}
	return rows
}

// tests are the names of all Go tests of the tree.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{"../../pkg", "../../cmd", "../../test"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, f := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				names[string(f[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// Whatever may be wrong with a volume is in the table of docs/operations.md, has a
// remedy, and in docs/testing.md tests that exist; and the tables have nothing else.
func TestConditionsAreDocumented(t *testing.T) {
	explained := conditionRows(t, "operations.md", "Conditions and events")
	tried := conditionRows(t, "testing.md", "Conditions, and what was done to see them")
	exist := tests(t)
	for _, reason := range append(wire.Reasons, driver.Reasons...) {
		if driver.Remedy(reason) == "" {
			t.Errorf("%s has no remedy", reason)
		}
		if explained[reason] == "" {
			t.Errorf("%s is not in docs/operations.md", reason)
		}
		names := regexp.MustCompile(`Test\w+`).FindAllString(tried[reason], -1)
		if len(names) == 0 {
			t.Errorf("docs/testing.md names no test of %s", reason)
		}
		for _, name := range names {
			if !exist[name] {
				t.Errorf("docs/testing.md has %s see %s, which does not exist", name, reason)
			}
		}
		delete(explained, reason)
		delete(tried, reason)
	}
	for reason := range explained {
		t.Errorf("docs/operations.md has %s, which nobody says", reason)
	}
	for reason := range tried {
		t.Errorf("docs/testing.md has %s, which nobody says", reason)
	}
}
