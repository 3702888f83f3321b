package disk

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/gostor/gotgt/pkg/api"
	"github.com/gostor/gotgt/pkg/scsi"
	uuid "github.com/satori/go.uuid"
)

// gotgt's model has maps and slices that its service reads without a lock or
// changes without one, functions that index buffers by lengths which an
// initiator chose, global switches, and a log line per failed command. So:
//
//   - every call into it goes through Model, under a lock of ours;
//   - only the operations in modelOperations can be reached; all others in its
//     table are overridden with "invalid operation code";
//   - buffers are always there and longer than any answer; the allocation
//     length in the CDB is replaced by theirs, the initiator's is applied to
//     the result;
//   - the I_T nexus map stays empty: nexuses are kept in Unit.
func init() {
	scsi.EnableMultipath = false // it would claim target port groups (TPGS)
}

// Identification strings; initiators may match on them, so they never change.
const (
	Vendor  = "SWIFTBLK"
	Product = "VOLUME"
)

// modelBuffer is the size in bytes of the buffers handed to gotgt; its longest
// answer is REPORT LUNS with 256 units.
const modelBuffer = 4096

// portID is the relative target port identifier of the only port.
const portID = 1

// Model is gotgt's picture of targets and logical units.
type Model struct {
	mu      sync.Mutex // guards all of gotgt's structures
	service *scsi.SCSITargetService
	lastTID int
}

// NewModel keeps the picture in service, which must not be used by others.
func NewModel(service *scsi.SCSITargetService) *Model { return &Model{service: service} }

// add enters a target without logical units and returns its number.
func (m *Model) add(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastTID++
	port := &api.SCSITargetPort{RelativeTargetPortID: portID, TargetPortName: name + ",t,0x0001"}
	m.service.Targets = append(m.service.Targets, &api.SCSITarget{
		Name:             name,
		TID:              m.lastTID,
		Devices:          api.LUNMap{},
		TargetPortGroups: []*api.TargetPortGroup{{GroupID: 0, TargetPortGroup: []*api.SCSITargetPort{port}}},
		ITNexus:          map[uuid.UUID]*api.ITNexus{},
	})
	return m.lastTID
}

func (m *Model) remove(tid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.service.Targets = slices.DeleteFunc(m.service.Targets, func(t *api.SCSITarget) bool { return t.TID == tid })
}

// setUnits gives a target its logical units.
func (m *Model) setUnits(tid int, units map[uint8]*Unit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.service.Targets {
		if t.TID != tid {
			continue
		}
		t.Devices = api.LUNMap{}
		for lun, u := range units {
			t.Devices[uint64(lun)] = u.lu
		}
	}
}

// newLU makes a logical unit of gotgt's.
func newLU(volume string, readOnly bool) *api.SCSILu {
	protocol := scsi.NewSBCDevice(api.TYPE_DISK).(scsi.SBCSCSIDeviceProtocol)
	for code := range protocol.SCSIDeviceOps {
		if !slices.Contains(modelOperations, byte(code)) {
			protocol.SCSIDeviceOps[code] = scsi.NewSCSIDeviceOperation(scsi.SPCIllegalOp, nil, 0)
		}
	}
	lu := &api.SCSILu{DeviceProtocol: protocol, UUID: naa(volume), PerformCommand: performModel}
	protocol.InitLu(lu) // never fails
	setWriteCache(true)(lu)
	lu.Attrs.Online = true
	lu.Attrs.Readonly = readOnly
	lu.Attrs.ThinProvisioning = true
	lu.Attrs.Lbppbe = physicalExponent
	lu.Attrs.VersionDesction = [8]uint16{0x00a0, 0x0960, 0x0460, 0x04c0} // SAM-5, iSCSI, SPC-4, SBC-3
	lu.Attrs.VendorID, lu.Attrs.ProductID, lu.Attrs.ProductRev = Vendor, Product, "1"
	return lu
}

// performModel is gotgt's dispatch of a command on a logical unit. It always
// returns GOOD, since gotgt logs anything else, and leaves the status in Result.
func performModel(tid int, cmd *api.SCSICommand) api.SAMStat {
	operation := cmd.Device.DeviceProtocol.PerformCommand(int(cmd.OpCode)).(scsi.SCSIDeviceOperation)
	cmd.Result = operation.CommandPerformFunc(tid, cmd).Stat
	return api.SAMStatGood
}

// perform has gotgt carry out a control command on a unit and returns its
// buffer: the answer, and zeros after it.
func (m *Model) perform(u *Unit, cdb [16]byte) ([]byte, error) {
	cmd := &api.SCSICommand{
		OpCode:          cdb[0],
		SCB:             cdb[:],
		SCBLength:       cdbLen(cdb[0]),
		RelTargetPortID: portID,
		InSDBBuffer:     &api.SCSIDataBuffer{Buffer: make([]byte, modelBuffer), Length: modelBuffer},
		OutSDBBuffer:    &api.SCSIDataBuffer{},
	}
	binary.NativeEndian.PutUint64(cmd.Lun[:], uint64(u.number)) // the form that gotgt looks it up in
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.units.Unit(u.number) != u { // removed meanwhile; gotgt would panic
		return nil, errLUN
	}
	if err := m.service.AddCommandQueue(u.units.tid, cmd); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err) // target removed meanwhile
	}
	if Status(cmd.Result) != Good {
		b := cmd.SenseBuffer.Buffer
		return nil, sense(b[2]&0x0f, scsi.SCSISubError(binary.BigEndian.Uint16(b[12:])))
	}
	return cmd.InSDBBuffer.Buffer, nil
}

// update changes a unit's gotgt side.
func (m *Model) update(u *Unit, change func(*api.SCSILu)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(u.lu)
}
