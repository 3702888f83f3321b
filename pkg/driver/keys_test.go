package driver_test

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Keys of two classes, as their Secrets have them.
const (
	oneKey     = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY="
	anotherKey = "QUJDREVGMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
)

// encryptedRequest is for a volume of a class with encryption.
func encryptedRequest(name, key string) *csi.CreateVolumeRequest {
	q := createRequest(name)
	q.Parameters = map[string]string{"encryption": "aes-256-gcm"}
	q.Secrets = map[string]string{keys.Field: key}
	return q
}

func fromVolume(q *csi.CreateVolumeRequest, id string) *csi.CreateVolumeRequest {
	q.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id},
	}}
	return q
}

// A class with encryption: each volume has a key of its own, wrapped by that of the
// class; what is made from it has its keys, too, and nobody gets them without the
// class's. Nodes get the keys of volumes, and never that of a class.
func TestEncryptedClass(t *testing.T) {
	r := newRig(t)
	created, err := r.controller.CreateVolume(t.Context(), encryptedRequest("one", oneKey))
	r.must("create", err)
	id := created.GetVolume().GetVolumeId()
	again, err := r.controller.CreateVolume(t.Context(), encryptedRequest("one", oneKey))
	r.must("create again", err)
	if again.GetVolume().GetVolumeId() != id {
		t.Error("the same request made another volume")
	}
	_, err = r.controller.CreateVolume(t.Context(), encryptedRequest("one", anotherKey))
	expect(t, "the same name with another key", err, codes.AlreadyExists, "another class's key")
	_, err = r.controller.CreateVolume(t.Context(), createRequest("one"))
	expect(t, "the same name without encryption", err, codes.AlreadyExists, "encrypted")

	v, err := r.catalog.GetVolume(t.Context(), ident.Volume(id))
	r.must("get", err)
	class, err := keys.ParseClass(oneKey)
	r.must("parse", err)
	set, err := class.Unwrap(id, v.Keys)
	r.must("unwrap", err)

	publish := publishRequest(id)
	publish.Secrets = map[string]string{keys.Field: anotherKey}
	_, err = r.controller.ControllerPublishVolume(t.Context(), publish)
	expect(t, "publish with another key", err, codes.InvalidArgument, keys.PreviousField)
	publish.Secrets = map[string]string{keys.Field: anotherKey, keys.PreviousField: oneKey}
	_, err = r.controller.ControllerPublishVolume(t.Context(), publish)
	r.must("publish while the key is exchanged", err)
	r.must("stage", r.stage(id, mounted("")))
	r.must("unstage", r.unstage(id))
	_, err = r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
	r.must("unpublish", err)

	_, err = r.controller.CreateVolume(t.Context(), fromVolume(createRequest("plain"), id))
	expect(t, "a clone without encryption", err, codes.InvalidArgument, "has to be")
	_, err = r.controller.CreateVolume(t.Context(), fromVolume(encryptedRequest("foreign", anotherKey), id))
	expect(t, "a clone without the source's key", err, codes.InvalidArgument, "the keys of the source")
	_, err = r.controller.CreateVolume(t.Context(), fromVolume(encryptedRequest("of plain", oneKey), r.create("open")))
	expect(t, "an encrypted clone of what is not", err, codes.InvalidArgument, "cannot be")
	exchanged := fromVolume(encryptedRequest("clone", anotherKey), id)
	exchanged.Secrets[keys.PreviousField] = oneKey
	clone, err := r.controller.CreateVolume(t.Context(), exchanged)
	r.must("clone", err)
	child, err := r.catalog.GetVolume(t.Context(), ident.Volume(clone.GetVolume().GetVolumeId()))
	r.must("get the clone", err)
	ring, _, err := keys.Split(map[string]string{keys.Field: anotherKey})
	r.must("split", err)
	both, err := ring.Unwrap(string(child.ID), child.Keys)
	if err != nil || len(both.Secrets) != 2 || both.Secrets[set.Own] != set.Secret() || both.Own == set.Own {
		t.Errorf("the clone has %d keys, %v", len(both.Secrets), err)
	}

	// What is recorded and logged tells neither key.
	secret := set.Secret()
	for what, text := range map[string]string{"the log": r.log.String(), "the record": string(v.Keys.Sealed) + string(v.Keys.Check) + v.Keys.By} {
		if strings.Contains(text, oneKey) || strings.Contains(text, anotherKey) || strings.Contains(text, string(secret[:])) || strings.Contains(text, "0123456789abcdef0123456789ABCDEF") {
			t.Errorf("a key is in %s", what)
		}
	}
}

func TestClassAndKeyMustFit(t *testing.T) {
	r := newRig(t)
	q := encryptedRequest("one", oneKey)
	q.Secrets = nil
	_, err := r.controller.CreateVolume(t.Context(), q)
	expect(t, "no key", err, codes.InvalidArgument, keys.Field)
	q = createRequest("one")
	q.Secrets = map[string]string{keys.Field: oneKey}
	_, err = r.controller.CreateVolume(t.Context(), q)
	expect(t, "a key and no encryption", err, codes.InvalidArgument, "encryption")
	q = encryptedRequest("one", "hunter2")
	_, err = r.controller.CreateVolume(t.Context(), q)
	expect(t, "a passphrase", err, codes.InvalidArgument, "openssl rand")
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Error("the message has the passphrase")
	}
	q = encryptedRequest("one", oneKey)
	q.MutableParameters = map[string]string{"encryption": "none"}
	_, err = r.controller.CreateVolume(t.Context(), q)
	expect(t, "encryption as what may change", err, codes.InvalidArgument, "encryption")
}

// A controller that has lost the key of a class says so, and has it again when the
// Secret comes along.
func TestLostKeyOfAClass(t *testing.T) {
	r := newRig(t)
	created, err := r.controller.CreateVolume(t.Context(), encryptedRequest("one", oneKey))
	r.must("create", err)
	id := created.GetVolume().GetVolumeId()
	class, err := keys.ParseClass(oneKey)
	r.must("parse", err)
	r.must("damage the vault", accounts.Directory(r.path("accounts")).Save(class.Name(), map[string]string{keys.Field: anotherKey}))
	r.publish(id)
	expect(t, "stage", r.stage(id, mounted("")), codes.FailedPrecondition, "wrapped by another key")
	publish := publishRequest(id)
	publish.Secrets = map[string]string{keys.Field: oneKey}
	_, err = r.controller.ControllerPublishVolume(t.Context(), publish)
	r.must("publish with the Secret", err)
	r.must("stage with the Secret", r.stage(id, mounted("")))
}

// forgetful is a vault from which somebody takes a key as soon as it is there.
type forgetful struct {
	keys.Vault
	added int
}

func (f *forgetful) Add(r keys.Ring) error {
	err := f.Vault.Add(r)
	if f.added++; f.added == 1 && err == nil {
		err = f.Remove(r[0].Name())
	}
	return err
}

// A key that is forgotten while a volume is made with it is known when the volume is there.
func TestKeyForgottenMeanwhile(t *testing.T) {
	r := newRig(t)
	vault := &forgetful{Vault: keys.Vault{Store: accounts.Directory(r.path("accounts"))}}
	controller := csi.NewControllerClient(r.serve("forgetful", driver.NewController(driver.ControllerConfig{
		Catalog: r.catalog, Cluster: r.cluster, Account: r.account, Keys: vault, Exports: r.exports,
		Accounts: accounts.New(r.store, vault.Store, swift.Options{}),
	}).Register))
	created, err := controller.CreateVolume(t.Context(), encryptedRequest("one", oneKey))
	r.must("create", err)
	id := created.GetVolume().GetVolumeId()
	v, err := r.catalog.GetVolume(t.Context(), ident.Volume(id))
	r.must("get", err)
	if _, err := vault.Unwrap(id, v.Keys); err != nil {
		t.Errorf("the keys of the volume: %v", err)
	}
}
