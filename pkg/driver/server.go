package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// maxRequest bounds a request, in bytes; the largest field of CSI is 4 KiB.
const maxRequest = 1 << 20

// stopWait is how long calls may go on after the server was told to stop.
const stopWait = 10 * time.Second

// connectionAge is when a connection over the network ends, in good order, so that
// the next one shows certificates of the day.
const connectionAge = 10 * time.Minute

// Server is an endpoint, and who may call there.
type Server struct {
	Endpoint string      // "unix:///path", or "host:port" with Keys
	Keys     *trust.Keys // nil: no network
	// Allow refuses calls with a gRPC status; nil: whoever reaches the endpoint may
	// call.
	Allow func(ctx context.Context, req any) error
	Calls *Calls
	Log   *slog.Logger
}

// Serve answers until ctx ends. Each of the register functions adds one service.
func (s Server) Serve(ctx context.Context, register ...func(grpc.ServiceRegistrar)) error {
	listener, err := s.listen()
	if err != nil {
		return err
	}
	locks := newLocks()
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.ChainUnaryInterceptor(s.Calls.counted, logged(s.Log), recovered(s.Log), coded, s.allowed, locks.exclusive),
	}
	if s.Keys != nil && listener.Addr().Network() != "unix" {
		options = append(options, grpc.Creds(s.Keys.Server()),
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: connectionAge}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: trust.PingEvery / 2, PermitWithoutStream: true}))
	}
	server := grpc.NewServer(options...)
	for _, add := range register {
		add(server)
	}
	stopped := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(stopWait, server.Stop)
		defer timer.Stop()
		server.GracefulStop()
	})
	defer stopped()
	err = server.Serve(listener)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// allowed makes no call that the server does not allow.
func (s Server) allowed(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if s.Allow != nil {
		if err := s.Allow(ctx, req); err != nil {
			return nil, err
		}
	}
	return next(ctx, req)
}

func (s Server) listen() (net.Listener, error) {
	if path, ok := strings.CutPrefix(s.Endpoint, "unix://"); ok {
		return listenUnix(path)
	}
	if s.Keys == nil {
		return nil, fmt.Errorf("listen on %q: %w", s.Endpoint, trust.ErrNoKeys)
	}
	return net.Listen("tcp", s.Endpoint)
}

// listenUnix takes the place of a socket that a process left behind when it died,
// never of one that somebody answers on. Only our own user may connect.
func listenUnix(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listen on %s: it exists and is not a socket; choose another path or remove it", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen on %s: another process answers there; stop it first", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// logged writes one line per call. The caller gives no operation id, so each
// call gets one of its own, and hands it on to nobody but the log.
func logged(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		start := time.Now()
		log := log.With("call", info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:], "op", fmt.Sprintf("%016x", ident.Random64()))
		if id := subject(req); id != "" {
			log = log.With("id", id)
		}
		if span := trace.SpanContextFromContext(ctx); span.IsValid() {
			log = log.With("trace", span.TraceID())
		}
		answer, err := next(ctx, req)
		log = log.With("duration", time.Since(start).Round(time.Microsecond))
		switch s := status.Convert(err); s.Code() {
		case codes.OK:
			log.Debug("done")
		case codes.Internal, codes.Unknown, codes.DataLoss:
			log.Error("failed", "code", s.Code(), "error", s.Message())
		default:
			log.Warn("refused", "code", s.Code(), "error", s.Message())
		}
		return answer, err
	}
}

// recovered keeps the process alive when a handler panics: the other volumes of
// the node need it.
func recovered(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic", "call", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
				answer, err = nil, status.Errorf(codes.Internal, "%s: internal error, see the log", info.FullMethod)
			}
		}()
		return next(ctx, req)
	}
}

func coded(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	answer, err := next(ctx, req)
	if err != nil {
		return nil, statusOf(err)
	}
	return answer, nil
}
