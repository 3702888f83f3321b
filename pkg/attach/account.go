package attach

import (
	"context"
	"errors"
	"io/fs"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// confirm asks the controller for the epoch of the journal, and keeps the secrets
// of the volume's Swift account, with which it answers.
func (e *export) confirm(ctx context.Context, r *record) (*wire.Opening, error) {
	opening, err := e.config.Controller.Confirm(ctx, &wire.ConfirmRequest{
		Volume: string(e.id), Node: e.config.Node, Endpoint: e.config.Endpoint,
		Journal: r.Journal, Epoch: wire.FromEpoch(r.Epoch), Reader: r.Reader,
	})
	if err != nil {
		return nil, err
	}
	if err := e.keep(opening.Account, opening.Secrets); err != nil {
		return nil, err
	}
	return opening, e.keepKeys(opening)
}

// keep takes in secrets of a volume's account.
func (e *export) keep(account string, secrets map[string]string) error {
	if len(secrets) == 0 {
		return nil
	}
	name, err := e.config.accounts.Keep(secrets)
	if err == nil && name != account {
		err = errors.New("they are of another Swift account than the volume")
	}
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "secrets: %v", err)
	}
	return nil
}

// store is that of the volume's account. Its secrets do not survive a reboot: then
// the controller, which may be asked for the same journal again, has them.
func (e *export) store(ctx context.Context, r *record) (swift.Store, error) {
	store, err := e.config.accounts.Store(r.Account)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := e.confirm(ctx, r); err != nil {
			return nil, err
		}
		return e.config.accounts.Store(r.Account)
	}
	return store, err
}
