// Package accounts are the Swift accounts of a process: its own, and those whose
// credentials a StorageClass brings along as CSI secrets.
//
// An account has a name, which tells where one logs in and as whom and holds no
// secret. Records name it; the secrets themselves are in a [Vault], where they are
// replaced when they change and found again by whoever needs a volume later: the
// collection, or a node that closes a volume after its reboot (R6).
package accounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Own is the name of the account whose credentials the process itself has.
const Own = ""

// Vault keeps secrets. Its methods are safe for concurrent use.
type Vault interface {
	// Load returns what was saved last under a name; an error that Is
	// [fs.ErrNotExist] if nothing was.
	Load(name string) (map[string]string, error)
	// Save replaces what was saved under a name. It is durable when Save returns.
	Save(name string, secrets map[string]string) error
}

// Accounts are the stores of the accounts in use. They are safe for concurrent use.
type Accounts struct {
	own     swift.Store
	vault   Vault
	options swift.Options

	mu      sync.Mutex
	clients map[string]*swift.Client
}

// New returns the accounts of a process whose own store is given.
func New(own swift.Store, vault Vault, options swift.Options) *Accounts {
	return &Accounts{own: own, vault: vault, options: options, clients: map[string]*swift.Client{}}
}

// Add takes in the secrets of a request and returns the name of their account:
// [Own] if there are none. Secrets that have changed are used from the next log-in
// on. Whoever asks may be mistaken, or name an account of others: in the place of
// secrets that are known, they are kept only if Swift takes them.
func (a *Accounts) Add(secrets map[string]string) (name string, err error) {
	return a.take(secrets, a.try)
}

// Keep is [Accounts.Add] for secrets of which somebody we trust says that they are
// good: Swift is not asked.
func (a *Accounts) Keep(secrets map[string]string) (name string, err error) {
	return a.take(secrets, func(swift.Credentials) error { return nil })
}

func (a *Accounts) take(secrets map[string]string, try func(swift.Credentials) error) (name string, err error) {
	if len(secrets) == 0 {
		return Own, nil
	}
	cred, err := swift.ParseCredentials(secrets)
	if err != nil {
		return "", err
	}
	name = cred.Account()
	known, err := a.vault.Load(name)
	if err == nil && maps.Equal(known, secrets) {
		return name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err := try(cred); err != nil {
			return "", fmt.Errorf("they differ from those that are known of the account, and are not taken: %w", err)
		}
	}
	return name, a.vault.Save(name, secrets)
}

// tryWait is how long a log-in with new secrets may take: somebody waits for it.
const tryWait = 10 * time.Second

// try asks Swift whether it takes credentials, with a client that has no session yet.
func (a *Accounts) try(cred swift.Credentials) error {
	client, err := swift.New(cred, a.options)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), tryWait)
	defer cancel()
	_, err = client.Containers(ctx, "", "", 1)
	return err
}

// Secrets returns those of an account; none for [Own].
func (a *Accounts) Secrets(name string) (map[string]string, error) {
	if name == Own {
		return nil, nil
	}
	secrets, err := a.vault.Load(name)
	if err != nil {
		return nil, fmt.Errorf("credentials of account %.64q: %w", name, err)
	}
	return secrets, nil
}

// Store returns the store of an account.
func (a *Accounts) Store(name string) (swift.Store, error) {
	if name == Own {
		return a.own, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if client := a.clients[name]; client != nil {
		return client, nil
	}
	load := func() (swift.Credentials, error) {
		secrets, err := a.Secrets(name)
		if err != nil {
			return swift.Credentials{}, err
		}
		return swift.ParseCredentials(secrets)
	}
	cred, err := load()
	if err != nil {
		return nil, err
	}
	options := a.options
	options.Reload = load
	client, err := swift.New(cred, options)
	if err != nil {
		return nil, err
	}
	a.clients[name] = client
	return client, nil
}

// Check asks an account whether it takes its credentials; [Own] is not asked.
func (a *Accounts) Check(ctx context.Context, name string) error {
	if name == Own {
		return nil
	}
	s, err := a.Store(name)
	if err == nil {
		_, err = s.Containers(ctx, "", "", 1)
	}
	return err
}

// Routed is a store that reaches each container through its account.
type Routed struct {
	accounts *Accounts
	of       func(ctx context.Context, container string) (name string, err error)
}

var _ swift.Store = (*Routed)(nil)

// Route returns a store over all accounts; of names the account of a container.
func (a *Accounts) Route(of func(ctx context.Context, container string) (name string, err error)) *Routed {
	return &Routed{a, of}
}

func (r *Routed) store(ctx context.Context, container string) (swift.Store, error) {
	name, err := r.of(ctx, container)
	if err != nil {
		return nil, err
	}
	return r.accounts.Store(name)
}

// Containers lists those of the process's own account.
func (r *Routed) Containers(ctx context.Context, prefix, marker string, limit int) ([]string, error) {
	return r.accounts.own.Containers(ctx, prefix, marker, limit)
}

// CreateContainer implements [swift.Store].
func (r *Routed) CreateContainer(ctx context.Context, container string) error {
	s, err := r.store(ctx, container)
	if err != nil {
		return err
	}
	return s.CreateContainer(ctx, container)
}

// DeleteContainer implements [swift.Store].
func (r *Routed) DeleteContainer(ctx context.Context, container string) error {
	s, err := r.store(ctx, container)
	if err != nil {
		return err
	}
	return s.DeleteContainer(ctx, container)
}

// Put implements [swift.Store].
func (r *Routed) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	s, err := r.store(ctx, container)
	if err != nil {
		return "", err
	}
	return s.Put(ctx, container, name, body, o)
}

// Get implements [swift.Store].
func (r *Routed) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	s, err := r.store(ctx, container)
	if err != nil {
		return swift.Object{}, err
	}
	return s.Get(ctx, container, name, o)
}

// Head implements [swift.Store].
func (r *Routed) Head(ctx context.Context, container, name string, o swift.HeadOptions) (swift.Info, error) {
	s, err := r.store(ctx, container)
	if err != nil {
		return swift.Info{}, err
	}
	return s.Head(ctx, container, name, o)
}

// List implements [swift.Store].
func (r *Routed) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	s, err := r.store(ctx, container)
	if err != nil {
		return nil, err
	}
	return s.List(ctx, container, prefix, marker, limit)
}

// Delete implements [swift.Store].
func (r *Routed) Delete(ctx context.Context, container, name string) error {
	s, err := r.store(ctx, container)
	if err != nil {
		return err
	}
	return s.Delete(ctx, container, name)
}

// DeleteMany implements [swift.Store].
func (r *Routed) DeleteMany(ctx context.Context, container string, names []string) error {
	s, err := r.store(ctx, container)
	if err != nil {
		return err
	}
	return s.DeleteMany(ctx, container, names)
}
