package target

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/gostor/gotgt/pkg/config"
	"github.com/gostor/gotgt/pkg/scsi"
)

// driverName is the name of this transport among gotgt's target drivers.
const driverName = "swiftblock"

func init() {
	scsi.RegisterTargetDriver(driverName, func(service *scsi.SCSITargetService) (scsi.SCSITargetDriver, error) {
		return &driver{newServer(service)}, nil
	})
}

// newRegistered makes a server the way gotgt makes target drivers, on a service
// of its own: gotgt's own one is a singleton, in which drivers get each other's
// targets.
func newRegistered() (*Server, error) {
	d, err := scsi.NewTargetDriver(driverName, &scsi.SCSITargetService{})
	if err != nil {
		return nil, fmt.Errorf("iSCSI target: %w", err)
	}
	return d.(*driver).server, nil
}

// driver is a Server as one of gotgt's target drivers.
type driver struct{ server *Server }

// errConfig is the answer to gotgt's configuration, which cannot say whose
// Device a LUN stands on.
var errConfig = errors.New("targets of this driver are added with Server.AddTarget")

// Run implements [scsi.SCSITargetDriver]: it serves on the loopback address.
func (d *driver) Run(port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("iSCSI target: %w", err)
	}
	d.server.listener = l
	return d.server.Serve()
}

// NewTarget implements [scsi.SCSITargetDriver].
func (d *driver) NewTarget(string, *config.Config) error { return errConfig }

// Resize implements [scsi.SCSITargetDriver]; see [Server.Resize].
func (d *driver) Resize(uint64) error { return errConfig }

// Close implements [scsi.SCSITargetDriver]: commands in flight are cancelled.
func (d *driver) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return d.server.Shutdown(ctx)
}

// RereadTargetLUNMap implements [scsi.SCSITargetDriver]; see [Server.AddLUN].
func (d *driver) RereadTargetLUNMap() {}

// Stats implements [scsi.SCSITargetDriver]; none are kept.
func (d *driver) Stats() scsi.Stats { return scsi.Stats{} }

// SetClusterIP implements [scsi.SCSITargetDriver]; the portal is what the
// listener is bound to.
func (d *driver) SetClusterIP(string) {}

// EnableBlockMultipleHostLogin implements [scsi.SCSITargetDriver]; it is so
// unless a target is Shared.
func (d *driver) EnableBlockMultipleHostLogin() {}
