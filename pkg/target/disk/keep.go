package disk

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// Keeper keeps the persistent reservations of one volume through a loss of power
// (APTPL, SPC-4).
type Keeper interface {
	// Kept returns what was kept last, nil if nothing ever was.
	Kept() ([]byte, error)
	// Keep replaces it. When it returns nil the new text is on stable storage; at
	// any moment a loss of power leaves the old one or the new one.
	Keep(text []byte) error
}

// ErrReservations is returned for kept reservations that are damaged, or not the
// volume's: a unit without them would let in whom they keep out.
var ErrReservations = errors.New("kept reservations are damaged")

// keptFormat is the version of the kept text: CRC32C of what follows, in hexadecimal
// digits, a line feed, and a kept as JSON.
const keptFormat = 1

type kept struct {
	Format        int          `json:"format"`
	Volume        string       `json:"volume"`
	Type          byte         `json:"type,omitempty"` // of the reservation; 0: there is none
	Registrations []registrant `json:"registrations"`
}

type registrant struct {
	Initiator string `json:"initiator"`
	ISID      string `json:"isid"` // hexadecimal
	Key       uint64 `json:"key,string"`
	Holder    bool   `json:"holder,omitempty"` // never set where all registrants hold
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the text to be kept for a volume; PRGENERATION is not part of it,
// it starts anew with power (SPC-4).
func (p *registrations) encode(volume string) []byte {
	k := kept{Format: keptFormat, Volume: volume, Registrations: []registrant{}}
	if p.durable {
		for _, n := range p.registrants() {
			k.Registrations = append(k.Registrations, registrant{
				Initiator: n.Name,
				ISID:      hex.EncodeToString(n.ISID[:]),
				Key:       p.keys[n],
				Holder:    p.holder != nil && !allRegistrants(p.kind) && *p.holder == n,
			})
		}
		if p.holder != nil {
			k.Type = p.kind
		}
	}
	body, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return append(fmt.Appendf(nil, "%08x\n", crc32.Checksum(body, castagnoli)), body...)
}

// decodeRegistrations reads the text that was kept for a volume.
func decodeRegistrations(volume string, text []byte) (*registrations, error) {
	damaged := func(what string) error { return fmt.Errorf("volume %s: %w: %s", volume, ErrReservations, what) }
	sum, body, _ := bytes.Cut(text, []byte("\n"))
	if string(sum) != fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)) {
		return nil, damaged("checksum")
	}
	var k kept
	if err := json.Unmarshal(body, &k); err != nil {
		return nil, damaged(err.Error())
	}
	switch {
	case k.Format != keptFormat:
		return nil, damaged(fmt.Sprintf("format %d, this release knows %d", k.Format, keptFormat))
	case k.Volume != volume:
		return nil, damaged("of volume " + k.Volume)
	case len(k.Registrations) > maxRegistrations, k.Type != 0 && (!validKind(k.Type) || len(k.Registrations) == 0):
		return nil, damaged("not a state that there can be")
	}
	p := &registrations{durable: len(k.Registrations) > 0, kind: k.Type, keys: map[Nexus]uint64{}}
	for _, r := range k.Registrations {
		n := Nexus{Name: r.Initiator}
		isid, err := hex.DecodeString(r.ISID)
		if err != nil || copy(n.ISID[:], isid) != len(n.ISID) || len(isid) != len(n.ISID) || r.Key == 0 || p.keys[n] != 0 {
			return nil, damaged("registration")
		}
		p.keys[n] = r.Key
		if r.Holder || allRegistrants(k.Type) {
			p.holder = &n
		}
	}
	if (p.holder != nil) != (k.Type != 0) {
		return nil, damaged("a reservation and its holder do not agree")
	}
	return p, nil
}
