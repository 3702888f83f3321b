package attach

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// onlyVolume is a catalog of one volume, which the node writes.
type onlyVolume struct {
	driver.Catalog
	id ident.Volume
}

func (o onlyVolume) ListVolumes(context.Context, authority.Place, int) ([]authority.Volume, authority.Place, error) {
	return []authority.Volume{{ID: o.id, Opening: authority.Opening{Open: true, Node: "n1", Endpoint: "here"}}}, authority.Beginning, nil
}

// Show implements [driver.Board]: nobody looks.
func (onlyVolume) Show(context.Context, map[ident.Volume]authority.Fare) error { return nil }

// Ask implements [driver.Exports].
func (n *node) Ask(ctx context.Context, _ string, v ident.Volume) (*wire.StatusResponse, error) {
	return n.exports.Status(ctx, &wire.StatusRequest{Volume: string(v)})
}

// monitored returns what the controller's monitor makes of the volume for Prometheus:
// volume_condition, by condition and health.
func (n *node) monitored() map[string]float64 {
	n.t.Helper()
	volume := onlyVolume{id: n.id}
	shown := driver.NewShown(volume)
	if err := (driver.Monitor{Catalog: volume, Exports: n, Board: shown}).Round(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return n.gatheredFrom(shown)
}

// While a journal is full, writes are held, none fails, and that is what the metric
// says; they go on with the uploads.
func TestWritesHeld(t *testing.T) {
	n := newNodeInCloud(t)
	n.controller.rpo = "1s"
	n.attach()
	n.cloud.fails(n.cloud.stall)
	done := make(chan error, 1)
	device := n.device()
	go func() {
		var err error
		for i := 0; i < 512/4 && err == nil; i++ { // as much as the journal's quota
			err = device.WriteAt(t.Context(), bytes.Repeat([]byte{byte(i)}, 4<<20), 8<<20, false)
		}
		done <- err
	}()
	n.await("no write is held", func() bool { return n.gathered()["volume_writes_held"] > 0 })
	time.Sleep(100 * time.Millisecond)
	if held := n.gathered()["volume_writes_held"]; held != 1 || len(done) > 0 {
		t.Errorf("%v writes are held, ended: %d", held, len(done))
	}
	n.cloud.recovers()
	if err := <-done; err != nil {
		t.Errorf("a write that was held: %v", err)
	}
	n.await("the metric stays", func() bool {
		now := n.gathered()
		return now["volume_writes_held"] == 0 && now["volume_journal_fill_ratio"] < 0.75
	})
}
