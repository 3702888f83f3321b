package authority

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The formats of records that this release writes and reads.
const (
	recordFormat    = 1
	encryptedFormat = 2 // of a volume with keys
)

// FormatOf returns the format of a record. A release that knows nothing of keys does
// not know the format of a record that has some.
func FormatOf(record any) int {
	if v, ok := record.(Volume); ok && v.Keys != nil {
		return encryptedFormat
	}
	return recordFormat
}

// CheckFormat refuses a record of another format than it says, as it was decoded or,
// with nil, before that.
func CheckFormat(format int, record any) error {
	switch {
	case format != recordFormat && format != encryptedFormat:
		return fmt.Errorf("%w: format %d, this release reads %d and %d", ErrDamaged, format, recordFormat, encryptedFormat)
	case record != nil && format != FormatOf(record):
		return fmt.Errorf("%w: format %d, and what it holds is of format %d", ErrDamaged, format, FormatOf(record))
	}
	return nil
}

// envelope is a record as it is stored, on one line:
//
//	{"format":1,"table":"volumes","key":"…","version":"…","sum":"…","record":{…}}
//
// sum is the SHA-256 of table, key, version and the bytes of record, so that a
// damaged record, or a copy of another one, is not taken for this one. A field
// that this release does not know is an unknown format: an update would drop it.
type envelope struct {
	Format  int             `json:"format"`
	Table   string          `json:"table"`
	Key     string          `json:"key"`
	Version Version         `json:"version"`
	Sum     Hash            `json:"sum"`
	Record  json.RawMessage `json:"record"`
}

func (e *envelope) sum() Hash {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n%s\n%s\n", e.Format, e.Table, e.Key, e.Version)
	h.Write(e.Record)
	return Hash(h.Sum(nil))
}

// newVersion draws a version: at random, so that a record deleted and created
// anew never meets an old one.
func newVersion() Version { return Version(fmt.Sprintf("%016x", ident.Random64())) }

func encodeRecord[T any](table, key string, version Version, v T) ([]byte, error) {
	record, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	e := envelope{Format: FormatOf(v), Table: table, Key: key, Version: version, Record: record}
	e.Sum = e.sum()
	data, err := json.Marshal(&e)
	return append(data, '\n'), err
}

func decodeRecord[T any](table, key string, data []byte, v *T) (Version, error) {
	var e envelope
	if err := UnmarshalStrict(data, &e); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := CheckFormat(e.Format, nil); err != nil {
		return "", err
	}
	switch {
	case e.Table != table || e.Key != key:
		return "", fmt.Errorf("%w: it is that of %.20s/%.200s", ErrDamaged, e.Table, e.Key)
	case e.Sum != e.sum():
		return "", fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	if err := UnmarshalStrict(e.Record, v); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return e.Version, CheckFormat(e.Format, *v)
}

// UnmarshalStrict is [json.Unmarshal] that refuses unknown fields and trailing bytes.
func UnmarshalStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(data[d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes after the record", len(rest))
	}
	return nil
}
