// Package driver is the CSI face of csi-swiftblock: the identity, controller and
// node services, and the Openings service that the export processes ask.
//
// A handler validates its request, calls one method of what is below, and
// returns a plain error. Everything that all calls share stands around the
// handlers, in this order: a panic becomes INTERNAL and is logged, the call is
// logged with an operation id and the volume's id, errors get their code from
// the one table in errors.go, and of two calls on one volume the second is
// ABORTED.
//
//	identity  csi.swiftblock.dev
//	controller ─▶ [Catalog]                       records and objects
//	node ─▶ wire.ExportsClient                    epoch, journal, LUN
//	     ─▶ [Initiator], [Filesystems], [Mounts]  the host
//
// Requests are never logged: a handler's error and the ids are what an
// administrator needs, and so no secret can be forgotten.
package driver

// Name is the driver's name in Kubernetes.
const Name = "csi.swiftblock.dev"
