package login

import (
	"strconv"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// Params are the operational parameters of a session (RFC 7143 §13), lengths
// in bytes.
type Params struct {
	Initiator string // InitiatorName
	Target    string // TargetName; "" in a discovery session
	Discovery bool   // SessionType

	Digests           pdu.Digests
	MaxSend           int // the initiator's MaxRecvDataSegmentLength
	MaxRecv           int // ours
	MaxBurst          int
	FirstBurst        int
	InitialR2T        bool
	ImmediateData     bool
	MaxOutstandingR2T int
}

// Offer is what the target wants; the results never exceed it.
var Offer = Params{
	MaxSend:           256 << 10,
	MaxRecv:           256 << 10,
	MaxBurst:          1 << 20,
	FirstBurst:        64 << 10,
	InitialR2T:        false,
	ImmediateData:     true,
	MaxOutstandingR2T: 8,
}

// defaults holds for keys that nobody names (RFC 7143 §13). The two lengths of
// a burst are not negotiated then: the defaults hold.
var defaults = Params{
	MaxSend:           8192,
	MaxRecv:           256 << 10,
	MaxBurst:          256 << 10,
	FirstBurst:        64 << 10,
	InitialR2T:        true,
	ImmediateData:     true,
	MaxOutstandingR2T: 1,
}

// Reserved answers to a key (RFC 7143 §6.2).
const (
	reject        = "Reject"
	irrelevant    = "Irrelevant"
	notUnderstood = "NotUnderstood"
	none          = "None"
	yes           = "Yes"
	no            = "No"
)

// negotiate takes one operational key of the initiator into p and returns the
// answer; "" where the key is a declaration that has none.
func (p *Params) negotiate(key, value string) string {
	switch key {
	case "HeaderDigest":
		return digest(&p.Digests.Header, value)
	case "DataDigest":
		return digest(&p.Digests.Data, value)
	case "MaxRecvDataSegmentLength":
		n, ok := SegmentLength(value)
		if !ok {
			return reject
		}
		p.MaxSend = n
		return ""
	case "MaxBurstLength":
		return least(&p.MaxBurst, value, 512, 1<<24-1, Offer.MaxBurst)
	case "FirstBurstLength":
		return least(&p.FirstBurst, value, 512, 1<<24-1, Offer.FirstBurst)
	case "MaxOutstandingR2T":
		return least(&p.MaxOutstandingR2T, value, 1, 65535, Offer.MaxOutstandingR2T)
	case "InitialR2T":
		return boolean(value, func(v bool) bool { p.InitialR2T = v || Offer.InitialR2T; return p.InitialR2T })
	case "ImmediateData":
		return boolean(value, func(v bool) bool { p.ImmediateData = v && Offer.ImmediateData; return p.ImmediateData })
	case "MaxConnections":
		return least(nil, value, 1, 65535, 1)
	case "ErrorRecoveryLevel":
		return least(nil, value, 0, 2, 0)
	case "DefaultTime2Wait": // maximum of both; ours is 0: reconnect at once
		return echoNumber(value, 3600)
	case "DefaultTime2Retain": // minimum of both; nothing outlives a connection
		return least(nil, value, 0, 3600, 0)
	case "DataPDUInOrder", "DataSequenceInOrder": // OR; we want order
		return boolean(value, func(bool) bool { return true })
	case "IFMarker", "OFMarker": // obsolete, RFC 7143 §13.25
		return boolean(value, func(bool) bool { return false })
	case "IFMarkInt", "OFMarkInt":
		return irrelevant
	case "TaskReporting":
		return firstOf(value, "RFC3720")
	case "iSCSIProtocolLevel":
		return least(nil, value, 0, 31, 1)
	case "InitiatorAlias", "SessionType", "TargetName", "InitiatorName":
		return "" // declarations, taken in elsewhere
	}
	return notUnderstood
}

// SegmentLength reads the initiator's MaxRecvDataSegmentLength and returns how
// much is sent in one segment.
func SegmentLength(value string) (int, bool) {
	n, ok := number(value, 512, 1<<24-1)
	return min(n, Offer.MaxSend), ok
}

// Known reports whether a key is one of RFC 7143.
func Known(key string) bool {
	var scratch Params
	return scratch.negotiate(key, "") != notUnderstood
}

func digest(on *bool, list string) string {
	choice := firstOf(list, none, "CRC32C")
	*on = choice == "CRC32C"
	return choice
}

// firstOf picks the first item of the initiator's list, its order being its
// preference, that is known.
func firstOf(list string, known ...string) string {
	for item := range strings.SplitSeq(list, ",") {
		for _, k := range known {
			if item == k {
				return k
			}
		}
	}
	return reject
}

// least negotiates a number whose result is the smaller of both sides'. The
// result goes to *to unless that is nil.
func least(to *int, value string, low, high, ours int) string {
	n, ok := number(value, low, high)
	if !ok {
		return reject
	}
	n = min(n, ours)
	if to != nil {
		*to = n
	}
	return strconv.Itoa(n)
}

func echoNumber(value string, high int) string {
	n, ok := number(value, 0, high)
	if !ok {
		return reject
	}
	return strconv.Itoa(n)
}

func boolean(value string, result func(bool) bool) string {
	if value != yes && value != no {
		return reject
	}
	if result(value == yes) {
		return yes
	}
	return no
}

// number parses a decimal or 0x constant (RFC 7143 §6.1) within bounds.
func number(value string, low, high int) (int, bool) {
	base := 10
	if len(value) > 2 && (value[:2] == "0x" || value[:2] == "0X") {
		value, base = value[2:], 16
	}
	n, err := strconv.ParseUint(value, base, 32)
	if err != nil || int(n) < low || int(n) > high {
		return 0, false
	}
	return int(n), true
}
