package image

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const clusterSize = 64 << 10

// qcow2File draws a qcow2 file of version 3 by hand, cluster by cluster: header,
// L1 table, one L2 table (512 MiB of the image), data.
type qcow2File struct {
	size       int64
	data       map[int64][]byte // by number of the cluster in the image
	compressed map[int64]bool
	zero       map[int64]bool // clusters of the kind "reads as zeros", with old data behind it
}

func (q qcow2File) bytes(t testing.TB) []byte {
	t.Helper()
	const l1At, l2At, dataAt = 1 * clusterSize, 2 * clusterSize, 3 * clusterSize
	be := binary.BigEndian
	file := make([]byte, dataAt)
	copy(file, "QFI\xfb")
	be.PutUint32(file[4:], 3)
	be.PutUint32(file[20:], 16) // cluster bits
	be.PutUint64(file[24:], uint64(q.size))
	be.PutUint32(file[36:], 1) // entries of L1
	be.PutUint64(file[40:], l1At)
	be.PutUint32(file[96:], 4)    // refcount order
	be.PutUint32(file[100:], 104) // header length
	be.PutUint64(file[l1At:], l2At|1<<63)
	for n := range q.size/clusterSize + 1 {
		body, ok := q.data[n]
		if !ok {
			continue
		}
		at := uint64(len(file))
		entry := at | 1<<63
		switch {
		case q.compressed[n]:
			var packed bytes.Buffer
			w, err := flate.NewWriter(&packed, flate.BestCompression)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(body)
			w.Close()
			sectors := uint64((packed.Len()+511)/512 - 1)
			entry = at | sectors<<(62-(16-8)) | 1<<62
			body = packed.Bytes()
		case q.zero[n]:
			entry |= 1
		}
		be.PutUint64(file[l2At+8*n:], entry)
		file = append(file, body...)
		file = append(file, make([]byte, -len(file)&(clusterSize-1))...)
	}
	return file
}

// image is what the file means.
func (q qcow2File) image() []byte {
	img := make([]byte, q.size)
	for n, body := range q.data {
		if !q.zero[n] {
			copy(img[n*clusterSize:], body)
		}
	}
	return img
}

// sample has every kind of cluster, and its last one is short.
func sample() qcow2File {
	return qcow2File{
		size: 20<<20 + 512,
		data: map[int64][]byte{
			0:   noise(1, clusterSize),
			1:   noise(2, clusterSize),
			5:   bytes.Repeat([]byte("compressible "), clusterSize/13+1)[:clusterSize],
			127: noise(3, clusterSize), // the last of the first chunk
			200: noise(4, clusterSize),
			320: noise(5, clusterSize), // the 512 bytes at the end
		},
		compressed: map[int64]bool{5: true},
		zero:       map[int64]bool{200: true},
	}
}

func write(t testing.TB, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// FuzzOpen: whatever a stranger's image is, it is refused, or its spans are in order
// and within it, and reading one ends.
func FuzzOpen(f *testing.F) {
	f.Add(qcow2File{
		size: 1 << 20, data: map[int64][]byte{0: noise(1, clusterSize), 9: make([]byte, clusterSize)},
		compressed: map[int64]bool{9: true},
	}.bytes(f))
	f.Add(noise(2, 4096))
	f.Add([]byte("KDMV\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		img, err := Open(write(t, body))
		if err != nil {
			if !errors.Is(err, ErrImage) {
				t.Errorf("refused as %v", err)
			}
			return
		}
		defer img.Close()
		end, n := int64(0), 0
		for s, err := range img.Spans() {
			if n++; err != nil || n > 100 {
				return
			}
			if s.Len <= 0 || s.Off < end || s.Len > img.Size-s.Off {
				t.Fatalf("span %+v after %d of an image of %d bytes", s, end, img.Size)
			}
			end = s.Off + s.Len
			if err := img.ReadFull(make([]byte, min(s.Len, clusterSize)), s.Off); err != nil && !errors.Is(err, ErrImage) {
				t.Errorf("read as %v", err)
			}
		}
	})
}
