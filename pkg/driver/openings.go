package driver

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// Epochs is the part of the catalog that says who may write.
type Epochs interface {
	Confirm(ctx context.Context, r catalog.Confirmation) (catalog.Opening, error)
	Published(ctx context.Context, r catalog.Report) error
	Closed(ctx context.Context, r catalog.Report) error
}

// Secrets hands out the credentials of Swift accounts; see [accounts.Accounts].
type Secrets interface {
	Secrets(name string) (map[string]string, error)
}

// Unwrapper opens the keys of volumes with those of classes; see [keys.Vault].
type Unwrapper interface {
	Unwrap(volume string, w *keys.Wrapped) (keys.Set, error)
}

// Openings answers the export processes: it is the catalog over the wire.
type Openings struct {
	wire.UnimplementedOpeningsServer
	epochs  Epochs
	secrets Secrets
	keys    Unwrapper
}

// NewOpenings returns the service.
func NewOpenings(epochs Epochs, secrets Secrets, keys Unwrapper) *Openings {
	return &Openings{epochs: epochs, secrets: secrets, keys: keys}
}

// Register adds the service to a server.
func (o *Openings) Register(s grpc.ServiceRegistrar) { wire.RegisterOpeningsServer(s, o) }

// FromNode allows what is asked in the name of the node that asks.
func FromNode(ctx context.Context, req any) error {
	r, ok := req.(interface{ GetNode() string })
	if !ok {
		return status.Errorf(codes.PermissionDenied, "a request without a node is for nobody on the network")
	}
	return trust.Caller(ctx, trust.Node(r.GetNode()))
}

// FromController allows what the controller asks.
func FromController(ctx context.Context, _ any) error { return trust.Caller(ctx, trust.Controller) }

// Confirm gives a journal its epoch (R5).
func (o *Openings) Confirm(ctx context.Context, r *wire.ConfirmRequest) (*wire.Opening, error) {
	id, err := volumeID("volume", r.GetVolume())
	if err != nil {
		return nil, err
	}
	for field, value := range map[string]string{"node": r.GetNode(), "journal": r.GetJournal()} {
		if err := checkText(field, value, maxString); err != nil {
			return nil, err
		}
	}
	if err := checkText("endpoint", r.GetEndpoint(), maxPath); err != nil {
		return nil, err
	}
	opening, err := o.epochs.Confirm(ctx, catalog.Confirmation{
		Volume: id, Node: r.GetNode(), Endpoint: r.GetEndpoint(), Journal: r.GetJournal(), Reader: r.GetReader(), Epoch: r.GetEpoch().Ident(),
	})
	if err != nil {
		return nil, err
	}
	secrets, err := o.secrets.Secrets(opening.Account)
	if err != nil {
		return nil, err
	}
	set, err := o.keys.Unwrap(r.GetVolume(), opening.Keys)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", r.GetVolume(), err)
	}
	answer := &wire.Opening{
		Epoch:      wire.FromEpoch(opening.Epoch),
		Container:  opening.Container,
		Head:       wire.FromRoot(opening.Head),
		Size:       opening.Size,
		Parameters: opening.Parameters,
		Account:    opening.Account,
		Secrets:    secrets,
		Keys:       set.Bytes(),
		Key:        set.Own,
	}
	if opening.Keys != nil {
		answer.WrappedBy = opening.Keys.By
	}
	return answer, nil
}

// Published records a root of an open epoch.
func (o *Openings) Published(ctx context.Context, r *wire.PublishedRequest) (*wire.PublishedResponse, error) {
	report, err := report(r)
	if err != nil {
		return nil, err
	}
	return &wire.PublishedResponse{}, o.epochs.Published(ctx, report)
}

// Closed ends an epoch with its last root (R6).
func (o *Openings) Closed(ctx context.Context, r *wire.ClosedRequest) (*wire.ClosedResponse, error) {
	report, err := report(r)
	if err != nil {
		return nil, err
	}
	return &wire.ClosedResponse{}, o.epochs.Closed(ctx, report)
}

func report(r interface {
	GetVolume() string
	GetNode() string
	GetJournal() string
	GetRoot() *wire.Root
},
) (catalog.Report, error) {
	id, err := volumeID("volume", r.GetVolume())
	if err != nil {
		return catalog.Report{}, err
	}
	root, err := r.GetRoot().Record()
	if err != nil {
		return catalog.Report{}, invalid("root", "is not whole: %v", err)
	}
	return catalog.Report{Volume: id, Node: r.GetNode(), Journal: r.GetJournal(), Root: root}, nil
}
