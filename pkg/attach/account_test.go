package attach

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// A volume whose class has a Swift account of its own: its secrets are in RunDir
// only, survive the process, and come from the controller after a reboot.
func TestAccountOfTheClass(t *testing.T) {
	n := newNode(t)
	client, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	if err := client.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": server.Key()}
	cred, err := swift.ParseCredentials(secrets)
	if err != nil {
		t.Fatal(err)
	}
	n.controller.account, n.controller.secrets = cred.Account(), secrets
	n.attach()
	n.write(7)
	wrong := &wire.AttachRequest{Volume: string(n.id), Secrets: map[string]string{"ST_AUTH": server.URL, "ST_USER": "else", "ST_KEY": "k"}}
	if _, err := n.exports.Attach(t.Context(), wrong); status.Code(err) != codes.InvalidArgument {
		t.Errorf("secrets of another account: %v", err)
	}
	if _, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id), Secrets: secrets}); err != nil {
		t.Errorf("the secrets of NodeStage: %v", err)
	}
	n.keepsNothingOf([]byte(server.Key()))

	n.outlives(7)
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	rows, err := client.List(t.Context(), container, "", "", 0)
	if err != nil || len(rows) == 0 {
		t.Errorf("the class's account has %v, %v", rows, err)
	}
	if own := n.objects(); len(own) > 0 {
		t.Errorf("the node's own account has %v", own)
	}
}
