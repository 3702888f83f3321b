package driver_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// epochs notes what it is asked and answers what it is told.
type epochs struct {
	confirmation catalog.Confirmation
	report       catalog.Report
	opening      catalog.Opening
	err          error
}

func (e *epochs) Confirm(_ context.Context, r catalog.Confirmation) (catalog.Opening, error) {
	e.confirmation = r
	return e.opening, e.err
}

func (e *epochs) Published(_ context.Context, r catalog.Report) error {
	e.report = r
	return e.err
}

func (e *epochs) Closed(_ context.Context, r catalog.Report) error {
	e.report = r
	return e.err
}

// vault has the secrets of some accounts.
type vault map[string]map[string]string

func (v vault) Secrets(name string) (map[string]string, error) { return v[name], nil }

func newOpenings(t *testing.T) (*epochs, wire.OpeningsClient) {
	e := &epochs{}
	r := &rig{t: t, dir: t.TempDir(), log: &output{}}
	return e, wire.NewOpeningsClient(r.serve("openings", driver.NewOpenings(e, vault{"a": {"ST_KEY": "k"}}, keys.Vault{}).Register))
}

func TestOpeningsCarryEverything(t *testing.T) {
	e, client := newOpenings(t)
	root := &authority.Root{Container: "c", Epoch: ident.NewEpoch(3), Generation: 7, Hash: authority.Hash{1, 2, 3}}
	e.opening = catalog.Opening{Epoch: ident.NewEpoch(4), Container: "d", Head: root, Size: gib, Parameters: map[string]string{"rpo": "5s"}, Account: "a"}
	v := ident.NewVolume()

	opening, err := client.Confirm(t.Context(), &wire.ConfirmRequest{Volume: string(v), Node: nodeName, Endpoint: "unix:///x", Journal: "j"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (catalog.Confirmation{Volume: v, Node: nodeName, Endpoint: "unix:///x", Journal: "j"}); e.confirmation != want {
		t.Errorf("asked for %+v, want %+v", e.confirmation, want)
	}
	head, err := opening.GetHead().Record()
	if err != nil || *head != *root || opening.GetEpoch().Ident() != e.opening.Epoch || opening.GetSize() != gib ||
		opening.GetContainer() != "d" || opening.GetParameters()["rpo"] != "5s" ||
		opening.GetAccount() != "a" || opening.GetSecrets()["ST_KEY"] != "k" {
		t.Errorf("opening %v, %v", opening, err)
	}

	_, err = client.Published(t.Context(), &wire.PublishedRequest{Volume: string(v), Node: nodeName, Journal: "j", Root: wire.FromRoot(root)})
	if err != nil || e.report.Volume != v || e.report.Node != nodeName || e.report.Journal != "j" || *e.report.Root != *root {
		t.Errorf("published %+v, %v", e.report, err)
	}
	_, err = client.Closed(t.Context(), &wire.ClosedRequest{Volume: string(v), Node: nodeName, Journal: "j"})
	if err != nil || e.report.Root != nil {
		t.Errorf("closed without a root %+v, %v", e.report, err)
	}
}

func TestOpeningsRefuse(t *testing.T) {
	e, client := newOpenings(t)
	v := string(ident.NewVolume())
	for name, q := range map[string]*wire.ConfirmRequest{
		"volume":   {Node: "n", Endpoint: "e", Journal: "j"},
		"node":     {Volume: v, Endpoint: "e", Journal: "j"},
		"endpoint": {Volume: v, Node: "n", Journal: "j"},
		"journal":  {Volume: v, Node: "n", Endpoint: "e"},
	} {
		_, err := client.Confirm(t.Context(), q)
		expect(t, "confirm", err, codes.InvalidArgument, name)
	}
	for _, hash := range [][]byte{nil, {1}, bytes.Repeat([]byte{1}, 33)} {
		_, err := client.Closed(t.Context(), &wire.ClosedRequest{Volume: v, Node: "n", Journal: "j", Root: &wire.Root{Hash: hash}})
		expect(t, fmt.Sprintf("a hash of %d bytes", len(hash)), err, codes.InvalidArgument, "root")
	}
	for want, err := range map[codes.Code]error{
		codes.DataLoss:           catalog.ErrFenced,
		codes.FailedPrecondition: catalog.ErrInUse,
		codes.Aborted:            catalog.ErrBusy,
		codes.Internal:           catalog.ErrRolledBack,
	} {
		e.err = fmt.Errorf("wrapped: %w", err)
		_, have := client.Confirm(t.Context(), &wire.ConfirmRequest{Volume: v, Node: "n", Endpoint: "e", Journal: "j"})
		expect(t, "confirm", have, want, err.Error())
	}
}
