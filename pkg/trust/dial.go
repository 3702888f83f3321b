package trust

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ErrNoKeys says that a network address is of no use without certificates.
var ErrNoKeys = errors.New("a network address needs --certificates; without them there are unix sockets")

const scheme = "tls"

// A peer that is lost says nothing: without pings a call to it would wait as long as TCP
// does, a quarter of an hour, on a connection that a Service once led to a node that has
// gone since. So no call waits longer than PingEvery and pingWait for a peer that is not
// there; how long a peer that is there takes is the caller's affair.
const (
	PingEvery = 10 * time.Second // a server lets clients ping at twice that pace
	pingWait  = 5 * time.Second
)

// reconnect says how soon a peer that was away is found again. By itself gRPC would look every
// two minutes at last, and refuse all calls in between.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: pingWait,
}

// Endpoint says where somebody is reached over the network, and who that must be:
// "tls://IDENTITY@HOST:PORT". Brackets around the host are kept for IPv6 alone: a
// manifest that is for both kinds of address has them always.
func Endpoint(id Identity, address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil {
		address = net.JoinHostPort(host, port)
	}
	return (&url.URL{Scheme: scheme, User: url.User(string(id)), Host: address}).String()
}

// Dial connects to an endpoint that [Endpoint] made, or to "unix:///path". Without
// keys (nil) it knows only the latter. refused, if set, hears that somebody answers
// there who is not who it should be.
func (k *Keys) Dial(endpoint string, refused func(error)) (*grpc.ClientConn, error) {
	traced := grpc.WithStatsHandler(otelgrpc.NewClientHandler())
	if strings.HasPrefix(endpoint, "unix:") {
		return grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), traced)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != scheme || u.User.Username() == "" || u.Port() == "" {
		return nil, fmt.Errorf("endpoint %q: want unix:///path or %s", endpoint, Endpoint("IDENTITY", "HOST:PORT"))
	}
	if k == nil {
		return nil, fmt.Errorf("endpoint %q: %w", endpoint, ErrNoKeys)
	}
	c := k.Client(Identity(u.User.Username()), refused)
	// A proxy of the environment is there for the way to Swift.
	return grpc.NewClient(u.Host, grpc.WithTransportCredentials(c), grpc.WithNoProxy(), traced,
		grpc.WithConnectParams(reconnect),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: PingEvery, Timeout: pingWait, PermitWithoutStream: true}))
}
