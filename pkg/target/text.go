package target

import (
	"bytes"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// textExchange is a text negotiation in progress (RFC 7143 §11.10): text that
// has come in so far, and the answer that did not fit into one PDU.
type textExchange struct {
	request  []byte
	response []byte
	tag      uint32 // asks for the rest of the response
}

// textRequest takes a text request.
func (s *session) textRequest(h *pdu.Header) error {
	if h.DataLen() > login.MaxText {
		return s.skipAndReject(h, rejectProtocol)
	}
	data := make([]byte, h.DataLen())
	if err := s.in.Data(data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.text
	more := len(x.response) > 0 && h.TransferTag() == x.tag
	if !more {
		x.response = nil
		if x.request = append(x.request, data...); len(x.request) > login.MaxText {
			return breach(h, "text too long")
		}
		if h.Flags()&pdu.FlagContinue != 0 {
			s.text.tag = s.transferTag()
			p := s.post(pdu.TextResponse, h.TaskTag(), hasStatus)
			p.Header.SetFlags(0)
			p.Header.SetTransferTag(x.tag)
			s.respond()
			return nil
		}
		pairs, err := login.ParseText(x.request)
		x.request = nil
		if err != nil {
			return breach(h, "malformed text")
		}
		x.response = s.answerText(pairs)
	}
	p := s.post(pdu.TextResponse, h.TaskTag(), hasStatus)
	n := min(len(x.response), s.params.MaxSend)
	p.Data = bytes.Clone(x.response[:n]) // what waits does not keep all of it
	s.out.keep(p, n)
	x.response = x.response[n:]
	p.Header.SetTransferTag(pdu.NoTag)
	if len(x.response) > 0 {
		x.tag = s.transferTag()
		p.Header.SetFlags(pdu.FlagContinue)
		p.Header.SetTransferTag(x.tag)
	}
	s.respond()
	return nil
}

// answerText answers the keys that may come in full feature phase. The session
// is locked.
func (s *session) answerText(pairs []login.Pair) []byte {
	var out []login.Pair
	listed := false // once: the list is long, the question short
	for _, p := range pairs {
		switch p.Key {
		case "SendTargets":
			if !listed {
				out = append(out, s.sendTargets(p.Value)...)
			}
			listed = true
		case "MaxRecvDataSegmentLength":
			if n, ok := login.SegmentLength(p.Value); ok {
				s.params.MaxSend = n
			} else {
				out = append(out, login.Pair{Key: p.Key, Value: "Reject"})
			}
		default:
			value := "NotUnderstood"
			if login.Known(p.Key) {
				value = "Reject" // may not change any more
			}
			out = append(out, login.Pair{Key: p.Key, Value: value})
		}
	}
	return login.AppendText(nil, out...)
}

// sendTargets lists the targets that this initiator may log in to (RFC 7143
// appendix C): all of them in a discovery session only.
func (s *session) sendTargets(which string) []login.Pair {
	address := s.conn.LocalAddr().String() + "," + login.PortalGroup
	var out []login.Pair
	for _, n := range s.server.list() {
		own := s.node != nil && n == s.node
		switch {
		case which == "All" && s.node != nil, which == "" && !own,
			which != "" && which != "All" && !strings.EqualFold(which, n.iqn):
			continue
		}
		if own || n.admits(s.nexus.Name) {
			out = append(out, login.Pair{Key: "TargetName", Value: n.iqn}, login.Pair{Key: "TargetAddress", Value: address})
		}
	}
	return out
}
