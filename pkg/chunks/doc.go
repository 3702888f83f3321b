// Package chunks names the objects of a volume and codes the two kinds that
// hold its data: full chunks and packs.
//
// # Names
//
//	volume.<n>                                  descriptor n
//	e/<number>  f/<number>                      an epoch was given out; it is fenced
//	c/<chunk>/<epoch>.<gen>.<open>              a full chunk
//	d/<epoch>.<gen>.<n>.<open>                  a pack
//	t/<epoch>.<gen>.<page>.<open>               a page of the version table
//	r/<epoch>.<gen>                             a root
//	s/<snapshot id>  ref/<child id>             a snapshot; a clone elsewhere
//	n/<snapshot id>                             the snapshot is ready; its CSI name
//	volume.deleted                              the volume was deleted some time ago
//
// Numbers are hexadecimal with leading zeros: chunk 6 digits, number and
// generation 8, pack and page 4, epoch tag and opening 16. A name is used once;
// [ParseName] refuses other spellings of the same numbers.
//
// # Chunks and packs
//
// A full chunk holds the 8 MiB of one chunk of the volume. A pack holds changed
// extents of many chunks, DATA and ZERO, sorted by address, with a resolution of
// one sector (512 bytes). Both have one format. All numbers are little-endian;
// uvarint is that of encoding/binary in its shortest form.
//
//	+---------+---------+-----+-----------+--------+---------+
//	| frame 0 | frame 1 | ... | frame n-1 | footer | trailer |
//	+---------+---------+-----+-----------+--------+---------+
//
//	footer:
//	  uvarint, bytes   length and text of the full name, "container/name"
//	  uint8            cipher: 0 none, 1 AES-256-GCM
//	  cipher 1 only:   uint32 key id, not 0; 16 bytes random object id; 16 bytes
//	                   key check; the rest of the footer is sealed
//	  uvarint          number of frames
//	  per frame:
//	    uvarint        chunk, minus the chunk of the frame before
//	    uvarint        sectors between the end of the frame before, or the start
//	                   of the chunk, and this frame
//	    uvarint        (sectors - 1) * 4 + code; code 0 ZERO, 1 stored, 2 zstd
//	    uvarint        bytes in the object, for zstd only: fewer than raw
//	    uint32 ...     CRC32C of each 4 KiB of raw data, the last may be shorter;
//	                   not for ZERO
//
//	trailer, 20 bytes:
//	  "swblkobj"       magic
//	  uint8            version, 1
//	  uint8            kind, 'c' or 'd'
//	  uint16           0
//	  uint32           length of the footer
//	  uint32           CRC32C of the footer and of the trailer up to here
//
// A frame is at most 64 KiB of one chunk and crosses no multiple of 64 KiB in
// it, so frames never cross the 512 KiB slots that are read and cached. Frames
// are sorted, disjoint, and stored one after the other without gaps from the
// start of the object. Those of a full chunk cover it whole, zeros included;
// what a pack does not mention is as older objects say. Blocks of zeros take no
// room: a frame of zeros is ZERO, and a chunk of zeros has no object at all.
//
// The checksums are of the raw data: they find damage in the object and in what
// decompressed it alike. The full name under the footer's checksum is what keeps
// one intact object from standing in for another.
//
// # Encryption
//
// With cipher 1 every frame that is not ZERO is sealed after compression, which
// makes its stored form 16 bytes longer than the footer says; so is the rest of
// the footer after the key check, since sizes and checksums tell about data. Key
// and key check are the 48 bytes of HKDF-SHA256(the volume's key, salt: object
// id, info: "csi-swiftblock object, AES-256-GCM"). The nonce is the number of the
// frame, 2^32-1 for the footer, as uint32 with eight zero bytes behind; the full
// name is additional data. A key is used for one object and a nonce once in it.
//
// The checksum of the footer tells damage from a wrong key: [ErrNoKey] and
// [ErrWrongKey] are for objects whose footer is what somebody wrote under this
// name. Who changes an object on purpose and mends the checksum meets the seal,
// which is [ErrDamaged], except where he changes key id, object id or key check:
// that looks like a key error, and yields no data either.
package chunks
