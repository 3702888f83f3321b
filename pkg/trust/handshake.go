package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Server returns the server's side of connections. It lets in whoever has a
// certificate of the authority; what each may do is for [Caller] to say.
func (k *Keys) Server() credentials.TransportCredentials {
	return &server{credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := k.get()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				NextProtos:   []string{"h2"},
				Certificates: []tls.Certificate{now.certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    now.authorities,
			}, nil
		},
	}), k.report}
}

// Client returns the client's side of connections to want. refused, if set, hears of
// each answer by somebody else.
func (k *Keys) Client(want Identity, refused func(error)) credentials.TransportCredentials {
	return &client{credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), k, want, refused}
}

type server struct {
	credentials.TransportCredentials
	report func(error)
}

// ServerHandshake implements [credentials.TransportCredentials].
func (s *server) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := s.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		s.report(fmt.Errorf("connection from %s refused: %w", conn.RemoteAddr(), err))
	}
	return secure, info, err
}

// Clone implements [credentials.TransportCredentials].
func (s *server) Clone() credentials.TransportCredentials {
	return &server{s.TransportCredentials.Clone(), s.report}
}

type client struct {
	credentials.TransportCredentials
	keys    *Keys
	want    Identity
	refused func(error)
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *client) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now := c.keys.get()
	secure, info, err := credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		ServerName:   string(c.want),
		Certificates: []tls.Certificate{now.certificate},
		RootCAs:      now.authorities,
	}).ClientHandshake(ctx, string(c.want), conn)
	if wrong := (*tls.CertificateVerificationError)(nil); errors.As(err, &wrong) && c.refused != nil {
		c.refused(err)
	}
	return secure, info, err
}

// Clone implements [credentials.TransportCredentials].
func (c *client) Clone() credentials.TransportCredentials {
	return &client{c.TransportCredentials.Clone(), c.keys, c.want, c.refused}
}

// Caller proves that a call comes from want, or over a unix socket, whose mode says
// who may connect. The error is a gRPC status.
func Caller(ctx context.Context, want Identity) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "nobody knows who calls")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		if p.Addr.Network() == "unix" {
			return nil
		}
		return status.Error(codes.Unauthenticated, "a caller over the network must show a certificate")
	}
	// The handshake has proven the chain; what is left is the name.
	leaf := info.State.PeerCertificates[0]
	if err := leaf.VerifyHostname(string(want)); err != nil {
		return status.Errorf(codes.PermissionDenied, "only %s may do this: %v", want, err)
	}
	return nil
}
