package driver_test

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// A class brings the credentials of its own Swift account: the volume and all that
// is made from it are there, whoever works on it later and with whatever secrets.
func TestClassWithAnAccountOfItsOwn(t *testing.T) {
	r := newRig(t)
	secrets := r.otherAccount()
	cred, err := swift.ParseCredentials(secrets)
	r.must("credentials", err)
	other := swifttest.NewClient(t, cred)
	containers := func(s swift.Store) int {
		t.Helper()
		names, err := s.Containers(t.Context(), "", "", 0)
		r.must("list containers", err)
		return len(names)
	}

	q := createRequest("one")
	q.Secrets = secrets
	created, err := r.controller.CreateVolume(t.Context(), q)
	r.must("create", err)
	id := created.GetVolume().GetVolumeId()
	if own, theirs := containers(r.store), containers(other); own != 0 || theirs != 1 {
		t.Errorf("%d containers in the driver's account and %d in the class's, want 0 and 1", own, theirs)
	}
	_, err = r.controller.CreateVolume(t.Context(), createRequest("one"))
	expect(t, "the same name in another account", err, codes.AlreadyExists, "account")
	snapshot, err := r.controller.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
	r.must("snapshot", err)
	restore := createRequest("restored")
	restore.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot.GetSnapshot().GetSnapshotId()},
	}}
	_, err = r.controller.CreateVolume(t.Context(), restore)
	expect(t, "restore in another account", err, codes.InvalidArgument, "account")
	restore.Secrets = secrets
	restored, err := r.controller.CreateVolume(t.Context(), restore)
	r.must("restore", err)

	publish := publishRequest(id)
	publish.Secrets = r.otherAccount()
	_, err = r.controller.ControllerPublishVolume(t.Context(), publish)
	expect(t, "publish with secrets of another account", err, codes.InvalidArgument, "secrets")
	publish.Secrets = secrets
	_, err = r.controller.ControllerPublishVolume(t.Context(), publish)
	r.must("publish", err)
	r.must("stage", r.stage(id, mounted("")))
	r.must("unstage", r.unstage(id))
	_, err = r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
	r.must("unpublish", err)

	_, err = r.controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: snapshot.GetSnapshot().GetSnapshotId()})
	r.must("delete the snapshot", err)
	for _, id := range []string{id, restored.GetVolume().GetVolumeId()} {
		_, err = r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		r.must("delete", err)
	}
	_, err = r.catalog.Sweep(t.Context())
	r.must("sweep", err)
	if theirs := containers(other); theirs != 0 {
		t.Errorf("%d containers stay in the class's account", theirs)
	}
}

func TestSecretsAreChecked(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		secrets map[string]string
		mention string
	}{
		"unknown key":      {map[string]string{"ST_AUTH": "http://s", "ST_USER": "u", "ST_KEY": "k", "color": "blue"}, "color"},
		"a file of ours":   {map[string]string{"OS_AUTH_URL": "http://s", "OS_CACERT": "/etc/shadow"}, "OS_CACERT"},
		"no user":          {map[string]string{"ST_AUTH": "http://s", "ST_KEY": "k"}, "no user"},
		"no key":           {map[string]string{"ST_AUTH": "http://s", "ST_USER": "u"}, "no password"},
		"not a URL":        {map[string]string{"ST_AUTH": "gopher", "ST_USER": "u", "ST_KEY": "k"}, "URL"},
		"an oversized key": {map[string]string{strings.Repeat("X", 4096): "k"}, "not the name"},
	} {
		q := createRequest("one")
		q.Secrets = c.secrets
		_, err := r.controller.CreateVolume(t.Context(), q)
		expect(t, name, err, codes.InvalidArgument, "secrets")
		expect(t, name, err, codes.InvalidArgument, c.mention)
	}
}

// Credentials that Swift refuses leave no record behind: external-provisioner takes the
// refusal for final and asks for no deletion when the claim goes.
func TestRefusedCredentialsLeaveNothing(t *testing.T) {
	r := newRig(t)
	q := createRequest("one")
	q.Secrets = r.otherAccount()
	q.Secrets["ST_KEY"] = "wrong"
	_, err := r.controller.CreateVolume(t.Context(), q)
	expect(t, "create with a wrong key", err, codes.Unauthenticated, "secret")
	for row, err := range authority.All(t.Context(), r.records.Volumes()) {
		t.Errorf("there is a record: %+v, %v", row.Value, err)
	}
}
