package target

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

const (
	testIQN    = "iqn.2026-11.dev.swiftblock:test"
	testVolume = "00112233445566778899aabbccddeeff"
	deviceSize = 8 << 20
	waitLimit  = 40 * time.Second // of whatever a test waits for
)

// fakeDevice is RAM whose calls a test can hold, fail and watch.
type fakeDevice struct {
	mu   sync.Mutex
	data []byte
	hooks
}

// hooks of a fakeDevice are set before it is used, or by replace.
type hooks struct {
	write func(ctx context.Context, p []byte, off int64) error // instead of storing
	read  func(ctx context.Context, off int64) error           // before reading
	flush func(ctx context.Context) error
}

func (d *fakeDevice) replace(h hooks) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hooks = h
}

func (d *fakeDevice) current() hooks {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hooks
}

func newFakeDevice() *fakeDevice { return &fakeDevice{data: make([]byte, deviceSize)} }

func (d *fakeDevice) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.data))
}

func (d *fakeDevice) grow(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = append(d.data, make([]byte, n)...)
}

func (d *fakeDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	if h := d.current(); h.read != nil {
		if err := h.read(ctx, off); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.data[off:])
	return nil
}

// stored returns the first n bytes.
func (d *fakeDevice) stored(n int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.data[:n])
}

func (d *fakeDevice) store(p []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.data[off:], p)
}

func (d *fakeDevice) WriteAt(ctx context.Context, p []byte, off int64, _ bool) error {
	if h := d.current(); h.write != nil {
		return h.write(ctx, p, off)
	}
	d.store(p, off)
	return nil
}

func (d *fakeDevice) Flush(ctx context.Context) error {
	if h := d.current(); h.flush != nil {
		return h.flush(ctx)
	}
	return nil
}

func (d *fakeDevice) Discard(ctx context.Context, off, n int64) error {
	return d.WriteAt(ctx, make([]byte, n), off, false)
}

func (d *fakeDevice) WriteZeroes(ctx context.Context, off, n int64, fua bool) error {
	return d.WriteAt(ctx, make([]byte, n), off, fua)
}

// testServer serves one target on the loopback address.
func testServer(t *testing.T, target Target) *Server {
	t.Helper()
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if target.IQN == "" {
		target.IQN = testIQN
	}
	if err := s.AddTarget(target); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// oneLUN is the LUN list of most tests.
func oneLUN(d Device) []LUN { return []LUN{{Volume: testVolume, Device: d}} }

// initiator is one connection that speaks raw PDUs.
type initiator struct {
	t       testing.TB
	conn    net.Conn
	in      *pdu.Reader
	digests pdu.Digests
	name    string
	isid    byte
	cmdSN   uint32
	tag     uint32
}

func dial(t testing.TB, s *Server) *initiator {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(3 * waitLimit))
	return &initiator{t: t, conn: conn, in: pdu.NewReader(conn, 1<<20), name: "iqn.2026-11.test:host", cmdSN: 7}
}

// connect dials and logs in with the keys that Linux sends, and more.
func connect(t testing.TB, s *Server, more ...string) *initiator {
	t.Helper()
	i := dial(t, s)
	i.mustLogin(more...)
	i.powerOn()
	return i
}

// powerOn takes the unit attention that LUN 0 has for who has just logged in.
func (i *initiator) powerOn() {
	i.t.Helper()
	if r := i.do(testUnitReady, 0, nil); r.key != 6 || r.asc != 0x2900 {
		i.t.Fatalf("first command after the login: %v", r)
	}
}

// reply is a PDU from the target.
type reply struct {
	pdu.Header
	data []byte
}

func (i *initiator) send(h *pdu.Header, data []byte) {
	i.t.Helper()
	if err := i.trySend(h, data); err != nil {
		i.t.Fatalf("send: %v", err)
	}
}

func (i *initiator) trySend(h *pdu.Header, data []byte) error {
	f := pdu.Frame{Header: *h, Data: data}
	b := net.Buffers(f.Buffers(nil, i.digests))
	_, err := b.WriteTo(i.conn)
	return err
}

func (i *initiator) receive() reply {
	i.t.Helper()
	r, err := i.tryReceive()
	if err != nil {
		i.t.Fatalf("receive: %v", err)
	}
	return r
}

func (i *initiator) tryReceive() (reply, error) {
	var r reply
	if err := i.in.Next(&r.Header); err != nil {
		return r, err
	}
	r.data = make([]byte, r.DataLen())
	return r, i.in.Data(r.data)
}

// loginRequest is a login PDU; flags are T, C, CSG and NSG.
func (i *initiator) loginRequest(flags byte, keys ...string) (*pdu.Header, []byte) {
	var h pdu.Header
	h.SetOpcode(pdu.LoginReq)
	h[0] |= 0x40
	h.SetFlags(flags)
	h[8] = 0x40
	h[13] = i.isid
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	return &h, []byte(strings.Join(append(keys, ""), "\x00"))
}

func (i *initiator) login(flags byte, keys ...string) reply {
	i.t.Helper()
	i.send(i.loginRequest(flags, keys...))
	return i.receive()
}

func loginStatus(r reply) login.Status { return login.Status(binary.BigEndian.Uint16(r.Header[36:])) }

const toFullFeature = 0x87 // T, from the operational stage to full feature phase

func (i *initiator) mustLogin(more ...string) {
	i.t.Helper()
	keys := append([]string{
		"InitiatorName=" + i.name, "TargetName=" + testIQN, "SessionType=Normal",
		"HeaderDigest=None", "DataDigest=None", "InitialR2T=No", "ImmediateData=Yes",
		"MaxRecvDataSegmentLength=262144", "MaxBurstLength=1048576", "FirstBurstLength=65536",
		"MaxOutstandingR2T=1", "MaxConnections=1", "ErrorRecoveryLevel=0",
	}, more...)
	r := i.login(toFullFeature, keys...)
	if s := loginStatus(r); s != login.Success || !r.Final() {
		i.t.Fatalf("login: status %04x, flags %02x", s, r.Flags())
	}
	text := string(r.data)
	i.digests = pdu.Digests{
		Header: strings.Contains(text, "HeaderDigest=CRC32C"),
		Data:   strings.Contains(text, "DataDigest=CRC32C"),
	}
	i.in.Digests = i.digests
}

// request is the header of a SCSI command to LUN 0; write and read are the bytes
// expected to move.
func (i *initiator) request(cdb []byte, read, write int) *pdu.Header {
	var h pdu.Header
	h.SetOpcode(pdu.SCSICommand)
	h.SetFlags(pdu.FlagFinal | 1) // SIMPLE
	if read > 0 {
		h[1] |= pdu.FlagRead
	}
	if write > 0 {
		h[1] |= pdu.FlagWrite
	}
	binary.BigEndian.PutUint32(h[20:], uint32(read+write))
	copy(h[32:], cdb)
	i.number(&h)
	return &h
}

// number gives a request the next task tag and command number.
func (i *initiator) number(h *pdu.Header) {
	i.tag++
	h.SetTaskTag(i.tag)
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	if !h.Immediate() {
		i.cmdSN++
	}
}

// result is the outcome of a SCSI command.
type result struct {
	tag      uint32
	status   disk.Status
	data     []byte
	key      byte
	asc      uint16
	flags    byte
	residual uint32
	parts    int // Data-In PDUs
}

func (r result) String() string {
	return fmt.Sprintf("status %02x, sense %x/%04x, %d bytes, flags %02x, residual %d", r.status, r.key, r.asc, len(r.data), r.flags, r.residual)
}

// do sends a command, its data as the target wants them, and waits for the end.
func (i *initiator) do(cdb []byte, read int, data []byte) result {
	i.t.Helper()
	h := i.request(cdb, read, len(data))
	first := min(len(data), 65536)
	i.send(h, data[:first])
	return i.finish(data)
}

// finish takes what comes for one command until its end.
func (i *initiator) finish(data []byte) result {
	i.t.Helper()
	var out result
	for {
		r := i.receive()
		switch r.Opcode() {
		case pdu.R2T:
			i.answerR2T(r, data, 65536)
		case pdu.DataIn:
			out.parts++
			out.data = append(out.data, r.data...)
			if r.Flags()&pdu.FlagStatus == 0 {
				continue
			}
			out.tag, out.status, out.flags, out.residual = r.TaskTag(), disk.Status(r.Header[3]), r.Flags(), r.Residual()
			return out
		case pdu.SCSIResponse:
			out.tag, out.status, out.flags, out.residual = r.TaskTag(), disk.Status(r.Header[3]), r.Flags(), r.Residual()
			if len(r.data) >= 16 {
				out.key, out.asc = r.data[4]&0xf, binary.BigEndian.Uint16(r.data[14:])
			}
			return out
		default:
			i.t.Fatalf("unexpected PDU %02x: % x", byte(r.Opcode()), r.Header)
		}
	}
}

// answerR2T sends what an R2T asks for, in pieces.
func (i *initiator) answerR2T(r reply, data []byte, piece int) {
	i.t.Helper()
	off, end := int(r.BufferOffset()), int(r.BufferOffset()+r.DesiredLength())
	for sn := uint32(0); off < end; sn++ {
		n := min(piece, end-off)
		var h pdu.Header
		h.SetOpcode(pdu.DataOut)
		if off+n == end {
			h.SetFlags(pdu.FlagFinal)
		}
		h.SetTaskTag(r.TaskTag())
		h.SetTransferTag(r.TransferTag())
		h.SetDataSN(sn)
		h.SetBufferOffset(uint32(off))
		i.send(&h, data[off:off+n])
		off += n
	}
}

// mustDo is do for a command that has to be GOOD.
func (i *initiator) mustDo(cdb []byte, read int, data []byte) []byte {
	i.t.Helper()
	r := i.do(cdb, read, data)
	if r.status != disk.Good {
		i.t.Fatalf("command % x: %v", cdb, r)
	}
	return r.data
}

func cdb10(code byte, lba uint32, blocks uint16) []byte {
	b := make([]byte, 10)
	b[0] = code
	binary.BigEndian.PutUint32(b[2:], lba)
	binary.BigEndian.PutUint16(b[7:], blocks)
	return b
}

const (
	opRead10  = 0x28
	opWrite10 = 0x2a
	opSync10  = 0x35
)

var testUnitReady = make([]byte, 6)

// manage sends a task management function, immediate, and returns its tag.
func (i *initiator) manage(function byte, referenced uint32) uint32 {
	i.t.Helper()
	return i.manageLUN(0, function, referenced)
}

// manageLUN is manage for a LUN.
func (i *initiator) manageLUN(lun uint64, function byte, referenced uint32) uint32 {
	i.t.Helper()
	var h pdu.Header
	h.SetLUN(lun)
	h.SetOpcode(pdu.TaskRequest)
	h[0] |= 0x40
	h.SetFlags(pdu.FlagFinal | function)
	i.number(&h)
	h.SetTransferTag(referenced)
	i.send(&h, nil)
	return h.TaskTag()
}

// nop sends an immediate NOP-Out and waits for its answer, past whatever else
// comes.
func (i *initiator) nop(data []byte) reply {
	i.t.Helper()
	var h pdu.Header
	h.SetOpcode(pdu.NopOut)
	h[0] |= 0x40
	h.SetFlags(pdu.FlagFinal)
	i.number(&h)
	h.SetTransferTag(pdu.NoTag)
	i.send(&h, data)
	for {
		if r := i.receive(); r.Opcode() == pdu.NopIn && r.TaskTag() == h.TaskTag() {
			return r
		}
	}
}

// expectEnd checks that the target closes the connection, and returns the
// reasons of Rejects that came before.
func (i *initiator) expectEnd() []byte {
	i.t.Helper()
	var reasons []byte
	for {
		r, err := i.tryReceive()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				i.t.Fatal("the connection stays open")
			}
			return reasons
		}
		if r.Opcode() == pdu.Reject {
			reasons = append(reasons, r.Header[2])
		}
	}
}

func pattern(n int, seed byte) []byte {
	return bytes.Repeat([]byte{seed, seed + 1, seed + 2, seed + 3}, n/4)
}

// within fails the test if done is not closed soon.
func within(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(waitLimit):
		t.Fatalf("%s: still waiting after %v", what, waitLimit)
	}
}
