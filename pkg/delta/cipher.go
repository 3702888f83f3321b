package delta

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// What keys are derived for.
const (
	checkInfo = "csi-swiftblock journal, key check"
	dataInfo  = "csi-swiftblock journal, AES-256-CTR"
)

const checkSize = 16

// derive makes n bytes out of a volume's key for one journal, and for one opening of
// it if open is not 0.
func (id Identity) derive(key *keys.Secret, info string, open ident.Open, n int) []byte {
	salt := make([]byte, 40)
	putID(salt[:16], string(id.Volume))
	le := binary.LittleEndian
	le.PutUint64(salt[16:], id.Epoch.Number)
	le.PutUint64(salt[24:], id.Epoch.Tag)
	le.PutUint64(salt[32:], uint64(open))
	derived, err := hkdf.Key(sha256.New, key[:], salt, info, n)
	if err != nil {
		panic(err) // the lengths are constants
	}
	return derived
}

// keyCheck tells whether a key is the one that a journal was made with.
func (id Identity) keyCheck(key *keys.Secret) (check [checkSize]byte) {
	copy(check[:], id.derive(key, checkInfo, 0, checkSize))
	return check
}

// opens refuses a key that is not the journal's, and the lack of one.
func (a *anchor) opens(key *keys.Secret) error {
	switch {
	case a.encrypted && key == nil:
		return fmt.Errorf("encrypted: %w", ErrNoKey)
	case !a.encrypted && key != nil:
		return fmt.Errorf("not encrypted, though its volume is: %w", ErrForeign)
	case !a.encrypted:
		return nil
	}
	check := a.id.keyCheck(key)
	if subtle.ConstantTimeCompare(check[:], a.check[:]) == 0 {
		return ErrWrongKey
	}
	return nil
}

// pad is what one opening of the journal encrypts the data blocks of its records
// with; nil in a journal that is not encrypted. The counter of AES-CTR is the place
// in the log, of which an opening writes each once: after a write that failed, or
// may have, nothing is written by that opening any more, and another one, which
// writes behind a torn end again, has another key.
type pad struct{ block cipher.Block }

// pad returns that of an opening.
func (j *Journal) pad(open ident.Open) *pad {
	if j.cfg.Key == nil {
		return nil
	}
	block, err := aes.NewCipher(j.id.derive(j.cfg.Key, dataInfo, open, len(j.cfg.Key)))
	if err != nil {
		panic(err) // the length is a constant
	}
	return &pad{block}
}

// xor encrypts p, which belongs at off of a segment, or decrypts it.
func (d *pad) xor(p []byte, segment uint64, off int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[:], segment)
	binary.BigEndian.PutUint64(counter[8:], uint64(off)/aes.BlockSize)
	cipher.NewCTR(d.block, counter[:]).XORKeyStream(p, p)
}

// encrypt encrypts the data of a record that lies at off of a segment, and enters the
// checksums: they are those of the log, and tell nothing of what it says.
func (d *pad) encrypt(h *header, data []byte, segment uint64, off int64) {
	d.xor(data, segment, off)
	for _, e := range h.extents {
		for i := range e.crcs {
			e.crcs[i] = checksum(data[:Block])
			data = data[Block:]
		}
	}
}

// passage is a part of a segment that one opening has written: from a block on, to
// that of the next passage. In a journal that is not encrypted there are none.
type passage struct {
	from    int
	segment uint64
	pad     *pad
}

// wrote notes which opening has written the record at off of the segment that the
// slot holds now.
func (s *slot) wrote(d *pad, segment uint64, off int64) {
	if d == nil {
		return
	}
	if n := len(s.passages); n > 0 && s.passages[n-1].segment == segment {
		if s.passages[n-1].pad == d {
			return
		}
	} else {
		s.passages = nil // of the slot's former life: who still reads has its own
	}
	s.passages = append(s.passages, &passage{int(off / Block), segment, d})
}

// under returns the passage that a block is in.
func (s *slot) under(block int) *passage {
	for i := len(s.passages) - 1; i >= 0; i-- {
		if s.passages[i].from <= block {
			return s.passages[i]
		}
	}
	return nil
}
