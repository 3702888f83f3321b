package trust_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// wire leads to a server until it is cut. Then connections stay, and nothing comes through:
// so it is when a node is lost.
type wire struct {
	net.Listener
	cut atomic.Bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &wire{Listener: l}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			t.Cleanup(func() { near.Close(); far.Close() })
			go w.carry(far, near)
			go w.carry(near, far)
		}
	}()
	return w
}

func (w *wire) carry(to io.Writer, from io.Reader) {
	p := make([]byte, 4096)
	for {
		n, err := from.Read(p)
		if err != nil {
			return
		}
		if !w.cut.Load() {
			to.Write(p[:n])
		}
	}
}

// A call to a peer that is lost ends long before its deadline, also on a connection over
// which calls were answered before.
func TestLostPeerIsNoticed(t *testing.T) {
	t.Parallel()
	a := authority(t)
	server := open(t, issue(t, a, trust.Controller, time.Hour), &reports{})
	client := open(t, issue(t, a, trust.Node("a"), time.Hour), &reports{})
	w := newWire(t, serve(t, "tcp", trust.Node("a"), grpc.Creds(server.Server())))
	conn, err := client.Dial(trust.Endpoint(trust.Controller, w.Addr().String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health := grpc_health_v1.NewHealthClient(conn)
	if err := ask(health); err != nil {
		t.Fatal(err)
	}
	w.cut.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	_, err = health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if code := status.Code(err); code != codes.Unavailable {
		t.Errorf("a lost peer after %v: %v", time.Since(began).Round(time.Second), err)
	}
}

func TestEndpoint(t *testing.T) {
	for address, want := range map[string]string{
		"node:1":       "tls://node@node:1",
		"10.0.0.2:1":   "tls://node@10.0.0.2:1",
		"[10.0.0.2]:1": "tls://node@10.0.0.2:1",
		"[fd00::2]:1":  "tls://node@[fd00::2]:1",
	} {
		if got := trust.Endpoint("node", address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
