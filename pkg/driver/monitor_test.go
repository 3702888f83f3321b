package driver_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
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

// Whatever may be wrong with a volume is in the table of docs/operations.md, and has a
// remedy; and the table has nothing else.
func TestConditionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "## Conditions and events\n")
	table, _, _ = strings.Cut(table, "\n## ")
	if !found {
		t.Fatal("docs/operations.md has no section of conditions")
	}
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		if rest, row := strings.CutPrefix(line, "| `"); row {
			reason, _, _ := strings.Cut(rest, "`")
			documented[reason] = true
		}
	}
	for _, reason := range append(wire.Reasons, driver.Reasons...) {
		if driver.Remedy(reason) == "" {
			t.Errorf("%s has no remedy", reason)
		}
		if !documented[reason] {
			t.Errorf("%s is not in docs/operations.md", reason)
		}
		delete(documented, reason)
	}
	for reason := range documented {
		t.Errorf("docs/operations.md has %s, which nobody says", reason)
	}
}
