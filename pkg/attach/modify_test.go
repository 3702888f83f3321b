package attach

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// modify gives the export other parameters.
func (n *node) modify(changed map[string]string) error {
	parameters := map[string]string{"journalSize": "512Mi", "rpo": "1h"}
	for name, value := range changed {
		parameters[name] = value
	}
	_, err := n.exports.Modify(n.t.Context(), &wire.ModifyRequest{Volume: string(n.id), Parameters: parameters})
	return err
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func TestModifyReachesARunningExport(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(7)
	before := len(n.objects())
	for range 2 {
		if err := n.modify(map[string]string{"rpo": "1s"}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "an RPO of a second uploads", func() bool { return len(n.objects()) > before })
	if err := n.modify(map[string]string{"rpo": "never"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v; want INVALID_ARGUMENT", err)
	}

	// It survives the process, and what was changed meanwhile comes with the next
	// attach.
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.device()
	if p := n.exports.export(n.id).mutable; p.RPO != time.Second {
		t.Errorf("after a restart the RPO is %v", p.RPO)
	}
	n.controller.mu.Lock()
	n.controller.rpo = "5s"
	n.controller.mu.Unlock()
	n.attach()
	if p := n.exports.export(n.id).mutable; p.RPO != 5*time.Second {
		t.Errorf("staged again, the RPO is %v", p.RPO)
	}
}

func TestLimits(t *testing.T) {
	n := newNode(t)
	n.attach()
	block := make([]byte, 4096)
	timed := func(commands int) time.Duration {
		began := time.Now()
		for range commands {
			if err := n.device().ReadAt(t.Context(), block, 0); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	if err := n.modify(map[string]string{"iops": "20"}); err != nil {
		t.Fatal(err)
	}
	if took := timed(11); took < 450*time.Millisecond {
		t.Errorf("11 commands took %v at 20 per second", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.device().ReadAt(ctx, block, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a command that was given up while it waited: %v", err)
	}
	if err := n.modify(map[string]string{"iops": "none"}); err != nil {
		t.Fatal(err)
	}
	if took := timed(1000); took > 40*time.Second {
		t.Errorf("1000 commands took %v without a limit", took)
	}
}

func TestBandwidths(t *testing.T) {
	for name, p := range map[string]class.Mutable{"commands": {Bandwidth: 1 << 20}, "uploads": {UploadBandwidth: 1 << 20}} {
		l := newLimits()
		l.set(p)
		store := throttled{discard{}, l.uploads, newMetrics().uploaded.WithLabelValues("v")}
		move := func(n int) time.Duration {
			began := time.Now()
			var err error
			if name == "commands" {
				err = l.command(t.Context(), n)
			} else if err = store.await(t.Context()); err == nil {
				_, err = store.Put(t.Context(), "c", "o", bytes.Repeat([]byte{1}, n), swift.PutOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		began := time.Now() // what it takes fills up again from here on, however late the next one comes
		move(most)
		if name == "uploads" {
			move(256 << 10) // for which the next one waits
		}
		move(256 << 10)
		if took := time.Since(began); took < 200*time.Millisecond {
			t.Errorf("%s: 256 KiB more than may pass at a time took %v at 1 MiB per second", name, took)
		}
		l.set(class.Mutable{})
		if took := move(2 * most); took > 10*time.Second {
			t.Errorf("%s: 32 MiB took %v without a limit", name, took)
		}
	}
}

type discard struct{ swift.Store }

func (discard) Put(context.Context, string, string, []byte, swift.PutOptions) (string, error) {
	return "", nil
}

// A closing that has not ended stays one over a change of parameters.
func TestModifyBesideAClosing(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(5)
	n.store.set(false)
	n.detachInVain()
	if err := n.modify(map[string]string{"rpo": "2h"}); err != nil {
		t.Error(err)
	}
	if r, err := n.exports.export(n.id).folder.load(); err != nil || r.Stage != closing {
		t.Errorf("stage %v, %v; want closing", r.Stage, err)
	}
	a := n.attach()
	if _, there := n.portal.targets[a.Iqn]; !there {
		t.Errorf("attached, and there is no target %s", a.Iqn)
	}
	n.expect(5)
}

// What an Attach has taken over can be taken back.
func TestModifyAfterAnAttachThatModified(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.controller.mu.Lock()
	n.controller.rpo = "snapshot-only"
	n.controller.mu.Unlock()
	n.attach()
	if err := n.modify(nil); err != nil { // rpo: 1h, as at first
		t.Fatal(err)
	}
	if p := n.exports.export(n.id).mutable; p.RPO != time.Hour {
		t.Errorf("the RPO is %v", p.RPO)
	}
}
