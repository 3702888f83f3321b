package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// Vault keeps the secrets of Swift accounts, and keys of classes, as Secrets of one
// namespace.
type Vault struct{ client typed.SecretInterface }

// vaultPrefix begins the names of the Secrets.
const vaultPrefix = "csi-swiftblock-account-"

// NewVault returns the vault in a namespace. The requests have the config's timeout.
func NewVault(config *rest.Config, namespace string) (Vault, error) {
	client, err := typed.NewForConfig(config)
	if err != nil {
		return Vault{}, fmt.Errorf("secrets of Kubernetes: %w", err)
	}
	return Vault{client.Secrets(namespace)}, nil
}

// Load returns what was saved last under a name, or [fs.ErrNotExist].
func (v Vault) Load(name string) (map[string]string, error) {
	secret, err := v.client.Get(context.Background(), vaultPrefix+name, metav1.GetOptions{})
	if absent(err) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, fmt.Errorf("what is kept as %s%s: %w", vaultPrefix, name, err)
	}
	secrets := make(map[string]string, len(secret.Data))
	for key, value := range secret.Data {
		secrets[key] = string(value)
	}
	return secrets, nil
}

// Save stores secrets under a name, in place of what was there.
func (v Vault) Save(name string, secrets map[string]string) error {
	old, err := v.Load(name)
	if err == nil && maps.Equal(old, secrets) {
		return nil
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: vaultPrefix + name}, StringData: secrets}
	if err == nil {
		_, err = v.client.Update(context.Background(), secret, metav1.UpdateOptions{})
	} else {
		_, err = v.client.Create(context.Background(), secret, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("what is kept as %s%s: %w", vaultPrefix, name, err)
	}
	return nil
}

// Remove removes what was saved under a name, or nothing.
func (v Vault) Remove(name string) error {
	err := v.client.Delete(context.Background(), vaultPrefix+name, metav1.DeleteOptions{})
	if err != nil && !absent(err) {
		return fmt.Errorf("what is kept as %s%s: %w", vaultPrefix, name, err)
	}
	return nil
}

// absent reports whether err says that an object does not exist, and not that the
// API server does not know what was asked for.
func absent(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
