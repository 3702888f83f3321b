package login

import (
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// directory knows one target.
type directory struct{ chap CHAP }

const iqn = "iqn.2026-11.dev.swiftblock:test"

func (d directory) Access(initiator, target string) (CHAP, Status) {
	switch {
	case target != iqn:
		return CHAP{}, NotFound
	case initiator == "iqn.2026-11.test:stranger":
		return CHAP{}, Forbidden
	}
	return d.chap, Success
}

// step sends keys from one stage to another; to < 0: without T.
func step(m *Machine, from, to int, keys ...string) (Reply, map[string]string) {
	var h pdu.Header
	h.SetOpcode(pdu.LoginReq)
	flags := byte(from << 2)
	if to >= 0 {
		flags |= pdu.FlagFinal | byte(to)
	}
	h.SetFlags(flags)
	r := m.Step(&h, []byte(strings.Join(append(keys, ""), "\x00")))
	pairs, err := ParseText(r.Text)
	if err != nil {
		panic(err)
	}
	answers := map[string]string{}
	for _, p := range pairs {
		answers[p.Key] = p.Value
	}
	return r, answers
}

var names = []string{"InitiatorName=iqn.2026-11.test:host", "TargetName=" + iqn}

func TestNegotiation(t *testing.T) {
	cases := []struct{ key, offer, answer string }{
		{"HeaderDigest", "CRC32C,None", "CRC32C"},
		{"HeaderDigest", "None,CRC32C", "None"},
		{"DataDigest", "MD5", "Reject"},
		{"MaxBurstLength", "16776192", "1048576"},
		{"MaxBurstLength", "262144", "262144"},
		{"MaxBurstLength", "100", "Reject"},
		{"FirstBurstLength", "262144", "65536"},
		{"FirstBurstLength", "0x1000", "4096"},
		{"MaxOutstandingR2T", "1", "1"},
		{"MaxOutstandingR2T", "65535", "8"},
		{"MaxConnections", "8", "1"},
		{"ErrorRecoveryLevel", "2", "0"},
		{"InitialR2T", "Yes", "Yes"},
		{"InitialR2T", "No", "No"},
		{"InitialR2T", "maybe", "Reject"},
		{"ImmediateData", "No", "No"},
		{"DataPDUInOrder", "No", "Yes"},
		{"OFMarker", "Yes", "No"},
		{"DefaultTime2Wait", "2", "2"},
		{"DefaultTime2Retain", "20", "0"},
		{"X-com.example.unknown", "1", "NotUnderstood"},
		{"NoSuchKey", "1", "NotUnderstood"},
	}
	for _, c := range cases {
		m := NewMachine(directory{})
		r, answers := step(m, operational, fullFeature, append(names, c.key+"="+c.offer)...)
		if r.Status != Success || !r.Done || answers[c.key] != c.answer {
			t.Errorf("%s=%s: status %04x, done %v, answer %q, want %q", c.key, c.offer, r.Status, r.Done, answers[c.key], c.answer)
		}
		if answers["TargetPortalGroupTag"] != PortalGroup || answers["MaxRecvDataSegmentLength"] == "" {
			t.Errorf("%s: the target's declarations are missing: %v", c.key, answers)
		}
	}
}

func TestParamsAreWhatWasAgreedOn(t *testing.T) {
	m := NewMachine(directory{})
	step(m, operational, fullFeature, append(names, "MaxRecvDataSegmentLength=4096", "MaxBurstLength=32768",
		"FirstBurstLength=65536", "InitialR2T=No", "ImmediateData=No", "DataDigest=CRC32C,None")...)
	p := m.Params()
	if p.MaxSend != 4096 || p.MaxBurst != 32768 || p.FirstBurst != 32768 || p.InitialR2T || p.ImmediateData ||
		!p.Digests.Data || p.Digests.Header || p.MaxOutstandingR2T != 1 || p.Target != iqn {
		t.Errorf("%+v", p)
	}
}

func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		want Status
		run  func(*Machine) Reply
	}{
		"no initiator name": {MissingParameter, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, "TargetName="+iqn)
			return r
		}},
		"no target name": {MissingParameter, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, names[0])
			return r
		}},
		"unknown target": {NotFound, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, names[0], "TargetName=iqn.other")
			return r
		}},
		"stranger": {Forbidden, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, "InitiatorName=iqn.2026-11.test:stranger", names[1])
			return r
		}},
		"session type": {BadSessionType, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, append(names, "SessionType=Odd")...)
			return r
		}},
		"version": {BadVersion, func(m *Machine) Reply {
			var h pdu.Header
			h.SetOpcode(pdu.LoginReq)
			h[3] = 1
			return m.Step(&h, nil)
		}},
		"stage back": {InvalidRequest, func(m *Machine) Reply {
			step(m, security, operational, names...)
			r, _ := step(m, security, operational)
			return r
		}},
		"stage that does not exist": {InvalidRequest, func(m *Machine) Reply {
			r, _ := step(m, 2, fullFeature, names...)
			return r
		}},
		"no text": {InitiatorError, func(m *Machine) Reply {
			r, _ := step(m, operational, fullFeature, "nonsense")
			return r
		}},
		"text without end": {InvalidRequest, func(m *Machine) Reply {
			var h pdu.Header
			h.SetOpcode(pdu.LoginReq)
			h.SetFlags(pdu.FlagContinue)
			for {
				if r := m.Step(&h, make([]byte, 4096)); r.Status != Success {
					return r
				}
			}
		}},
		"requests without end": {InvalidRequest, func(m *Machine) Reply {
			for {
				if r, _ := step(m, operational, -1, names...); r.Status != Success {
					return r
				}
			}
		}},
	}
	for name, c := range cases {
		if r := c.run(NewMachine(directory{})); r.Status != c.want || r.Done {
			t.Errorf("%s: status %04x, want %04x", name, r.Status, c.want)
		}
	}
}

func TestTextOverSeveralRequests(t *testing.T) {
	m := NewMachine(directory{})
	text := AppendText(nil, Pair{"InitiatorName", "iqn.2026-11.test:host"}, Pair{"TargetName", iqn})
	var h pdu.Header
	h.SetOpcode(pdu.LoginReq)
	h.SetFlags(pdu.FlagContinue | operational<<2)
	half := len(text) / 2
	if r := m.Step(&h, text[:half]); r.Status != Success || len(r.Text) != 0 || r.Done {
		t.Fatalf("first part: %+v", r)
	}
	h.SetFlags(pdu.FlagFinal | operational<<2 | fullFeature)
	if r := m.Step(&h, text[half:]); !r.Done {
		t.Errorf("second part: %+v", r)
	}
}

var chap = CHAP{User: "host", Secret: "the host's secret", MutualUser: "target", MutualSecret: "the target's secret"}

func respond(id int, secret, challenge string) string {
	c, err := hex.DecodeString(challenge[2:])
	if err != nil {
		panic(err)
	}
	sum := md5.Sum(append(append([]byte{byte(id)}, secret...), c...))
	return "0x" + hex.EncodeToString(sum[:])
}

// challenged brings a login to where the target has sent its challenge.
func challenged(t *testing.T, c CHAP) (m *Machine, id int, challenge string) {
	t.Helper()
	m = NewMachine(directory{c})
	r, a := step(m, security, operational, append(names, "AuthMethod=CHAP,None")...)
	if r.Status != Success || a["AuthMethod"] != "CHAP" || r.flags&pdu.FlagFinal != 0 {
		t.Fatalf("AuthMethod: %+v %v", r, a)
	}
	r, a = step(m, security, -1, "CHAP_A=5,7")
	if r.Status != Success || a["CHAP_A"] != "5" || len(a["CHAP_C"]) != 2+2*challengeLen {
		t.Fatalf("CHAP_A: %+v %v", r, a)
	}
	id, _ = strconv.Atoi(a["CHAP_I"])
	return m, id, a["CHAP_C"]
}

func TestChapRight(t *testing.T) {
	m, id, challenge := challenged(t, chap)
	r, _ := step(m, security, operational, "CHAP_N=host", "CHAP_R="+respond(id, chap.Secret, challenge))
	if r.Status != Success || r.flags&pdu.FlagFinal == 0 {
		t.Fatalf("right response: %+v", r)
	}
	if r, _ = step(m, operational, fullFeature, "HeaderDigest=None"); !r.Done {
		t.Errorf("operational stage: %+v", r)
	}
}

func TestChapMutual(t *testing.T) {
	m, id, challenge := challenged(t, chap)
	r, a := step(m, security, operational, "CHAP_N=host", "CHAP_R="+respond(id, chap.Secret, challenge),
		"CHAP_I=42", "CHAP_C=0x00112233445566778899")
	if r.Status != Success || a["CHAP_N"] != "target" || a["CHAP_R"] != respond(42, chap.MutualSecret, "0x00112233445566778899") {
		t.Errorf("%+v %v", r, a)
	}
}

func TestChapWrong(t *testing.T) {
	oneWay := CHAP{User: chap.User, Secret: chap.Secret}
	cases := map[string]struct {
		chap CHAP
		keys func(id int, challenge string) []string
	}{
		"secret": {chap, func(id int, c string) []string {
			return []string{"CHAP_N=host", "CHAP_R=" + respond(id, "another", c)}
		}},
		"user": {chap, func(id int, c string) []string {
			return []string{"CHAP_N=root", "CHAP_R=" + respond(id, chap.Secret, c)}
		}},
		"empty response": {chap, func(int, string) []string { return []string{"CHAP_N=host", "CHAP_R=0x"} }},
		"no number":      {chap, func(int, string) []string { return []string{"CHAP_N=host", "CHAP_R=zz"} }},
		"our challenge sent back": {chap, func(id int, c string) []string {
			return []string{"CHAP_N=host", "CHAP_R=" + respond(id, chap.Secret, c), "CHAP_I=1", "CHAP_C=" + c}
		}},
		"mutual where there is none": {oneWay, func(id int, c string) []string {
			return []string{"CHAP_N=host", "CHAP_R=" + respond(id, chap.Secret, c), "CHAP_I=1", "CHAP_C=0x0011"}
		}},
		"a second challenge": {chap, func(int, string) []string { return []string{"CHAP_A=5"} }},
	}
	for name, c := range cases {
		m, id, challenge := challenged(t, c.chap)
		if r, a := step(m, security, operational, c.keys(id, challenge)...); r.Status != AuthFailed || len(a) != 0 {
			t.Errorf("%s: %+v %v", name, r, a)
		}
	}
	for name, keys := range map[string][]string{
		"None only":         append(names, "AuthMethod=None"),
		"unknown algorithm": append(names, "AuthMethod=CHAP", "CHAP_A=99"),
		"response first":    append(names, "CHAP_N=host", "CHAP_R=0x00"),
	} {
		if r, _ := step(NewMachine(directory{chap}), security, operational, keys...); r.Status != AuthFailed {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The security stage cannot be left, nor left out, without a proof.
func TestChapCannotBeSkipped(t *testing.T) {
	if r, _ := step(NewMachine(directory{chap}), operational, fullFeature, names...); r.Status != AuthFailed {
		t.Errorf("straight to the operational stage: %+v", r)
	}
	m := NewMachine(directory{chap})
	if r, _ := step(m, security, fullFeature, names...); r.Done || r.flags&pdu.FlagFinal != 0 {
		t.Errorf("transit without a proof: %+v", r)
	}
	if r, _ := step(m, operational, fullFeature); r.Status != AuthFailed {
		t.Errorf("operational stage without a proof: %+v", r)
	}
}

func FuzzStep(f *testing.F) {
	f.Add(byte(0x87), []byte("InitiatorName=a\x00TargetName="+iqn+"\x00HeaderDigest=CRC32C\x00"), []byte("x"))
	f.Add(byte(0x81), []byte("InitiatorName=a\x00TargetName="+iqn+"\x00AuthMethod=CHAP\x00CHAP_A=5\x00"), []byte("CHAP_N=host\x00CHAP_R=0x0\x00"))
	f.Add(byte(0x44), []byte("SessionType=Discovery\x00"), []byte("InitiatorName=0b\x00"))
	f.Fuzz(func(t *testing.T, flags byte, first, second []byte) {
		m := NewMachine(directory{chap})
		var h pdu.Header
		h.SetOpcode(pdu.LoginReq)
		h.SetFlags(flags)
		for _, text := range [][]byte{first, second, first} {
			r := m.Step(&h, text)
			if r.Done && !m.Params().Discovery {
				t.Fatalf("logged in without the secret")
			}
			if _, err := ParseText(r.Text); err != nil {
				t.Fatalf("answer %q: %v", r.Text, err)
			}
			if r.Status != Success {
				return
			}
		}
	})
}
