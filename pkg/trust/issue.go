package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

// Authority issues certificates, for trials and tests.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// skew is how far clocks may differ.
const skew = 5 * time.Minute

// NewAuthority makes an authority that can issue for a time.
func NewAuthority(valid time.Duration) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		Subject:               pkix.Name{CommonName: "csi-swiftblock"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a := &Authority{&template, key}
	der, err := a.sign(&template, key, valid)
	if err != nil {
		return nil, err
	}
	a.certificate, err = x509.ParseCertificate(der)
	return a, err
}

// sign fills in what all certificates have, and signs.
func (a *Authority) sign(template *x509.Certificate, holder *ecdsa.PrivateKey, valid time.Duration) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, now.Add(-skew), now.Add(valid)
	return x509.CreateCertificate(rand.Reader, template, a.certificate, holder.Public(), a.key)
}

// Issue writes a certificate for id into a directory, as [Open] reads it.
func (a *Authority) Issue(dir string, id Identity, valid time.Duration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName(id)},
		DNSNames:    []string{string(id)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key, valid)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(
		write(dir, keyFile, "PRIVATE KEY", secret),
		write(dir, caFile, "CERTIFICATE", a.certificate.Raw),
		write(dir, certFile, "CERTIFICATE", der),
	)
}

// commonName fits the 64 bytes that X.509 has for it; nobody reads it but people.
func commonName(id Identity) string { return string(id[:min(len(id), 64)]) }

// Save writes the authority itself into a directory, and LoadAuthority reads it.
func (a *Authority) Save(dir string) error {
	secret, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(write(dir, keyFile, "PRIVATE KEY", secret), write(dir, certFile, "CERTIFICATE", a.certificate.Raw))
}

// LoadAuthority reads an authority that was saved.
func LoadAuthority(dir string) (*Authority, error) {
	var der [2][]byte
	for i, name := range []string{certFile, keyFile} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(content)
		if block == nil {
			return nil, fmt.Errorf("%s of %s is not PEM", name, dir)
		}
		der[i] = block.Bytes
	}
	certificate, err := x509.ParseCertificate(der[0])
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", certFile, dir, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der[1])
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", keyFile, dir, err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%s of %s is not the key of %s", keyFile, dir, certFile)
	}
	return &Authority{certificate, private}, nil
}

// write replaces a file.
func write(dir, name, kind string, der []byte) error {
	body := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return durable.Replace(filepath.Join(dir, name), body, 0o600)
}
