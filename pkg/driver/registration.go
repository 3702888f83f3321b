package driver

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// csiVersion is the version of CSI that kubelet has to be told.
const csiVersion = "1.0.0"

// Registration tells kubelet where the node service is: kubelet finds its socket in
// the directory of plug-in registrations and asks.
type Registration struct {
	registration.UnsafeRegistrationServer
	endpoint string
	refused  chan error
}

// NewRegistration returns the registration of the node service on a socket, by its
// path on the host.
func NewRegistration(socket string) *Registration {
	return &Registration{endpoint: socket, refused: make(chan error, 1)}
}

// Register adds the service to a server.
func (r *Registration) Register(s grpc.ServiceRegistrar) {
	registration.RegisterRegistrationServer(s, r)
}

// GetInfo says what is to be registered.
func (r *Registration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: Name, Endpoint: r.endpoint, SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus hears how it went.
func (r *Registration) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		select {
		case r.refused <- fmt.Errorf("kubelet refused to register %s: %s", Name, s.GetError()):
		default: // it refused before
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// Await returns why kubelet refused, or nil when ctx ends. kubelet asks once for
// each socket that it finds: whoever wants it to ask again has to start anew.
func (r *Registration) Await(ctx context.Context) error {
	select {
	case err := <-r.refused:
		return err
	case <-ctx.Done():
		return nil
	}
}
