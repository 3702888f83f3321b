// Package login is the login phase of an iSCSI session (RFC 7143 §6) as a state
// machine without a connection: requests go in, responses come out.
//
//	            CSG=0                    CSG=1
//	names ──► security ── AuthMethod ─► operational ── keys ─► full feature phase
//	   │      CHAP_A, CHAP_N …                          ▲
//	   └──────── no CHAP asked for ──────┴──────────────┘
package login

import (
	"encoding/binary"
	"strconv"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// Status is class and detail of a login response (RFC 7143 §11.13.5).
type Status uint16

// Statuses of a refused login. Class 2 is the initiator's fault, and it should
// not try again; class 3 is ours, and it should.
const (
	Success          Status = 0x0000
	InitiatorError   Status = 0x0200
	AuthFailed       Status = 0x0201
	Forbidden        Status = 0x0202
	NotFound         Status = 0x0203
	BadVersion       Status = 0x0205
	MissingParameter Status = 0x0207
	NoConnection     Status = 0x0208 // cannot be included in this session
	BadSessionType   Status = 0x0209
	NoSession        Status = 0x020a
	InvalidRequest   Status = 0x020b
	Unavailable      Status = 0x0301
	OutOfResources   Status = 0x0302
)

// PortalGroup is the tag of the only portal group, in decimal.
const PortalGroup = "1"

// Directory knows who may log in to what.
type Directory interface {
	// Access returns the credentials to ask an initiator for, or why it may not
	// log in to the target.
	Access(initiator, target string) (CHAP, Status)
}

// Stages (CSG and NSG, RFC 7143 §11.12.3).
const (
	security    = 0
	operational = 1
	fullFeature = 3
)

// maxRequests bounds the requests of one login.
const maxRequests = 64

// Machine is the state of one login.
type Machine struct {
	// ISID and TSIH as the first request names them; TSIH 0 is a new session.
	ISID [6]byte
	TSIH uint16

	dir      Directory
	params   Params
	requests int
	stage    byte
	text     []byte // collected over requests with the C bit
	chap     CHAP
	exchange *exchange // begun
	proven   bool      // nothing is left to authenticate
	declared bool      // our own keys have been sent
}

// NewMachine begins a login.
func NewMachine(dir Directory) *Machine {
	return &Machine{dir: dir, params: defaults}
}

// Reply is what to answer to a request.
type Reply struct {
	Status Status
	Text   []byte
	// Done: this response ends the login successfully.
	Done  bool
	flags byte
}

// Params of the session; complete once a Reply was Done.
func (m *Machine) Params() Params { return m.params }

// Response fills in the header of the response to req. Sequence numbers and the
// TSIH that a final response gives are the caller's.
func (r Reply) Response(req, resp *pdu.Header) {
	*resp = pdu.Header{}
	resp.SetOpcode(pdu.LoginResp)
	resp.SetFlags(r.flags)
	copy(resp[8:16], req[8:16])
	resp.SetTaskTag(req.TaskTag())
	binary.BigEndian.PutUint16(resp[36:], uint16(r.Status))
}

// SetTSIH sets the target session identifying handle of a login response.
func SetTSIH(resp *pdu.Header, tsih uint16) { binary.BigEndian.PutUint16(resp[14:], tsih) }

// Step takes one login request.
func (m *Machine) Step(req *pdu.Header, data []byte) Reply {
	transit := req.Final()
	current, next := req.Flags()>>2&3, req.Flags()&3
	m.requests++
	switch {
	case req.Opcode() != pdu.LoginReq, m.requests > maxRequests:
		return Reply{Status: InvalidRequest}
	case req[3] > 0: // version-min; ours is 0 only
		return Reply{Status: BadVersion}
	case current != security && current != operational, m.requests > 1 && current < m.stage,
		transit && (next <= current || next == 2), transit && req.Flags()&pdu.FlagContinue != 0:
		return Reply{Status: InvalidRequest}
	}
	if len(m.text)+len(data) > MaxText {
		return Reply{Status: InvalidRequest}
	}
	m.text = append(m.text, data...)
	if req.Flags()&pdu.FlagContinue != 0 {
		if m.requests == 1 {
			m.begin(req)
		}
		m.stage = current
		return Reply{flags: current << 2}
	}
	pairs, err := ParseText(m.text)
	m.text = nil
	if err != nil {
		return Reply{Status: InitiatorError}
	}
	if m.requests == 1 {
		m.begin(req)
	}
	m.stage = current
	return m.answer(pairs, transit, next)
}

func (m *Machine) begin(req *pdu.Header) {
	copy(m.ISID[:], req[8:14])
	m.TSIH = binary.BigEndian.Uint16(req[14:])
}

// answer takes a complete text.
func (m *Machine) answer(pairs []Pair, transit bool, next byte) Reply {
	keys := make(map[string]string, len(pairs))
	for _, p := range pairs {
		keys[p.Key] = p.Value
	}
	var out []Pair
	if m.params.Initiator == "" {
		if status := m.identify(keys); status != Success {
			return Reply{Status: status}
		}
		if !m.params.Discovery {
			out = append(out, Pair{"TargetPortalGroupTag", PortalGroup})
		}
	}
	if m.stage == security {
		answers, status := m.authenticate(keys)
		if status != Success {
			return Reply{Status: status}
		}
		out = append(out, answers...)
	} else if !m.proven {
		return Reply{Status: AuthFailed}
	}
	for _, p := range pairs {
		switch p.Key {
		case "AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R":
			continue
		}
		if a := m.params.negotiate(p.Key, p.Value); a != "" {
			out = append(out, Pair{p.Key, a})
		}
	}
	if m.stage == operational && !m.declared {
		m.declared = true
		out = append(out, Pair{"MaxRecvDataSegmentLength", strconv.Itoa(m.params.MaxRecv)})
	}
	r := Reply{Text: AppendText(nil, out...), flags: m.stage << 2}
	if transit && m.proven {
		r.flags |= pdu.FlagFinal | next
		r.Done = next == fullFeature
		m.stage = next
		m.params.FirstBurst = min(m.params.FirstBurst, m.params.MaxBurst)
	}
	return r
}

// identify takes the names out of the first text.
func (m *Machine) identify(keys map[string]string) Status {
	name := keys["InitiatorName"]
	switch keys["SessionType"] {
	case "", "Normal":
		target, ok := keys["TargetName"]
		if name == "" || !ok {
			return MissingParameter
		}
		chap, status := m.dir.Access(name, target)
		if status != Success {
			return status
		}
		m.params.Target, m.chap = target, chap
	case "Discovery":
		if name == "" {
			return MissingParameter
		}
		m.params.Discovery = true
	default:
		return BadSessionType
	}
	m.params.Initiator = name
	m.proven = !m.chap.required()
	return Success
}

// authenticate takes the keys of the security stage.
func (m *Machine) authenticate(keys map[string]string) ([]Pair, Status) {
	if methods, ok := keys["AuthMethod"]; ok {
		want := none
		if m.chap.required() {
			want = "CHAP"
		}
		if m.exchange != nil || firstOf(methods, want) != want {
			return nil, AuthFailed
		}
		answers := []Pair{{"AuthMethod", want}}
		if list, ok := keys["CHAP_A"]; ok && !m.proven {
			more, status := m.challenge(list)
			return append(answers, more...), status
		}
		return answers, Success
	}
	if list, ok := keys["CHAP_A"]; ok && !m.proven {
		return m.challenge(list)
	}
	if _, ok := keys["CHAP_R"]; ok && !m.proven {
		if m.exchange == nil {
			return nil, AuthFailed
		}
		answers, right := m.exchange.check(m.chap, keys)
		if !right {
			return nil, AuthFailed
		}
		m.proven = true
		return answers, Success
	}
	return nil, Success
}

func (m *Machine) challenge(list string) ([]Pair, Status) {
	if m.exchange != nil {
		return nil, AuthFailed
	}
	m.exchange = new(exchange)
	answers, ok := m.exchange.begin(list)
	if !ok {
		return nil, AuthFailed
	}
	return answers, Success
}
