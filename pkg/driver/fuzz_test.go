package driver_test

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// FuzzRequests sends whatever parses as a request of CSI or of an export process:
// no call may panic or end as INTERNAL. NodeUnpublishVolume is left out: it may
// remove empty files.
func FuzzRequests(f *testing.F) {
	r := newRig(f)
	var methods []protoreflect.MethodDescriptor
	services := csi.File_csi_proto.Services()
	for _, service := range []protoreflect.ServiceDescriptor{
		services.ByName("Identity"), services.ByName("Controller"), services.ByName("Node"),
		wire.File_wire_proto.Services().ByName("Openings"),
	} {
		all := service.Methods()
		for i := range all.Len() {
			if all.Get(i).Name() != "NodeUnpublishVolume" {
				methods = append(methods, all.Get(i))
			}
		}
	}
	id := r.published("one")
	for i, method := range methods {
		f.Add(byte(i), []byte(nil))
		for _, seed := range []proto.Message{
			createRequest("two"), publishRequest(id),
			&csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{"rpo": "5s"}},
			&wire.ConfirmRequest{Volume: id, Node: nodeName, Endpoint: "unix:///nowhere", Journal: "j"},
			&csi.NodeStageVolumeRequest{VolumeId: unknownVolume(), StagingTargetPath: "/nowhere", VolumeCapability: block()},
		} {
			if seed.ProtoReflect().Descriptor() == method.Input() {
				body, err := proto.Marshal(seed)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(byte(i), body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, number byte, body []byte) {
		method := methods[int(number)%len(methods)]
		request, answer := message(t, method.Input()), message(t, method.Output())
		if proto.Unmarshal(body, request) != nil {
			return
		}
		conn := r.controllerConn
		if method.Parent().Name() == "Node" {
			conn = r.nodeConn
		}
		path := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
		switch err := conn.Invoke(t.Context(), path, request, answer); status.Code(err) {
		case codes.Internal, codes.Unknown, codes.DataLoss:
			t.Errorf("%s(%v): %v", method.Name(), request, err)
		}
	})
}

func message(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}
