package drivertest

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// CHAPSecret is what every attachment has; it must not be seen anywhere.
const CHAPSecret = "a-chap-secret"

// Exports is an export process in memory. It asks the controller for epochs like
// a real one, and has no blocks.
type Exports struct {
	// Openings is the controller; nil gives every volume 1 GiB and its own epochs.
	Openings wire.OpeningsClient
	// Node is the name that the controller knows this node by.
	Node string

	mu         sync.Mutex
	volumes    map[string]*exported
	err        error
	conditions []*wire.Condition
	budget     int64
}

// exported is what the export process knows of a volume; attached or not, it
// stays, as the formatted mark stays in the volume's root.
type exported struct {
	attached  bool
	reader    bool
	epoch     uint64
	size      int64
	formatted wire.Formatted
}

var (
	_ wire.ExportsClient = (*Exports)(nil)
	_ driver.Exports     = (*Exports)(nil)
)

// Fail makes every further call fail; nil ends that.
func (e *Exports) Fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// Lose is the loss of all journals: the next Attach opens another epoch.
func (e *Exports) Lose() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.volumes {
		v.attached = false
	}
}

// Trouble is what Status says from now on.
func (e *Exports) Trouble(conditions ...*wire.Condition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conditions = conditions
}

// SetBudget is the room for journals, in bytes.
func (e *Exports) SetBudget(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.budget = bytes
}

// Attached returns how many volumes are attached.
func (e *Exports) Attached() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, v := range e.volumes {
		if v.attached {
			n++
		}
	}
	return n
}

// Formatted returns a volume's mark.
func (e *Exports) Formatted(volume string) wire.Formatted {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.volume(volume).formatted
}

func (e *Exports) volume(id string) *exported {
	if e.volumes == nil {
		e.volumes = map[string]*exported{}
	}
	if e.volumes[id] == nil {
		e.volumes[id] = &exported{size: 1 << 30}
	}
	return e.volumes[id]
}

// attached returns a volume that is attached, or the error of one that is not.
func (e *Exports) attached(id string) (*exported, error) {
	v := e.volume(id)
	if e.err != nil {
		return nil, e.err
	}
	if !v.attached {
		return nil, status.Errorf(codes.NotFound, "volume %s is not exported here", id)
	}
	return v, nil
}

func journal(id string, epoch uint64) string { return fmt.Sprintf("journal-%s-%d", id, epoch) }

// Attach opens an epoch.
func (e *Exports) Attach(ctx context.Context, r *wire.AttachRequest, _ ...grpc.CallOption) (*wire.Attachment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, e.err
	}
	id := r.GetVolume()
	v := e.volume(id)
	if !v.attached || v.reader != r.GetReader() {
		v.epoch++
	}
	if e.Openings != nil {
		opening, err := e.Openings.Confirm(ctx, &wire.ConfirmRequest{
			Volume: id, Node: e.Node, Endpoint: "unix:///nowhere", Journal: journal(id, v.epoch), Reader: r.GetReader(),
		})
		if err != nil {
			return nil, err
		}
		v.size = max(v.size, opening.GetSize())
	}
	v.attached, v.reader = true, r.GetReader()
	return &wire.Attachment{
		Portal:     "127.0.0.1:3270",
		Iqn:        fmt.Sprintf("iqn.2026-01.dev.swiftblock:%s.%d", id, v.epoch),
		Serial:     id,
		ChapUser:   "user",
		ChapSecret: CHAPSecret,
		Size:       v.size,
		Formatted:  v.formatted,
	}, nil
}

// Detach closes the epoch.
func (e *Exports) Detach(ctx context.Context, r *wire.DetachRequest, _ ...grpc.CallOption) (*wire.DetachResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, e.err
	}
	id := r.GetVolume()
	v := e.volume(id)
	if v.attached && !v.reader && e.Openings != nil {
		if _, err := e.Openings.Closed(ctx, &wire.ClosedRequest{Volume: id, Node: e.Node, Journal: journal(id, v.epoch)}); err != nil {
			return nil, err
		}
	}
	v.attached = false
	return &wire.DetachResponse{}, nil
}

// Seal is refused: there are no blocks to cut.
func (e *Exports) Seal(context.Context, *wire.SealRequest, ...grpc.CallOption) (*wire.SealResponse, error) {
	return nil, status.Error(codes.Unimplemented, "an export process in memory has no blocks")
}

// Resize grows a volume.
func (e *Exports) Resize(_ context.Context, r *wire.ResizeRequest, _ ...grpc.CallOption) (*wire.ResizeResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.attached(r.GetVolume())
	if err == nil && v.reader {
		err = status.Error(codes.FailedPrecondition, "the volume is only read here")
	}
	if err != nil {
		return nil, err
	}
	v.size = max(v.size, r.GetSize())
	return &wire.ResizeResponse{Size: v.size}, nil
}

// SetFormatted keeps the mark.
func (e *Exports) SetFormatted(_ context.Context, r *wire.SetFormattedRequest, _ ...grpc.CallOption) (*wire.SetFormattedResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.attached(r.GetVolume())
	if err != nil {
		return nil, err
	}
	v.formatted = r.GetFormatted()
	return &wire.SetFormattedResponse{}, nil
}

// Status tells the epoch.
func (e *Exports) Status(_ context.Context, r *wire.StatusRequest, _ ...grpc.CallOption) (*wire.StatusResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.attached(r.GetVolume())
	if err != nil {
		return nil, err
	}
	return &wire.StatusResponse{Epoch: &wire.Epoch{Number: v.epoch}, Size: v.size, Conditions: e.conditions}, nil
}

// Ask is Status over the wire, as the controller asks for it.
func (e *Exports) Ask(ctx context.Context, _ string, v ident.Volume) (*wire.StatusResponse, error) {
	return e.Status(ctx, &wire.StatusRequest{Volume: string(v)})
}

// Modify accepts everything.
func (e *Exports) Modify(_ context.Context, r *wire.ModifyRequest, _ ...grpc.CallOption) (*wire.ModifyResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.attached(r.GetVolume())
	return &wire.ModifyResponse{}, err
}

// Room tells the budget.
func (e *Exports) Room(context.Context, *wire.RoomRequest, ...grpc.CallOption) (*wire.RoomResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &wire.RoomResponse{Budget: e.budget}, e.err
}
