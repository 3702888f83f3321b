package driver_test

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// FuzzRequests sends whatever parses as a CSI request: no call may panic or end
// as INTERNAL. NodeUnpublishVolume is left out: it may remove empty files.
func FuzzRequests(f *testing.F) {
	r := newRig(f)
	var methods []protoreflect.MethodDescriptor
	for _, service := range []protoreflect.Name{"Identity", "Controller", "Node"} {
		all := csi.File_csi_proto.Services().ByName(service).Methods()
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
			&csi.NodeStageVolumeRequest{VolumeId: unknownVolume(), StagingTargetPath: "/nowhere", VolumeCapability: block()},
		} {
			if seed.ProtoReflect().Descriptor() == method.Input() {
				wire, err := proto.Marshal(seed)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(byte(i), wire)
			}
		}
	}
	f.Fuzz(func(t *testing.T, number byte, wire []byte) {
		method := methods[int(number)%len(methods)]
		request, answer := message(t, method.Input()), message(t, method.Output())
		if proto.Unmarshal(wire, request) != nil {
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
