// Package delta is the journal of one volume on the node's own disk: an ordered
// log of everything written in one epoch, and the map that finds each block in
// it. What the log acknowledged survives the death of the process (P1); what it
// flushed survives the death of the node; after either the volume is a prefix
// of the acknowledged writes (P2).
//
// # A write's way
//
//	Write ─ gate ─ queue ─ committer ─ record ─ map ─ acknowledged ─ syncer ─ flushed
//	        admits         one at a time,       visible              one fdatasync
//	        by fill        one write call                            for all waiters
//
// The committer alone writes the log; writers are it in turn. It puts all waiting requests
// into one record, writes it with one call, makes it visible to reads and only then
// acknowledges: so the order of the log, of visibility and of acknowledgements
// is the same, and recovery finds what the running journal showed. A flush
// waits for the syncer, which syncs at most the two newest segments.
//
// # Files
//
//	<Dir>/lock             flocked while the journal is open
//	<Dir>/anchor           where the log begins; its existence makes a journal
//	<Dir>/segment.<slot>   the log, 5 hexadecimal digits, all of one size
//	<Dir>/root.<gen>       a root that is about to be PUT (R2), 16 hexadecimal digits
//	<Dir>/stopped          what was acknowledged when the journal failed
//	<RunDir>/<volume>.<epoch>  the same, always, as a mapped page
//
// All numbers are little endian; all checksums are CRC32C; all positions are
// multiples of a block of 4096 bytes.
//
// # The log
//
// Segments are numbered from 0 and used like a ring: segment n lies in slot n
// modulo the number of slots. The log goes from the first record that a
// generation not yet published needs (the tail, rounded down to a segment) to
// the last record (in the head). Records lie back to back and never cross a
// segment's end; after less than two blocks of room the next segment follows.
//
//	slot 0     slot 1     slot 2     slot 3
//	┌────────┐ ┌────────┐ ┌────────┐ ┌────────┐
//	│ 4 head→│ │ free   │ │ 2 tail │ │ 3      │     segments 2, 3, 4
//	└────────┘ └────────┘ └────────┘ └────────┘
//
// A record is a header of one block and the blocks of its data:
//
//	   0  8  "SBlogrec"
//	   8  2  version, 1; 2 in an encrypted journal
//	  10  1  kind: 1 data, 2 open, 3 state, 4 seal, 5 mark
//	  11  1  flags: 1 clean (seal)
//	  12  4  checksum of the previous record's header
//	  16 16  volume
//	  32  8  epoch number
//	  40  8  epoch tag
//	  48  8  opening tag
//	  56  8  generation
//	  64  8  sequence number, from 1
//	  72  8  highest sequence number known to be durable
//	  80  8  segment number
//	  88  8  volume size in bytes      ┐ the state after
//	  96  1  formatted mark            ┘ this record
//	  97  1  0
//	  98  2  number of descriptors
//	 100  4  number of data blocks
//	 104 16  snapshot (seal), else 0
//	 120  8  time of the cut (seal), Unix nanoseconds
//	 128 16× descriptor: first sector (8, bit 63: zeros), sectors (8)
//	     4×  checksum of each data block, in order
//	4092  4  checksum of bytes 0..4091
//
// A data descriptor has one block in the log for each block of the volume that
// it touches, in the same alignment; sectors that it does not cover are zeros
// and are covered by the block's checksum. A zero descriptor has none. The
// header's checksum covers those of the data, and the next header repeats it:
// the chain proves every byte of the log.
//
// # The anchor
//
// Two copies of one block, at 0 and 4096, written in turn and synced:
//
//	   0  8  "SBanchor"
//	   8  2  version, 1; 2 of an encrypted journal
//	  16 16  volume
//	  32  8  epoch number
//	  40  8  epoch tag
//	  48  8  counter of writes; the whole copy with the higher one counts
//	  56  8  segment size in bytes
//	  64  8  number of slots
//	  72  8  newest published generation, 0 for none
//	  80  8  tail: segment number
//	  88  8  tail: sequence number of its first record
//	  96  4  tail: previous checksum in that record
//	 100 16  key check, in version 2
//	4092  4  checksum of bytes 0..4091
//
// An anchor of another version is that of another format: the journal is left as
// it is. It names a new tail only when that segment's first record is durable, and is
// durable itself before a segment in front of the tail is used again.
//
// # Encryption
//
// In the journal of an encrypted volume the data blocks of records are encrypted with
// AES-256-CTR, and headers, anchor and saved roots are not: they tell which blocks
// were written when, as the objects in Swift do. Both keys come out of HKDF-SHA-256
// of the volume's key, with what they are for as info:
//
//	salt         volume (16), epoch number (8), epoch tag (8), opening tag (8), as in records
//	counter      segment number (8), byte offset in the segment / 16 (8), big endian
//	key check    the same salt with 0 for the opening
//
// Checksums are those of the encrypted blocks. So an opening never encrypts two things
// with the same counter, and no two openings have the same key: what lies behind a
// torn end, in a recycled segment, or was there before it was written over, tells
// nothing about what replaced it (B8). The key check tells a wrong key from damage.
// Nothing tells what somebody has made of the blocks who can write to the disk and
// compute a checksum, no more than without encryption.
//
// # Recovery (R3)
//
// Recovery syncs all segments, reads past the page cache, and follows the chain
// from the anchor. A record counts if it is whole and is the successor of the
// one before: segment, sequence, previous checksum, generation and opening tag
// must fit (an OPEN record begins a new tag), which tells stale content of a
// recycled segment or of a torn end apart. The log ends at the first record that
// does not count. If a later record says that this one was durable, or the
// witness of this boot that it was acknowledged, the journal is damaged: it is
// refused, and kept. Otherwise an OPEN record is written behind the end and
// synced before the journal serves, so no remainder can ever be taken for its
// continuation.
//
// A write that needs more than one record (1 MiB, or the end of a segment) is
// one in the order of the log, but the power may fail between its records.
//
// # Saved roots
//
//	 0  8  "SBroot01"
//	 8 16  volume
//	24  8  epoch number
//	32  8  epoch tag
//	40  8  generation
//	48  8  length of the object
//	56  4  checksum of the object
//	60  4  checksum of bytes 0..59
//	64     the object
package delta
