// Package trust is who may talk to whom over the network: TLS 1.3 on both sides,
// with certificates of one private authority whose names say what their holder is.
//
//	controller.csi.swiftblock.dev     the controller
//	NODE.node.csi.swiftblock.dev      the export process of a node; see [Node]
//
// A certificate is for both ends of a connection: the controller is the server of
// Openings and the client of Exports. Unix sockets need none: their files are 0600.
//
// Certificates rotate without losing a call. [Keys] reads its directory before each
// handshake; a server ends its connections after a while, in good order, so that
// none outlives a certificate for long.
package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Identity is a DNS name that certificates are issued for.
type Identity string

const domain = "csi.swiftblock.dev"

// Controller is whoever decides who may write.
const Controller Identity = "controller." + domain

// Node is the node with a CSI id. Its dots are underscores here: a certificate for
// *.node.csi.swiftblock.dev stands for one label, and Kubernetes names nodes such as
// ip-10-0-0-1.ec2.internal.
func Node(id string) Identity { return Identity(label.Replace(id) + ".node." + domain) }

// label makes one label of an id, and never the same one of two.
var label = strings.NewReplacer(".", "_", "_", "__")

// ours reports whether a DNS name is an identity.
func ours(name string) bool {
	return name == string(Controller) || strings.HasSuffix(name, string(Node("")))
}

// The files of a directory of keys, named as in a Kubernetes Secret.
const (
	certFile = "tls.crt" // certificate, and those that lead to the authority
	keyFile  = "tls.key"
	caFile   = "ca.crt" // authorities to trust: two while one takes over from another
)

// Keys are a certificate with its key, and the authorities of the others.
type Keys struct {
	dir    string
	report func(error)

	mu      sync.Mutex
	current *keys
	trouble string // what was reported last
}

type keys struct {
	pem         [3][]byte // the files
	certificate tls.Certificate
	authorities *x509.CertPool
}

// Open reads a directory, and reads it again before each handshake. While what is
// there cannot be used the last that could is; report hears of each new reason, and
// of handshakes that failed. It must not block.
func Open(dir string, report func(error)) (*Keys, error) {
	k := &Keys{dir: dir, report: report}
	var err error
	if k.current, err = read(dir, nil); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return k, nil
}

// get returns the keys of the moment.
func (k *Keys) get() *keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch fresh, err := read(k.dir, k.current); {
	case err == nil:
		k.current, k.trouble = fresh, ""
	case err.Error() != k.trouble:
		k.trouble = err.Error()
		k.report(fmt.Errorf("changed certificates are not used, the old ones are: %w", err))
	}
	return k.current
}

// End is when the certificate ends: nobody speaks to its holder from then on.
func (k *Keys) End() time.Time { return k.get().certificate.Leaf.NotAfter }

// read returns what is in a directory, which is last if nothing has changed. A
// directory whose files are replaced one by one does not fit together for a moment;
// that is an error as any other.
func read(dir string, last *keys) (*keys, error) {
	var pem [3][]byte
	for i, name := range []string{certFile, keyFile, caFile} {
		var err error
		if pem[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	if last != nil && bytes.Equal(pem[0], last.pem[0]) && bytes.Equal(pem[1], last.pem[1]) && bytes.Equal(pem[2], last.pem[2]) {
		return last, nil
	}
	k := &keys{pem: pem, authorities: x509.NewCertPool()}
	var err error
	if k.certificate, err = tls.X509KeyPair(pem[0], pem[1]); err != nil {
		return nil, fmt.Errorf("%s and %s of %s: %w", certFile, keyFile, dir, err)
	}
	if !k.authorities.AppendCertsFromPEM(pem[2]) {
		return nil, fmt.Errorf("%s of %s holds no PEM certificate", caFile, dir)
	}
	leaf := k.certificate.Leaf
	if left := time.Until(leaf.NotAfter); left <= 0 {
		return nil, fmt.Errorf("%s of %s ended at %s: issue a new one", certFile, dir, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if !slices.ContainsFunc(leaf.DNSNames, ours) {
		return nil, fmt.Errorf("%s of %s is for %q: want %s or %s", certFile, dir, leaf.DNSNames, Controller, Node("NODE"))
	}
	return k, nil
}
