package image

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"
	"github.com/lima-vm/go-qcow2reader/log"
)

const (
	formatRaw   = "raw"
	formatQcow2 = "qcow2"
)

// packed are the beginnings of files that hold an image only when unpacked.
var packed = map[string]string{
	"gzip":  "\x1f\x8b",
	"xz":    "\xfd7zXZ\x00",
	"zstd":  "\x28\xb5\x2f\xfd",
	"bzip2": "BZh",
	"zip":   "PK\x03\x04",
}

// detect tells qcow2 from raw and refuses everything that is known to be neither.
func detect(f *os.File) (string, error) {
	head := make([]byte, 16)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(qcow2.Magic)) {
		return formatQcow2, nil
	}
	if err := unpacked(head); err != nil {
		return "", err
	}
	img, err := qcow2reader.Open(onlyReader{f})
	if err != nil {
		return "", err
	}
	if img.Type() != formatRaw {
		return "", fmt.Errorf("%s images are not read: convert it with `qemu-img convert -O qcow2`", img.Type())
	}
	return formatRaw, nil
}

// unpacked refuses what holds an image only when it is unpacked.
func unpacked(head []byte) error {
	for kind, magic := range packed {
		if bytes.HasPrefix(head, []byte(magic)) {
			return fmt.Errorf("it is packed with %s: unpack it first, or give --raw if the disk begins like that", kind)
		}
	}
	return nil
}

// onlyReader hides everything else of a file, above all Close and its name.
type onlyReader struct{ io.ReaderAt }

// qcow2Image is a qcow2 file. The library reads what is allocated; checkQcow2 has
// seen to it that the image is one file, and within the limits.
type qcow2Image struct {
	*qcow2.Qcow2
	file *os.File
}

func openQcow2(f *os.File, fileSize int64) (*qcow2Image, error) {
	if err := checkQcow2(f, fileSize); err != nil {
		return nil, err
	}
	img, err := qcow2.Open(onlyReader{f}, nil)
	if err == nil {
		err = img.Readable()
	}
	if err != nil {
		return nil, err
	}
	return &qcow2Image{img, f}, nil
}

// Close closes the file.
func (q *qcow2Image) Close() error { return q.file.Close() }

// The bits of a qcow2 header's incompatible features that are looked at.
const (
	featureDirty        = 1 << 0
	featureCorrupt      = 1 << 1
	featureExternalData = 1 << 2
)

// maxTable is the longest table of contents that qemu makes or reads, in bytes.
const maxTable = 32 << 20

// checkQcow2 refuses, before anything else is read, what would make the library
// open other files (the image may come from a stranger, and import runs as root),
// allocate without bounds or give data that its author did not mean.
func checkQcow2(f *os.File, fileSize int64) error {
	head := make([]byte, 80) // of version 3, up to the incompatible features
	if n, err := f.ReadAt(head, 0); n < 72 {
		return fmt.Errorf("qcow2 header: cut short (%w)", err)
	}
	be := binary.BigEndian
	version := be.Uint32(head[4:])
	backing := be.Uint64(head[8:])
	clusterBits := be.Uint32(head[20:])
	size := be.Uint64(head[24:])
	encryption := be.Uint32(head[32:])
	l1Entries, l1Offset := int64(be.Uint32(head[36:])), be.Uint64(head[40:])
	var features uint64
	if version >= 3 {
		features = be.Uint64(head[72:])
	}
	switch {
	case version != 2 && version != 3:
		return fmt.Errorf("qcow2 version %d, known are 2 and 3", version)
	case backing != 0:
		return errors.New("it stands on a backing file: make one file of both with `qemu-img convert -O qcow2`")
	case features&featureExternalData != 0:
		return errors.New("its data is in another file: make one file of both with `qemu-img convert -O qcow2`")
	case encryption != 0:
		return errors.New("it is encrypted: decrypt it with `qemu-img convert`")
	case features&(featureDirty|featureCorrupt) != 0:
		return errors.New("it was not closed in good order or is damaged: `qemu-img check -r all` may mend it")
	case clusterBits < 9 || clusterBits > 21:
		return fmt.Errorf("qcow2 clusters of 2^%d bytes", clusterBits)
	case size > maxSize:
		return fmt.Errorf("%d bytes, a volume has at most %d", size, int64(maxSize))
	case l1Entries*8 > maxTable: // its length on disk means nothing: a file has holes
		return fmt.Errorf("its table of contents has %d entries, known are at most %d", l1Entries, maxTable/8)
	case l1Offset > uint64(fileSize) || l1Entries*8 > fileSize-int64(l1Offset):
		return errors.New("it was cut short: its table of contents is missing")
	}
	return nil
}

// spans yields the clusters that are allocated and not zeros. Neighbours of one
// kind come together.
func (q *qcow2Image) spans() iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		for off := int64(0); off < q.Size(); {
			e, err := q.Extent(off, q.Size()-off)
			if err == nil && e.Length <= 0 {
				err = fmt.Errorf("no extent at %d", off)
			}
			if err != nil {
				yield(Span{}, err)
				return
			}
			if e.Allocated && !e.Zero && !yield(Span{e.Start, e.Length}, nil) {
				return
			}
			off = e.Start + e.Length
		}
	}
}

// The library is told once how compressed clusters are unpacked, and to be silent:
// what it warns of, checkQcow2 refuses.
func init() {
	log.SetWarnFunc(nil)
	qcow2.SetDecompressor(qcow2.CompressionTypeZlib, func(r io.Reader) (io.ReadCloser, error) {
		return fullReads{flate.NewReader(r)}, nil
	})
	qcow2.SetDecompressor(qcow2.CompressionTypeZstd, func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxCluster*2))
		if err != nil {
			return nil, err
		}
		return fullReads{d.IOReadCloser()}, nil
	})
}

// maxCluster is the largest cluster that qcow2 knows, in bytes.
const maxCluster = 2 << 20

// fullReads fills every buffer and keeps io.EOF for the next call: the library
// reads once and takes any error for a failure.
type fullReads struct{ io.ReadCloser }

func (r fullReads) Read(p []byte) (int, error) {
	n, err := io.ReadFull(r.ReadCloser, p)
	if n > 0 && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}
